//! [`View`]: an immutable snapshot of a repository's refs and packs, from which both protocols are served.

mod chunk;
mod ids;
mod peel;
mod recent;
mod table;

use std::sync::Arc;

use gix::ObjectId;
use gix::hash::{Kind as Format, oid};

use self::peel::peel;
use super::pack::{PackError, PackSet};
use super::refs::RefValue;
pub use chunk::OutOfOrder;
pub use recent::RecentTips;
pub use table::{PeeledTags, RefEntry, RefTable};

/// Snapshot of a repository. Cheap to clone: refs and packs are shared, and so is everything computed from the refs.
#[derive(Clone, Debug)]
pub struct View {
    /// Hash function of all object ids.
    pub format: Format,
    /// Value of `HEAD`, which may be unborn.
    pub head: RefValue,
    /// All refs except hidden ones.
    pub refs: Arc<RefTable>,
    /// Live packs.
    pub packs: Arc<PackSet>,
    /// Previous tips of visible refs: clients that read an older advertisement still want these objects.
    pub recent_tips: RecentTips,
}

impl View {
    /// Returns the object that `HEAD` names, directly or through a branch; `None` if `HEAD` is unborn.
    pub fn head_object(&self) -> Option<ObjectId> {
        match &self.head {
            RefValue::Object(id) => Some(*id),
            RefValue::Symbolic(target) => self.refs.find(target.as_bstr()).and_then(|entry| self.refs.object(&entry)),
        }
    }

    /// Returns the peeled target of `HEAD` if `HEAD` names a tag, which only a detached `HEAD` can.
    pub(crate) fn head_peeled(&self) -> Option<ObjectId> {
        let id = self.head_object()?;
        let mut finder = self.packs.finder().ok()?;
        peel(&self.packs, &mut finder, &id).ok().flatten().filter(|peeled| *peeled != id)
    }

    /// Returns the peeled targets of all refs that name tags. Computed once per [`RefTable`].
    pub fn peeled_tags(&self) -> Result<&PeeledTags, PackError> {
        self.refs.peeled_tags(&self.packs)
    }

