//! A [`View`]: one exact state of a repository, which protocols work on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};
use gix::hash::{Kind as Format, oid};
use gix::objs::Kind;

use super::limits::MAX_TAG_DEPTH;
use super::links::for_each_link;
use super::pack::{Finder, Object, PackError, PackSet};
use super::refs::{RefName, RefValue};

/// Most symbolic refs that one ref is followed through, as in Git (`SYMREF_MAXDEPTH`).
const MAX_SYMBOLIC_DEPTH: usize = 5;

/// One exact state of a repository. Cheap to clone; what is derived from its refs is kept with them.
#[derive(Clone, Debug)]
pub struct View {
    /// How objects are named.
    pub format: Format,
    /// `HEAD`.
    pub head: RefValue,
    /// All refs but hidden ones.
    pub refs: Arc<RefTable>,
    /// The live packs.
    pub packs: Arc<PackSet>,
    /// What visible refs named a short while ago: still wanted by clients that were told so.
    pub recent_tips: Arc<[ObjectId]>,
}

impl View {
    /// The object that `HEAD` names, unless it is unborn.
    pub fn head_object(&self) -> Option<ObjectId> {
        match &self.head {
            RefValue::Object(id) => Some(*id),
            RefValue::Symbolic(target) => self.refs.find(target.as_bstr()).and_then(|entry| self.refs.object(&entry)),
        }
    }

    /// What `HEAD` is a tag of, where it names a tag: only a detached one can.
    pub(crate) fn head_peeled(&self) -> Option<ObjectId> {
        let id = self.head_object()?;
        let mut finder = self.packs.finder().ok()?;
        peel(&self.packs, &mut finder, &id).ok().flatten().filter(|peeled| *peeled != id)
    }

    /// What tags are tags of; found out once for each table of refs.
    pub fn peeled_tags(&self) -> Result<&PeeledTags, PackError> {
        self.refs.peeled_tags(&self.packs)
    }

    /// The objects that refs, `HEAD` and the recent past name.
    pub fn tips(&self) -> impl Iterator<Item = ObjectId> + '_ {
        let head = self.head.object().copied();
        let refs = self.refs.iter().filter_map(|entry| entry.id.map(oid::to_owned));
        head.into_iter().chain(refs).chain(self.recent_tips.iter().copied())
    }

    /// Whether an object is named by a ref, by `HEAD`, or was a short while ago.
    pub fn is_tip(&self, id: &oid) -> bool {
        self.head.object().is_some_and(|head| head.as_ref() == id)
            || self.recent_tips.iter().any(|tip| tip.as_ref() as &oid == id)
            || self.refs.names(id)
    }
}

/// Follows tags to what they are tags of; `None` if that, or a tag on the way, is not there.
fn peel(packs: &PackSet, finder: &mut Finder<'_>, id: &oid) -> Result<Option<ObjectId>, PackError> {
    let mut id = id.to_owned();
    for _ in 0..=MAX_TAG_DEPTH {
        let Some(location) = packs.locate(&id) else { return Ok(None) };
        if finder.kind(location)? != Kind::Tag {
            return Ok(Some(id));
        }
        match tag_target(packs, finder.read(location)?) {
            Some(target) => id = target,
            None => return Ok(None),
        }
    }
    Ok(None)
}

fn tag_target(packs: &PackSet, Object { kind, data }: Object) -> Option<ObjectId> {
    let mut target = None;
    for_each_link(kind, &data, packs.format(), |id, _| target = Some(id.to_owned())).ok()?;
    target
}

/// Refs by name, compact: about 60 bytes a ref.
#[derive(Debug)]
pub struct RefTable {
    format: Format,
    /// All names, one behind the other.
    names: Vec<u8>,
    /// Where each name ends in `names`.
    ends: Vec<usize>,
    /// Raw ids; null for symbolic refs.
    ids: Vec<u8>,
    /// The symbolic refs by row.
    symbolic: Vec<(usize, RefName)>,
    /// Rows sorted by id, made when it is needed first.
    by_id: OnceLock<Vec<u32>>,
    peeled: OnceLock<PeeledTags>,
}

/// A ref of a [`RefTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefEntry<'a> {
    /// Its number in the order of names.
    pub row: usize,
    /// Its name.
    pub name: &'a BStr,
    /// The object that it names; `None` for a symbolic ref.
    pub id: Option<&'a oid>,
}

/// A ref out of order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ref {name} does not follow the one before it, or its value has another object format")]
pub struct OutOfOrder {
    /// The ref.
    pub name: RefName,
}

impl RefTable {
    /// A table of no refs.
    pub fn empty(format: Format) -> Self {
        RefTable {
            format,
            names: Vec::new(),
            ends: Vec::new(),
            ids: Vec::new(),
            symbolic: Vec::new(),
            by_id: OnceLock::new(),
            peeled: OnceLock::new(),
        }
    }

