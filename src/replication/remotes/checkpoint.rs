//! What the last complete pass left: it makes repeated events cheap, and tells what gitferry has put at a target.
//!
//! A hint for work, never for correctness: every push names the old values that it saw.

use std::collections::BTreeMap;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use serde::{Deserialize, Serialize};

use super::policy::RefPolicy;
use gitferry_engine::ledger::hash::{Lattice, RefsDigest};
use gitferry_git::lfs::Pointer;
use gitferry_git::refs::RefValue;
use gitferry_git::view::RefTable;

/// Most refs whose last values are kept, to know again what an event announces.
const MAX_RECENT: usize = 64;
/// Most refs that are kept as not confirmed. With more, nothing is taken for confirmed.
const MAX_UNCONFIRMED: usize = 256;

/// Most LFS objects that are kept as missing at the source.
pub(super) const MAX_MISSING: usize = 256;

/// What the last complete pass left at the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// By which policy (see [`RefPolicy::fingerprint`]).
    pub policy: String,
    /// All refs of the source that the link could see, and its `HEAD`.
    pub source: RefsDigest,
    /// All refs of the target.
    pub target: RefsDigest,
    /// What `HEAD` was to be, whether or not the target has a way to make it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Refs of the target whose values are not known to come from the source; `None` where there are too many.
    #[serde(default)]
    pub unconfirmed: Option<Vec<String>>,
    /// The refs that were moved last, by their names at the target; `None` for deleted ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recent: BTreeMap<String, Option<String>>,
    /// LFS objects that the source lacked when the last pass went on without them, with their sizes in bytes: each pass
    /// asks for them again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lfs_missing: BTreeMap<String, u64>,
    /// Whether there were more than are kept, so that the next pass looks for LFS objects in all of the history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lfs_again: bool,
}

/// What an event says: that a ref of the source has a new value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hint {
    /// Its name at the source.
    pub reference: BString,
    /// What it names now; `None` where it was deleted.
    pub new: Option<ObjectId>,
}

/// The hash of a side's refs. `HEAD` is part of what a source is, not of what a push could change.
pub fn hash(refs: &RefTable, head: Option<&RefValue>) -> Lattice {
    let mut hash = Lattice::default();
    for entry in refs.iter() {
        if let Some(id) = refs.object(&entry) {
            hash.edit(entry.name, None, Some(&RefValue::Object(id)));
        }
    }
    if let Some(head) = head {
        hash.edit(b"HEAD", None, Some(head));
    }
    hash
}

impl Checkpoint {
    /// Whether the target already has what an event announces, or the link does not carry it.
    pub fn knows(&self, hint: &Hint, policy: &RefPolicy) -> bool {
        if self.policy != policy.fingerprint() {
            return false;
        }
        match policy.target_of(hint.reference.as_bstr()) {
            None => true,
            Some(Err(_)) => false,
            Some(Ok(name)) => {
                let known = name.to_str().ok().and_then(|name| self.recent.get(name));
                known == Some(&hint.new.map(|id| id.to_string()))
            }
        }
    }

