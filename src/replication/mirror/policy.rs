//! Policy of a link with a remote: which refs are mirrored, under which names, and how the target's refs may change. No
//! I/O.

use gix::bstr::{BStr, BString, ByteSlice};
use sha2::{Digest as _, Sha256};

use gitferry_config::{Deletions, Divergence, LfsMode, LinkConfig};
use gitferry_engine::region::push::Missing;
use gitferry_git::local::RefPatterns;
use gitferry_git::own_refs::{DIVERGED_PREFIX, OWN_PREFIX};
use gitferry_git::refname::check_ref_name;
use gitferry_git::refs::RefName;
use gitferry_git::refspec::Refspecs;

/// Hex digits of the object id in the name of a diverged tip.
const DIVERGED_DIGITS: usize = 12;
/// Prefixes of refs that servers write themselves. Skipped unless a pattern names them.
const LEFT_OUT: [&str; 3] = ["refs/pull/", "refs/merge-requests/", "refs/keep-around/"];

/// Reason for skipping refs such as `refs/stash`.
const DIRECTLY_BELOW_REFS: &str = "Git servers refuse refs directly below refs/; `rename` can give it another name";

/// Refs that a link mirrors, their names at the target, and the changes that the target's refs may undergo.
#[derive(Clone, Debug)]
pub struct RefPolicy {
    patterns: RefPatterns,
    /// Prefixes of [`LEFT_OUT`] that no pattern names.
    left_out: Vec<&'static str>,
    refspecs: Refspecs,
    /// Handling of refs at the target that the source does not have.
    pub deletions: Deletions,
    /// Handling of refs that other clients have moved at the target.
    pub divergence: Divergence,
    fingerprint: String,
}

/// All refs except those that servers write themselves; diverged tips are preserved.
impl Default for RefPolicy {
    fn default() -> Self {
        let deletions = Deletions::default();
        let divergence = Divergence::default();
        RefPolicy {
            patterns: RefPatterns::all(),
            left_out: LEFT_OUT.to_vec(),
            refspecs: Refspecs::default(),
            deletions,
            divergence,
            fingerprint: fingerprint(&[], &[], deletions, divergence),
        }
    }
}

impl RefPolicy {
    /// Policy from a link's configuration.
    ///
    /// # Errors
    /// Names the setting that is invalid, and the reason.
    pub fn of(link: &LinkConfig) -> Result<Self, String> {
        let patterns = link.refs.as_deref().unwrap_or_default();
        let renames = link.rename.as_deref().unwrap_or_default();
        let deletions = link.deletions.unwrap_or_default();
        let divergence = link.divergence.unwrap_or_default();
        let mut policy = RefPolicy::new(patterns, renames, deletions, divergence)?;
        // A pass without LFS objects is not complete for a policy with them, so the fingerprints differ.
        policy.fingerprint += match (link.lfs.unwrap_or_default(), link.lfs_missing.unwrap_or_default()) {
            (LfsMode::Ignore, _) => "",
            (LfsMode::Copy, Missing::Refuse) => "+lfs",
            (LfsMode::Copy, Missing::Allow) => "+lfs-allow",
        };
        Ok(policy)
    }

    /// Policy from its parts.
    ///
    /// # Errors
    /// Names the setting that is invalid, and the reason.
    pub fn new(
        patterns: &[String],
        renames: &[String],
        deletions: Deletions,
        divergence: Divergence,
    ) -> Result<Self, String> {
        let named = |prefix: &str| patterns.iter().any(|pattern| pattern.starts_with(prefix));
        let left_out = LEFT_OUT.into_iter().filter(|prefix| !named(prefix)).collect();
        let fingerprint = fingerprint(patterns, renames, deletions, divergence);
        let patterns = RefPatterns::new(patterns).map_err(|error| format!("refs: {error}"))?;
        let refspecs = Refspecs::new(renames).map_err(|reason| format!("rename: {reason}"))?;
        Ok(RefPolicy { patterns, left_out, refspecs, deletions, divergence, fingerprint })
    }

    /// Hash of the policy. Policies with equal fingerprints decide alike.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Prefixes of the refs to list at the source, and `HEAD`.
    pub fn prefixes(&self) -> Vec<BString> {
        let refs = self.patterns.prefixes();
        std::iter::once("HEAD".into()).chain(if refs.is_empty() { vec!["refs/".into()] } else { refs }).collect()
    }