    /// A table of refs that come in the order of their names.
    pub fn from_sorted(
        format: Format,
        refs: impl IntoIterator<Item = (RefName, RefValue)>,
    ) -> Result<Self, OutOfOrder> {
        let mut table = RefTable::empty(format);
        for (name, value) in refs {
            table.push(name, value)?;
        }
        Ok(table)
    }

    /// Appends a ref; names have to ascend.
    pub fn push(&mut self, name: RefName, value: RefValue) -> Result<(), OutOfOrder> {
        let ascends =
            self.len().checked_sub(1).and_then(|last| self.get(last)).is_none_or(|last| last.name < name.as_bstr());
        if !ascends || value.object().is_some_and(|id| id.kind() != self.format) || self.len() >= u32::MAX as usize {
            return Err(OutOfOrder { name });
        }
        self.names.extend_from_slice(&name);
        match value {
            RefValue::Object(id) => self.ids.extend_from_slice(id.as_slice()),
            RefValue::Symbolic(target) => {
                self.symbolic.push((self.ends.len(), target));
                self.ids.extend_from_slice(self.format.null_ref().as_bytes());
            }
        }
        self.ends.push(self.names.len());
        (self.by_id, self.peeled) = (OnceLock::new(), OnceLock::new());
        Ok(())
    }

    /// The object format of its values.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many refs there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no refs.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The ref with a number.
    pub fn get(&self, row: usize) -> Option<RefEntry<'_>> {
        let id = self.id(row)?;
        Some(RefEntry { row, name: self.name(row)?, id: Some(id).filter(|id| !id.is_null()) })
    }

    fn name(&self, row: usize) -> Option<&BStr> {
        let end = *self.ends.get(row)?;
        let start = row.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.names.get(start..end).map(ByteSlice::as_bstr)
    }

    fn id(&self, row: usize) -> Option<&oid> {
        let width = self.format.len_in_bytes();
        self.ids.get(row * width..(row + 1) * width).map(oid::from_bytes_unchecked)
    }

    /// All refs in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = RefEntry<'_>> {
        (0..self.len()).filter_map(|row| self.get(row))
    }

    /// The numbers of the refs whose names begin so.
    pub fn with_prefix(&self, prefix: &[u8]) -> Range<usize> {
        let start = self.first_row(|name| name < prefix);
        start..self.first_row(|name| name < prefix || name.starts_with(prefix))
    }

    /// The first row that `before` is not true for; it must be true for none behind that.
    fn first_row(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.name(middle).is_some_and(|name| before(name)) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The ref with a name.
    pub fn find(&self, name: &BStr) -> Option<RefEntry<'_>> {
        self.get(self.first_row(|other| other < name.as_bytes())).filter(|entry| entry.name == name)
    }

    /// The ref that a person means by a name, perhaps an abbreviated one: the rules of `git rev-parse`.
    pub fn expand(&self, name: &BStr) -> Option<RefEntry<'_>> {
        let rules: [(&str, &str); 6] = [
            ("", ""),
            ("refs/", ""),
            ("refs/tags/", ""),
            ("refs/heads/", ""),
            ("refs/remotes/", ""),
            ("refs/remotes/", "/HEAD"),
        ];
        let full = |(prefix, suffix): (&str, &str)| [prefix.as_bytes(), name, suffix.as_bytes()].concat();
        rules.into_iter().find_map(|rule| self.find(full(rule).as_bstr()))
    }

    /// What a symbolic ref names.
    pub fn symbolic_target(&self, row: usize) -> Option<&BStr> {
        if self.symbolic.is_empty() {
            return None;
        }
        let at = self.symbolic.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        self.symbolic.get(at).map(|(_, target)| target.as_bstr())
    }

    /// The object that a ref names, directly or through symbolic refs; `None` where those lead nowhere.
    pub fn object(&self, entry: &RefEntry<'_>) -> Option<ObjectId> {
        let mut entry = *entry;
        for _ in 0..=MAX_SYMBOLIC_DEPTH {
            match entry.id {
                Some(id) => return Some(id.to_owned()),
                None => entry = self.find(self.symbolic_target(entry.row)?)?,
            }
        }
        None
    }

    /// The name that a name leads to over symbolic refs, whether a ref of that name is there or not: the name itself
    /// unless it is symbolic. `None` where symbolic refs lead in circles, or over more steps than Git follows.
    pub fn follow<'n>(&'n self, name: &'n BStr) -> Option<&'n BStr> {
        let mut name = name;
        for _ in 0..=MAX_SYMBOLIC_DEPTH {
            match self.find(name).and_then(|entry| self.symbolic_target(entry.row)) {
                Some(target) => name = target,
                None => return Some(name),
            }
        }
        None
    }

    /// Whether some ref names an object directly.
    pub fn names(&self, id: &oid) -> bool {
        let by_id = self.by_id.get_or_init(|| {
            let mut rows: Vec<u32> = (0..self.len() as u32).collect();
            rows.sort_unstable_by_key(|row| self.id(*row as usize));
            rows
        });
        !id.is_null() && by_id.binary_search_by_key(&Some(id), |row| self.id(*row as usize)).is_ok()
    }

    fn peeled_tags(&self, packs: &PackSet) -> Result<&PeeledTags, PackError> {
        match self.peeled.get() {
            Some(peeled) => Ok(peeled),
            None => {
                let peeled = PeeledTags::of(self, packs)?;
                Ok(self.peeled.get_or_init(|| peeled))
            }
        }
    }

    /// The table after some edits: a new value for each name, or none where the ref goes.
    pub fn with_edits(&self, edits: BTreeMap<RefName, Option<RefValue>>) -> Result<RefTable, OutOfOrder> {
        let mut table = RefTable::empty(self.format);
        let mut edits = edits.into_iter().peekable();
        for entry in self.iter() {
            while let Some((name, value)) = edits.next_if(|(name, _)| name.as_bstr() < entry.name) {
                table.push_some(name, value)?;
            }
            match edits.next_if(|(name, _)| name.as_bstr() == entry.name) {
                Some((name, value)) => table.push_some(name, value)?,
                None => table.push_from(self, &entry)?,
            }
        }
        for (name, value) in edits {
            table.push_some(name, value)?;
        }
        Ok(table)
    }

    fn push_some(&mut self, name: RefName, value: Option<RefValue>) -> Result<(), OutOfOrder> {
        value.map_or(Ok(()), |value| self.push(name, value))
    }

    fn push_from(&mut self, other: &RefTable, entry: &RefEntry<'_>) -> Result<(), OutOfOrder> {
        let value = match entry.id {
            Some(id) => RefValue::Object(id.to_owned()),
            None => match other.symbolic_target(entry.row).map(|target| RefName::new(target.to_owned())) {
                Some(Ok(target)) => RefValue::Symbolic(target),
                _ => return Ok(()),
            },
        };
        RefName::new(entry.name.to_owned()).map_or(Ok(()), |name| self.push(name, value))
    }

    /// Takes over what is known of another table's tags, so that only new tags have to be read. Call it on a
    /// new table that was made from an old one.
    pub fn adopt_peeled_tags(&mut self, old: &RefTable, packs: &PackSet) -> Result<(), PackError> {
        let Some(known) = old.peeled.get() else { return Ok(()) };
        let mut old_rows = (0..old.len()).peekable();
        let same = |row: usize| {
            let name = self.name(row);
            while old_rows.next_if(|old_row| old.name(*old_row) < name).is_some() {}
            let old_row = old_rows.next_if(|old_row| old.name(*old_row) == name)?;
            (old.id(old_row) == self.id(row)).then_some(old_row)
        };
        let peeled = PeeledTags::with_known(self, packs, same, known)?;
        self.peeled = OnceLock::from(peeled);
        Ok(())
    }
}