    /// Says of a ref of the target whether gitferry is known to have put its value there, for a target whose refs
    /// have this digest now.
    pub fn confirms(&self, policy: &RefPolicy, target: &RefsDigest) -> impl Fn(&BStr) -> bool + '_ {
        let unconfirmed = match &self.unconfirmed {
            Some(names) if self.policy == policy.fingerprint() && self.target == *target => Some(names),
            _ => None,
        };
        move |name| {
            // A name that is not UTF-8 is not among them as it is.
            unconfirmed.is_some_and(|names| name.to_str().is_ok_and(|name| !names.iter().any(|other| other == name)))
        }
    }

    /// Whether the last pass could not make a ref of the target what it is at the source.
    pub fn leaves_unconfirmed(&self, name: &BStr) -> bool {
        let names = self.unconfirmed.iter().flatten();
        name.to_str().is_ok_and(|name| names.into_iter().any(|other| other == name))
    }

    /// Whether it tells which value a ref of the target has.
    pub fn tells_of(&self, name: &BStr) -> bool {
        name.to_str().is_ok_and(|name| self.recent.contains_key(name))
    }

    /// The LFS objects that the source lacked.
    pub fn missing_pointers(&self) -> Vec<Pointer> {
        let pointer = |(oid, size): (&String, &u64)| Some(Pointer { oid: oid.parse().ok()?, size: *size });
        self.lfs_missing.iter().filter_map(pointer).collect()
    }

    /// Keeps `count` LFS objects that the source lacked, of which these are known.
    pub fn set_missing(&mut self, pointers: &[Pointer], count: u64) {
        let kept = &pointers[..pointers.len().min(MAX_MISSING)];
        self.lfs_missing = kept.iter().map(|pointer| (pointer.oid.to_string(), pointer.size)).collect();
        self.lfs_again = count > kept.len() as u64;
    }

    /// Keeps which refs are not confirmed.
    pub fn set_unconfirmed(&mut self, names: &[BString]) {
        self.unconfirmed =
            (names.len() <= MAX_UNCONFIRMED).then(|| names.iter().map(|name| name.to_string()).collect());
    }

    /// Keeps the last values of refs that were moved: those of this pass first, then those of passes before that the
    /// target has still, as far as this pass has seen it and `left` it.
    pub fn set_recent(
        &mut self,
        before: Option<&Checkpoint>,
        moved: &[(BString, Option<ObjectId>)],
        left: impl Fn(&BStr) -> Option<ObjectId>,
    ) {
        let text = |id: Option<ObjectId>| id.map(|id| id.to_string());
        let utf8 = moved.iter().filter_map(|(name, id)| Some((name.to_str().ok()?.to_owned(), text(*id))));
        self.recent = utf8.take(MAX_RECENT).collect();
        let before = before.filter(|before| before.policy == self.policy).map(|before| &before.recent);
        for (name, value) in before.into_iter().flatten() {
            if self.recent.len() < MAX_RECENT && text(left(name.as_str().into())) == *value {
                self.recent.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gitferry_config::{Deletions, Divergence};
    use gitferry_git::refs::RefName;

    fn id(byte: u8) -> ObjectId {
        ObjectId::from_bytes_or_panic(&[byte; 20])
    }

    fn table(refs: &[(&str, u8)]) -> RefTable {
        let refs = refs.iter().map(|(name, byte)| (RefName::new(*name).unwrap(), RefValue::from(id(*byte))));
        RefTable::from_sorted(gix::hash::Kind::Sha1, refs).unwrap()
    }

    fn hint(reference: &str, new: Option<u8>) -> Hint {
        Hint { reference: reference.into(), new: new.map(id) }
    }

    #[test]
    fn only_the_same_target_and_the_same_policy_are_confirmed() {
        let policy = RefPolicy::default();
        let (then, now) = (table(&[("refs/heads/a", 1), ("refs/heads/b", 2)]), table(&[("refs/heads/a", 1)]));
        let mut checkpoint = Checkpoint { policy: policy.fingerprint().into(), ..Checkpoint::default() };
        checkpoint.target = hash(&then, None).digest();
        checkpoint.set_unconfirmed(&["refs/heads/b".into()]);
        let confirmed = checkpoint.confirms(&policy, &hash(&then, None).digest());
        assert!(confirmed("refs/heads/a".into()) && !confirmed("refs/heads/b".into()));
        assert!(!confirmed(BStr::new(b"refs/heads/\xff")));
        drop(confirmed);
        assert!(!checkpoint.confirms(&policy, &hash(&now, None).digest())("refs/heads/a".into()));
        let other = RefPolicy::new(&[], &[], Deletions::Keep, Divergence::Preserve).unwrap();
        assert!(!checkpoint.confirms(&other, &hash(&then, None).digest())("refs/heads/a".into()));
        checkpoint.set_unconfirmed(&vec!["refs/heads/b".into(); MAX_UNCONFIRMED + 1]);
        assert!(!checkpoint.confirms(&policy, &hash(&then, None).digest())("refs/heads/a".into()));
    }

    #[test]
    fn an_event_is_known_again() {
        let policy =
            RefPolicy::new(&[], &["refs/heads/*:refs/m/*".into()], Deletions::Mirror, Divergence::Preserve).unwrap();
        let mut checkpoint = Checkpoint { policy: policy.fingerprint().into(), ..Checkpoint::default() };
        checkpoint.set_recent(None, &[("refs/m/a".into(), Some(id(1))), ("refs/m/gone".into(), None)], |_| None);
        assert!(checkpoint.knows(&hint("refs/heads/a", Some(1)), &policy));
        assert!(checkpoint.knows(&hint("refs/heads/gone", None), &policy));
        assert!(checkpoint.knows(&hint("refs/pull/1/head", Some(9)), &policy), "not carried");
        for (name, new) in
            [("refs/heads/a", Some(2)), ("refs/heads/a", None), ("refs/heads/b", Some(1)), ("refs/heads/gone", Some(1))]
        {
            assert!(!checkpoint.knows(&hint(name, new), &policy), "{name} {new:?}");
        }
        assert!(!checkpoint.knows(&hint("refs/heads/a", Some(1)), &RefPolicy::default()), "another policy");
    }

    #[test]
    fn the_latest_moves_are_kept() {
        let policy = RefPolicy::default();
        let mut first = Checkpoint { policy: policy.fingerprint().into(), ..Checkpoint::default() };
        let moved: Vec<_> = (0..MAX_RECENT + 9).map(|n| (format!("refs/heads/{n:03}").into(), Some(id(1)))).collect();
        first.set_recent(None, &moved, |_| None);
        assert_eq!(first.recent.len(), MAX_RECENT);
        let mut second = Checkpoint { policy: policy.fingerprint().into(), ..Checkpoint::default() };
        second.set_recent(
            Some(&first),
            &[("refs/heads/000".into(), Some(id(2))), ("refs/heads/new".into(), Some(id(2)))],
            |_| Some(id(1)),
        );
        assert!(second.knows(&hint("refs/heads/000", Some(2)), &policy));
        assert!(second.knows(&hint("refs/heads/new", Some(2)), &policy));
        assert_eq!(second.recent.len(), MAX_RECENT);
        let text = serde_json::to_string(&second).unwrap();
        assert_eq!(serde_json::from_str::<Checkpoint>(&text).unwrap(), second);
    }

    #[test]
    fn what_the_target_no_longer_has_is_forgotten() {
        let policy = RefPolicy::default();
        let new = || Checkpoint { policy: policy.fingerprint().into(), ..Checkpoint::default() };
        let (mut first, mut second) = (new(), new());
        let moved = ["a", "b", "c", "d"].map(|name| (BString::from(format!("refs/heads/{name}")), Some(id(1))));
        first.set_recent(None, &moved, |_| None);
        // Somebody has moved one at the target, and deleted another.
        let left = |name: &BStr| match name.to_str().unwrap() {
            "refs/heads/b" => Some(id(7)),
            "refs/heads/c" => None,
            _ => Some(id(1)),
        };
        second.set_recent(Some(&first), &[("refs/heads/d".into(), None)], left);
        let known = ["a", "b", "c"].map(|name| second.knows(&hint(&format!("refs/heads/{name}"), Some(1)), &policy));
        assert_eq!(known, [true, false, false]);
        assert!(second.knows(&hint("refs/heads/d", None), &policy));
    }
}