    /// Name of a source's ref at the target; `None` where the policy does not mirror the ref.
    ///
    /// # Errors
    /// The name at the target is not a valid or writable ref name; the text has the name and the reason.
    pub fn target_of(&self, source: &BStr) -> Option<Result<BString, String>> {
        if !self.carries(source) {
            return None;
        }
        let Some(name) = self.refspecs.target_of(source) else {
            return Some(if is_directly_below_refs(source) {
                Err(DIRECTLY_BELOW_REFS.into())
            } else {
                Ok(source.to_owned())
            });
        };
        if is_directly_below_refs(name.as_bstr()) {
            return Some(Err(format!("its name at the target would be {name}: {DIRECTLY_BELOW_REFS}")));
        }
        if name.starts_with(OWN_PREFIX.as_bytes()) {
            return Some(Err(format!("its name at the target would be {name}, which is gitferry's own")));
        }
        match check_ref_name(name.as_bstr()) {
            Ok(()) => Some(Ok(name)),
            Err(error) => Some(Err(format!("its name at the target: {error}"))),
        }
    }

    /// Returns true if the link writes this ref of the target: some ref of a source would have this name.
    pub fn owns(&self, target: &BStr) -> bool {
        let mut candidates = std::iter::once(target.to_owned()).chain(self.refspecs.sources_of(target));
        candidates.any(|source| {
            check_ref_name(source.as_bstr()).is_ok()
                && matches!(self.target_of(source.as_bstr()), Some(Ok(name)) if name == *target)
        })
    }

    /// Returns true if the policy mirrors this ref of the source.
    pub fn carries(&self, source: &BStr) -> bool {
        !source.starts_with(OWN_PREFIX.as_bytes())
            && !self.left_out.iter().any(|prefix| source.starts_with(prefix.as_bytes()))
            && self.patterns.matches(source)
    }
}

/// Returns true for names that receive-pack refuses as `funny refname`.
fn is_directly_below_refs(name: &BStr) -> bool {
    name.strip_prefix(b"refs/").is_some_and(|rest| !rest.contains(&b'/'))
}

/// Name under which a diverged tip is kept, the same in every pass; `None` where it would not be valid.
pub fn diverged_name(name: &BStr, id: &gix::oid) -> Option<RefName> {
    let name = name.strip_prefix(b"refs/").unwrap_or(name);
    let id = id.to_hex_with_len(DIVERGED_DIGITS).to_string();
    let kept = [DIVERGED_PREFIX.as_bytes(), name, b"/", id.as_bytes()].concat();
    RefName::new(kept).ok()
}