/// The refs that name tags, with what those are tags of in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeeledTags(Vec<(u32, ObjectId)>);

impl PeeledTags {
    fn of(refs: &RefTable, packs: &PackSet) -> Result<Self, PackError> {
        Self::with_known(refs, packs, |_| None, &PeeledTags::default())
    }

    /// `same` says which row of a table whose tags are `known` is the same ref with the same value.
    fn with_known(
        refs: &RefTable,
        packs: &PackSet,
        mut same: impl FnMut(usize) -> Option<usize>,
        known: &PeeledTags,
    ) -> Result<Self, PackError> {
        let mut finder = packs.finder().map_err(|fault| packs.blame(0, fault))?;
        let mut all = Vec::new();
        for entry in refs.iter() {
            let Some(id) = entry.id else { continue };
            if let Some(old_row) = same(entry.row) {
                all.extend(known.get(old_row).map(|peeled| (entry.row as u32, peeled)));
                continue;
            }
            let Some(location) = packs.locate(id) else { continue };
            if finder.kind(location)? == Kind::Tag {
                all.extend(peel(packs, &mut finder, id)?.map(|peeled| (entry.row as u32, peeled)));
            }
        }
        Ok(PeeledTags(all))
    }

    /// What the ref in a row is a tag of.
    pub fn get(&self, row: usize) -> Option<ObjectId> {
        let at = self.0.binary_search_by_key(&row, |(row, _)| *row as usize).ok()?;
        self.0.get(at).map(|(_, id)| *id)
    }

    /// All of them from a row on: the row, and what it is a tag of.
    pub fn from(&self, row: usize) -> impl Iterator<Item = (usize, ObjectId)> + '_ {
        let start = self.0.partition_point(|(other, _)| (*other as usize) < row);
        self.0.iter().skip(start).map(|(row, id)| (*row as usize, *id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    }
}
