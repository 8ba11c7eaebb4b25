//! Result of the last complete pass: makes repeated events cheap, and records which values gitferry has pushed.
//!
//! A checkpoint saves work and is never needed for correctness: every push names the old values that its pass has seen.

use std::collections::BTreeMap;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use serde::{Deserialize, Serialize};

use super::policy::RefPolicy;
use gitferry_engine::ledger::hash::{Lattice, RefsDigest};
use gitferry_git::lfs::Pointer;
use gitferry_git::refs::RefValue;
use gitferry_git::view::RefTable;

/// Most recent ref values that are kept, to recognize repeated events.
const MAX_RECENT: usize = 64;
/// Most unconfirmed refs that are kept. With more, no ref counts as confirmed.
const MAX_UNCONFIRMED: usize = 256;

/// Most LFS objects that are kept as missing at the source.
pub(super) const MAX_MISSING: usize = 256;

/// State of both sides after the last complete pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Fingerprint of the policy (see [`RefPolicy::fingerprint`]).
    pub policy: String,
    /// Digest of the source's mirrored refs and `HEAD`.
    pub source: RefsDigest,
    /// Digest of all refs of the target.
    pub target: RefsDigest,
    /// Branch that the target's `HEAD` should name, even if the target has no API to set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Refs of the target whose values are not known to come from the source; `None` where there are too many.
    #[serde(default)]
    pub unconfirmed: Option<Vec<String>>,
    /// Values of the refs that moved last, by name at the target; `None` for deleted refs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recent: BTreeMap<String, Option<String>>,
    /// LFS objects that the source lacked, with their sizes in bytes. Every pass asks for them again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lfs_missing: BTreeMap<String, u64>,
    /// True if more LFS objects were missing than are kept: the next pass scans the whole history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lfs_again: bool,
}

/// New value of a ref of the source, as an event reports it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hint {
    /// Name at the source.
    pub reference: BString,
    /// New value; `None` where the ref was deleted.
    pub new: Option<ObjectId>,
}

/// Hash of a side's refs. `HEAD` is included for a source only, since no push can change it.
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
    /// Returns true if the target already has the value that an event reports, or the policy does not mirror the ref.
    pub fn knows(&self, hint: &Hint, policy: &RefPolicy) -> bool {
        if self.policy != policy.fingerprint() {
            return false;
        }
        match policy.target_of(hint.reference.as_bstr()) {
            None => true,
            Some(Err(_)) => false,
            Some(Ok(name)) => self.has_value(name.as_bstr(), hint.new),
        }
    }

    /// Returns a predicate that is true for refs of the target whose values gitferry has pushed. `target` is the digest
    /// of the target's refs now; if it is not the checkpoint's, no ref is confirmed.
    pub fn confirms(&self, policy: &RefPolicy, target: &RefsDigest) -> impl Fn(&BStr) -> bool + '_ {
        let unconfirmed = match &self.unconfirmed {
            Some(names) if self.policy == policy.fingerprint() && self.target == *target => Some(names),
            _ => None,
        };
        move |name| {
            // Names that are not UTF-8 are stored with replacement characters, so such a name is never confirmed.
            unconfirmed.is_some_and(|names| name.to_str().is_ok_and(|name| !names.iter().any(|other| other == name)))
        }
    }

    /// Returns true if the last pass could not make a ref of the target equal to the source's.
    pub fn is_unconfirmed(&self, name: &BStr) -> bool {
        let names = self.unconfirmed.iter().flatten();
        name.to_str().is_ok_and(|name| names.into_iter().any(|other| other == name))
    }

    /// Returns true if the checkpoint has a recent value of this ref.
    pub fn has_recent(&self, name: &BStr) -> bool {
        name.to_str().is_ok_and(|name| self.recent.contains_key(name))
    }

    /// Returns true if the checkpoint has this recent value of a ref; `None` for a deleted ref.
    pub fn has_value(&self, name: &BStr, id: Option<ObjectId>) -> bool {
        let value = name.to_str().ok().and_then(|name| self.recent.get(name));
        value.is_some_and(|value| *value == id.map(|id| id.to_string()))
    }

    /// LFS objects that the source lacked.
    pub fn missing_pointers(&self) -> Vec<Pointer> {
        let pointer = |(oid, size): (&String, &u64)| Some(Pointer { oid: oid.parse().ok()?, size: *size });
        self.lfs_missing.iter().filter_map(pointer).collect()
    }

    /// Records `count` missing LFS objects, of which `pointers` are known.
    pub fn set_missing(&mut self, pointers: &[Pointer], count: u64) {
        let kept = &pointers[..pointers.len().min(MAX_MISSING)];
        self.lfs_missing = kept.iter().map(|pointer| (pointer.oid.to_string(), pointer.size)).collect();
        self.lfs_again = count > kept.len() as u64;
    }

    /// Records the unconfirmed refs.
    pub fn set_unconfirmed(&mut self, names: &[BString]) {
        self.unconfirmed =
            (names.len() <= MAX_UNCONFIRMED).then(|| names.iter().map(|name| name.to_string()).collect());
    }

    /// Records recent values: first those of this pass, then those of the checkpoint `before` that the target still has
    /// by this pass's knowledge (`left`).
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
        // At the target, one has moved and another is deleted.
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