fn fingerprint(patterns: &[String], renames: &[String], deletions: Deletions, divergence: Divergence) -> String {
    let mut hasher = Sha256::new();
    for part in patterns.iter().chain([&String::new()]).chain(renames) {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hasher.update(format!("{deletions:?} {divergence:?}"));
    hex::encode(&hasher.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(patterns: &[&str], renames: &[&str]) -> Result<RefPolicy, String> {
        let texts = |all: &[&str]| -> Vec<String> { all.iter().map(|text| (*text).to_owned()).collect() };
        RefPolicy::new(&texts(patterns), &texts(renames), Deletions::Mirror, Divergence::Preserve)
    }

    fn target(policy: &RefPolicy, name: &str) -> Option<String> {
        policy.target_of(name.into()).map(|name| name.unwrap().to_string())
    }

    #[test]
    fn refs_directly_below_refs_are_left_out_by_name() {
        let (all, renamed) = (RefPolicy::default(), policy(&[], &["refs/stash:refs/heads/stash"]).unwrap());
        for name in ["refs/stash", "refs/x"] {
            let reason = all.target_of(name.into()).unwrap().unwrap_err();
            assert!(reason.contains("directly below refs/"), "{reason}");
            assert!(!all.owns(name.into()), "it stays where it is at the target");
        }
        assert_eq!(target(&renamed, "refs/stash").as_deref(), Some("refs/heads/stash"));
        let into = policy(&[], &["refs/heads/*:refs/*"]).unwrap();
        assert!(into.target_of("refs/heads/a".into()).unwrap().is_err());
        assert_eq!(target(&into, "refs/heads/a/b").as_deref(), Some("refs/a/b"));
    }

    #[test]
    fn what_servers_keep_for_themselves_is_left_out_unless_it_is_named() {
        let all = RefPolicy::default();
        assert_eq!(all.fingerprint(), policy(&[], &[]).unwrap().fingerprint());
        for name in ["refs/heads/a", "refs/tags/v1", "refs/notes/commits", "refs/pulls/1"] {
            assert_eq!(target(&all, name).as_deref(), Some(name));
            assert!(all.owns(name.into()));
        }
        for name in ["refs/pull/1/head", "refs/merge-requests/1/head", "refs/keep-around/1", "refs/gitferry/diverged/x"]
        {
            assert_eq!(target(&all, name), None, "{name}");
            assert!(!all.owns(name.into()));
        }
        let pulls = policy(&["refs/pull/*", "refs/heads/*", "refs/gitferry/*"], &[]).unwrap();
        assert!(pulls.owns("refs/pull/1/head".into()) && !pulls.owns("refs/keep-around/1".into()));
        assert!(!pulls.owns("refs/gitferry/x".into()) && !pulls.owns("refs/tags/v1".into()));
    }

    #[test]
    fn the_first_rename_that_fits_counts() {
        let all = policy(
            &[],
            &["refs/heads/master:refs/heads/main", "refs/heads/*:refs/mirror/heads/*", "refs/tags/v*-rc:refs/rc/*"],
        )
        .unwrap();
        for (source, name) in [
            ("refs/heads/master", "refs/heads/main"),
            ("refs/heads/a/b", "refs/mirror/heads/a/b"),
            ("refs/tags/v1-rc", "refs/rc/1"),
            ("refs/tags/v1", "refs/tags/v1"),
            ("refs/tags/v-rc", "refs/tags/v-rc"),
        ] {
            assert_eq!(target(&all, source).as_deref(), Some(name));
            assert!(all.owns(name.into()), "{name}");
        }
        // Nothing of the source gets these names.
        for name in ["refs/heads/a", "refs/heads/master", "refs/tags/v1-rc"] {
            assert!(!all.owns(name.into()), "{name}");
        }
    }

    #[test]
    fn settings_that_make_no_sense() {
        for (patterns, renames, word) in [
            (&["heads/*"][..], &[][..], "refs: "),
            (&[], &["refs/heads/*"], "SOURCE:TARGET"),
            (&[], &["refs/heads/*:refs/x"], "*"),
            (&[], &["refs/heads/*:heads/*"], "refs/"),
            (&[], &["refs/heads/**:refs/x/*"], "rename"),
            (&[], &["refs/heads/*:refs/gitferry/*"], "gitferry's own"),
            (&[], &["refs/a/*:refs/x/*", "refs/a/*:refs/y/*"], "same source"),
            (&[], &["refs/a/*:refs/x/*", "refs/b/*:refs/x/*"], "same target"),
        ] {
            let error = policy(patterns, renames).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_name_that_no_ref_can_have_is_told() {
        let long = policy(&[], &[&format!("refs/heads/*:refs/{}/*", "x".repeat(800))]).unwrap();
        let name = format!("refs/heads/{}", "y".repeat(300));
        assert!(long.target_of(BStr::new(&name)).unwrap().unwrap_err().contains("more than 1024"));
        let own = policy(&[], &["refs/x/*:refs/gi*"]).unwrap();
        assert!(own.target_of("refs/x/tferry/a".into()).unwrap().unwrap_err().contains("gitferry's own"));
    }

    #[test]
    fn kept_tips_are_named_after_ref_and_id() {
        let id = gix::ObjectId::from_bytes_or_panic(&[0xab; 20]);
        let name = diverged_name("refs/heads/a/b".into(), &id).unwrap();
        assert_eq!(name.as_bstr(), "refs/gitferry/diverged/heads/a/b/abababababab");
    }

    proptest! {
        #[test]
        fn what_a_source_is_called_is_owned(
            name in "refs/(heads|tags|x|pull)/[ab/]{0,4}[ab]",
            renames in proptest::collection::vec("refs/(heads|x)/[ab]{0,1}\\*:refs/(m|heads|tags)/[ab]{0,1}\\*b?", 0..3),
        ) {
            let renames: Vec<&str> = renames.iter().map(String::as_str).collect();
            if let (Ok(policy), Ok(())) = (policy(&[], &renames), check_ref_name(BStr::new(&name))) {
                match policy.target_of(BStr::new(&name)) {
                    Some(Ok(target)) => prop_assert!(policy.owns(target.as_bstr())),
                    // A star can stand for what makes no name on the other side.
                    Some(Err(_)) => {}
                    None => prop_assert!(name.starts_with("refs/pull/")),
                }
            }
        }
    }
}