    /// Iterates over the objects that a detached `HEAD`, refs and recent tips name. Yields duplicates.
    pub fn tips(&self) -> impl Iterator<Item = ObjectId> + '_ {
        let head = self.head.object().copied();
        let refs = self.refs.iter().filter_map(|entry| entry.id.map(oid::to_owned));
        head.into_iter().chain(refs).chain(self.recent_tips.iter())
    }

    /// Returns true if a ref or a detached `HEAD` names the object, or the object is a recent tip.
    pub fn is_tip(&self, id: &oid) -> bool {
        self.head.object().is_some_and(|head| head.as_ref() == id)
            || self.recent_tips.contains(id)
            || self.refs.names(id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::refs::RefName;

    fn id(byte: u8) -> ObjectId {
        ObjectId::from_bytes_or_panic(&[byte; 20])
    }

    fn table(refs: &[(&str, RefValue)]) -> RefTable {
        let refs = refs.iter().map(|(name, value)| (RefName::new(*name).unwrap(), value.clone()));
        RefTable::from_sorted(Format::Sha1, refs).unwrap()
    }

    fn symbolic(name: &str) -> RefValue {
        RefValue::Symbolic(RefName::new(name).unwrap())
    }

    #[test]
    fn refs_are_found_and_followed() {
        let refs = table(&[
            ("refs/heads/a", id(1).into()),
            ("refs/heads/b", symbolic("refs/heads/c")),
            ("refs/heads/c", symbolic("refs/heads/a")),
            ("refs/heads/loop", symbolic("refs/heads/loop")),
            ("refs/heads/none", symbolic("refs/heads/nothing")),
            ("refs/tags/a", id(2).into()),
        ]);
        let object = |name: &str| refs.find(name.into()).and_then(|entry| refs.object(&entry));
        assert_eq!(object("refs/heads/b"), Some(id(1)));
        for nothing in ["refs/heads/loop", "refs/heads/none", "refs/heads", "refs/tags/b"] {
            assert_eq!(object(nothing), None, "{nothing}");
        }
        assert!(refs.names(&id(2)) && !refs.names(&id(3)) && !refs.names(&ObjectId::null(Format::Sha1)));
        assert_eq!(refs.expand("a".into()).unwrap().name, "refs/tags/a");
        assert_eq!(refs.expand("heads/a".into()).unwrap().name, "refs/heads/a");
        assert_eq!(refs.with_prefix(b"refs/heads/"), 0..5);
        assert_eq!(refs.with_prefix(b"refs/heads/a"), 0..1);
        assert_eq!(refs.with_prefix(b"refs/x"), 6..6);
    }

    #[test]
    fn disorder_is_refused() {
        let mut refs = table(&[("refs/heads/b", id(1).into())]);
        for name in ["refs/heads/b", "refs/heads/a"] {
            assert!(refs.push(RefName::new(name).unwrap(), id(1).into()).is_err());
        }
        let other = ObjectId::null(Format::Sha256);
        assert!(refs.push(RefName::new("refs/heads/c").unwrap(), other.into()).is_err());
        assert_eq!(refs.len(), 1);
    }

    proptest! {
        #[test]
        fn prefixes_are_what_a_scan_finds(
            names in proptest::collection::btree_set("refs/[ab/]{0,3}[ab]", 0..30), prefix in "(refs/)?[ab/]{0,3}"
        ) {
            let names: Vec<_> = names.into_iter().filter_map(|name| RefName::new(name).ok()).collect();
            let refs = names.iter().map(|name| (name.clone(), RefValue::from(id(1))));
            let refs = RefTable::from_sorted(Format::Sha1, refs).unwrap();
            let found: Vec<_> = refs.with_prefix(prefix.as_bytes()).map(|row| refs.get(row).unwrap().name).collect();
            let scanned: Vec<_> = names.iter().filter(|name| name.starts_with(prefix.as_bytes())).map(|name| name.as_bstr()).collect();
            prop_assert_eq!(found, scanned);
        }

        #[test]
        fn a_table_after_edits_is_the_one_that_a_map_makes(
            size in 0usize..2_000,
            rounds in proptest::collection::vec(
                proptest::collection::vec((0usize..2_500, proptest::option::of(1u8..9)), 0..40), 0..8)
        ) {
            let name = |number: usize| RefName::new(format!("refs/heads/{number:06}")).unwrap();
            let mut map: BTreeMap<RefName, RefValue> =
                (0..size).map(|number| (name(number), id(1 + (number % 7) as u8).into())).collect();
            let mut table = RefTable::from_sorted(Format::Sha1, map.clone()).unwrap();
            prop_assert!(table.names(&id(1)) == (size > 0));
            for round in rounds {
                let edits: BTreeMap<RefName, Option<RefValue>> =
                    round.into_iter().map(|(number, value)| (name(number), value.map(|byte| id(byte).into()))).collect();
                for (name, value) in &edits {
                    match value {
                        Some(value) => map.insert(name.clone(), value.clone()),
                        None => map.remove(name),
                    };
                }
                table = table.with_edits(edits).unwrap();
                let whole = RefTable::from_sorted(Format::Sha1, map.clone()).unwrap();
                prop_assert_eq!(table.len(), map.len());
                prop_assert!(table.iter().eq(whole.iter()));
                prop_assert!((0..table.len()).all(|row| table.get(row) == whole.get(row)));
                for byte in 1..10 {
                    let named = map.values().any(|value| value.object() == Some(&id(byte)));
                    prop_assert_eq!(table.names(&id(byte)), named);
                }
                for number in [0, 255, 256, 600, 1_999, 2_400] {
                    prop_assert_eq!(table.find(name(number).as_bstr()).is_some(), map.contains_key(&name(number)));
                }
            }
        }
    }
}
