//! Refspecs of a link: `SOURCE:TARGET`, with one `*` on both sides or none. `gix-refspec` parses and matches them as
//! Git does; the checks here refuse what Git permits and a link cannot keep: one-sided, negative and forced refspecs,
//! abbreviated names, and two refs with one name.

use gix::ObjectId;
use gix::bstr::{BStr, BString};
use gix::refspec::match_group::{Item, SourceRef};
use gix::refspec::parse::Operation;
use gix::refspec::{MatchGroup, RefSpec, RefSpecRef};

use super::own_refs::OWN_PREFIX;
use super::refname::{MAX_REF_NAME_BYTES, check_ref_name};

/// Ordered list of refspecs. The first refspec whose source matches a ref applies.
#[derive(Clone, Debug, Default)]
pub struct Refspecs(Vec<RefSpec>);

impl Refspecs {
    /// Parses refspecs.
    ///
    /// # Errors
    /// The first invalid refspec and the reason.
    pub fn new(texts: &[String]) -> Result<Self, String> {
        let mut refspecs: Vec<RefSpec> = Vec::with_capacity(texts.len());
        for text in texts {
            let refspec = parse(text).map_err(|reason| format!("`{text}`: {reason}"))?;
            let others = || refspecs.iter().map(RefSpec::to_ref);
            if others().any(|other| other.source() == refspec.source()) {
                return Err(format!("`{text}`: another refspec has the same source"));
            }
            if others().any(|other| other.destination() == refspec.destination()) {
                return Err(format!("`{text}`: another refspec has the same target; two refs would become one"));
            }
            refspecs.push(refspec.into());
        }
        Ok(Refspecs(refspecs))
    }

    /// Target name of a ref; `None` if no refspec matches. The result may be an invalid ref name.
    ///
    /// A `*` stands for no characters as well, unless that gives an invalid name: `git fetch` ignores such a ref.
    pub fn target_of(&self, source: &BStr) -> Option<BString> {
        let id = no_object();
        let matched = self.group().match_lhs(std::iter::once(named(source, &id)));
        // The mappings have the order of the refspecs.
        matched.mappings.into_iter().find_map(|mapping| {
            let target = mapping.rhs?;
            let refspec = self.0[mapping.spec_index].to_ref();
            let star_is_empty = refspec.source().is_some_and(|pattern| source.len() < pattern.len());
            (!star_is_empty || check_ref_name(&target).is_ok()).then(|| target.into_owned())
        })
    }

    /// Candidates for the source name of a target ref, one per matching refspec.
    pub fn sources_of(&self, target: &BStr) -> Vec<BString> {
        let id = no_object();
        let matched = self.group().match_rhs(std::iter::once(named(target, &id)));
        let sources = matched.mappings.into_iter().map(|mapping| match mapping.lhs {
            SourceRef::FullName(name) => name.into_owned(),
            SourceRef::ObjectId(id) => unreachable!("a source is a name below refs/, not the object {id}"),
        });
        sources.collect()
    }

    fn group(&self) -> MatchGroup<'_> {
        MatchGroup::from_fetch_specs(self.0.iter().map(RefSpec::to_ref))
    }
}

/// Object of a ref that is matched by its name alone.
fn no_object() -> ObjectId {
    ObjectId::null(gix::hash::Kind::Sha1)
}

fn named<'a>(name: &'a BStr, id: &'a ObjectId) -> Item<'a> {
    Item { full_ref_name: name, target: id, object: None }
}

fn parse(text: &str) -> Result<RefSpecRef<'_>, String> {
    let (source, target) = text.split_once(':').ok_or("it is not of the form SOURCE:TARGET")?;
    check_side(source)?;
    check_side(target)?;
    if source.contains('*') != target.contains('*') {
        return Err("a * on one side needs a * on the other".into());
    }
    if target.starts_with(OWN_PREFIX) {
        return Err("refs/gitferry/ is gitferry's own namespace".into());
    }
    gix::refspec::parse(BStr::new(text), Operation::Fetch).map_err(|error| error.to_string())
}

fn check_side(text: &str) -> Result<(), String> {
    if text.len() > MAX_REF_NAME_BYTES {
        return Err(format!("one side exceeds {MAX_REF_NAME_BYTES} bytes, the limit of a ref name"));
    }
    // With a letter in place of the `*`, the side must be a valid ref name.
    check_ref_name(BStr::new(&text.replacen('*', "x", 1))).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refspecs(texts: &[&str]) -> Result<Refspecs, String> {
        Refspecs::new(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_that_matches_applies() {
        let refspecs = refspecs(&[
            "refs/heads/main:refs/heads/trunk",
            "refs/heads/*:refs/mirror/heads/*",
            "refs/heads/v*:refs/tags/v*",
        ])
        .unwrap();
        let target = |name: &str| refspecs.target_of(BStr::new(name)).map(|name| name.to_string());
        assert_eq!(target("refs/heads/main").as_deref(), Some("refs/heads/trunk"));
        assert_eq!(target("refs/heads/v1").as_deref(), Some("refs/mirror/heads/v1"));
        assert_eq!(target("refs/notes/x"), None);
        assert_eq!(target("refs/heads/").as_deref(), None);
        let sources = |name: &str| refspecs.sources_of(BStr::new(name));
        assert_eq!(sources("refs/mirror/heads/main"), ["refs/heads/main"]);
        assert_eq!(sources("refs/heads/trunk"), ["refs/heads/main"]);
        assert_eq!(sources("refs/heads/main"), [""; 0]);
    }

    #[test]
    fn what_a_link_cannot_keep_is_refused() {
        for (text, reason) in [
            ("refs/heads/main", "SOURCE:TARGET"),
            ("^refs/heads/x:refs/heads/y", "refs/"),
            ("+refs/heads/x:refs/heads/y", "refs/"),
            ("main:refs/heads/main", "refs/"),
            ("refs/heads/main:", "refs/"),
            (":refs/heads/main", "refs/"),
            ("refs/heads/a:b:refs/heads/c", "refs/"),
            ("refs/heads/*:refs/heads/main", "other"),
            ("refs/*/*:refs/*/*", "ref name"),
            ("refs/heads/*:refs/gitferry/*", "own namespace"),
        ] {
            let error = refspecs(&[text]).unwrap_err();
            assert!(error.contains(reason) && error.contains(text), "{error}");
        }
        let error = refspecs(&["refs/heads/*:refs/a/*", "refs/heads/*:refs/b/*"]).unwrap_err();
        assert!(error.contains("same source"), "{error}");
        let error = refspecs(&["refs/heads/*:refs/a/*", "refs/tags/*:refs/a/*"]).unwrap_err();
        assert!(error.contains("same target"), "{error}");
    }
}
