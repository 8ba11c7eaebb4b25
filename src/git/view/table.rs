//! [`RefTable`]: refs sorted by name. Applying edits yields a new table that shares every chunk without an edit.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};
use gix::hash::{Kind as Format, oid};

use super::chunk::{CHUNK_REFS, Chunk, OutOfOrder, Peeled};
use super::ids::IdSet;
use crate::pack::{PackError, PackSet};
use crate::refs::{RefName, RefValue};

/// Longest chain of symbolic refs that is followed: Git's `SYMREF_MAXDEPTH`.
const MAX_SYMBOLIC_DEPTH: usize = 5;

/// Immutable snapshot of refs sorted by name; about 60 bytes per ref.
#[derive(Debug)]
pub struct RefTable {
    format: Format,
    /// Non-empty chunks.
    chunks: Vec<Arc<Chunk>>,
    /// First row of each chunk.
    starts: Vec<usize>,
    len: usize,
    /// Ids that refs name, computed on first use.
    ids: OnceLock<IdSet>,
    peeled: OnceLock<PeeledTags>,
}

/// One row of a [`RefTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefEntry<'a> {
    /// Index of the ref in the order of names.
    pub row: usize,
    /// Full name of the ref, below `refs/`.
    pub name: &'a BStr,
    /// Object that the ref names; `None` for a symbolic ref.
    pub id: Option<&'a oid>,
}

/// Sorted edits: a new value, or `None` to delete the ref.
type Edits = Peekable<std::collections::btree_map::IntoIter<RefName, Option<RefValue>>>;

impl RefTable {
    /// Creates a table without refs.
    pub fn empty(format: Format) -> Self {
        RefTable {
            format,
            chunks: Vec::new(),
            starts: Vec::new(),
            len: 0,
            ids: OnceLock::new(),
            peeled: OnceLock::new(),
        }
    }

    /// Builds a table from refs whose names strictly ascend.
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

    /// Appends a ref. Fails if the name does not follow the last one, or the id has another object format.
    pub fn push(&mut self, name: RefName, value: RefValue) -> Result<(), OutOfOrder> {
        let last = self.chunks.last();
        let ascends = last.and_then(|chunk| chunk.last_name()).is_none_or(|last| last < name.as_bstr());
        if !ascends || self.len >= u32::MAX as usize {
            return Err(OutOfOrder { name });
        }
        match self.chunks.last_mut().filter(|chunk| !chunk.is_full()) {
            Some(chunk) => Arc::make_mut(chunk).push(name, value)?,
            None => {
                let mut chunk = Chunk::new(self.format);
                chunk.push(name, value)?;
                self.starts.push(self.len);
                self.chunks.push(Arc::new(chunk));
            }
        }
        self.len += 1;
        self.ids = OnceLock::new();
        self.peeled = OnceLock::new();
        Ok(())
    }

    fn push_chunk(&mut self, chunk: Arc<Chunk>) {
        if chunk.len() > 0 {
            self.starts.push(self.len);
            self.len += chunk.len();
            self.chunks.push(chunk);
        }
    }

    /// Hash function of the ids in this table.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Number of refs.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if the table has no refs.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the chunk that holds a row, and the row's index within the chunk.
    fn chunk_of(&self, row: usize) -> Option<(&Chunk, usize)> {
        let number = self.starts.partition_point(|start| *start <= row).checked_sub(1)?;
        let start = self.starts.get(number)?;
        Some((self.chunks.get(number)?, row - start))
    }

    /// Returns the ref in a row.
    pub fn get(&self, row: usize) -> Option<RefEntry<'_>> {
        let (chunk, at) = self.chunk_of(row)?;
        entry(chunk, at, row)
    }

    /// Iterates over all refs in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = RefEntry<'_>> {
        let chunks = self.chunks.iter().zip(&self.starts);
        chunks.flat_map(|(chunk, start)| (0..chunk.len()).filter_map(move |at| entry(chunk, at, start + at)))
    }

    /// Returns the rows of all refs whose names start with a prefix.
    pub fn with_prefix(&self, prefix: &[u8]) -> Range<usize> {
        let start = self.first_row(|name| name < prefix);
        start..self.first_row(|name| name < prefix || name.starts_with(prefix))
    }

    /// Returns the first row for whose name `before` is false. `before` must be monotonic: true, then false.
    fn first_row(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let number = self.chunks.partition_point(|chunk| chunk.last_name().is_some_and(|name| before(name)));
        match (self.chunks.get(number), self.starts.get(number)) {
            (Some(chunk), Some(start)) => start + chunk.first_row(before),
            _ => self.len,
        }
    }

    /// Returns the ref with a full name.
    pub fn find(&self, name: &BStr) -> Option<RefEntry<'_>> {
        self.get(self.first_row(|other| other < name.as_bytes())).filter(|entry| entry.name == name)
    }

    /// Resolves a name that may be abbreviated, by the rules of gitrevisions(7): `main` finds `refs/heads/main`.
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

    /// Returns the direct target of the symbolic ref in a row; `None` for other refs.
    pub fn symbolic_target(&self, row: usize) -> Option<&BStr> {
        let (chunk, at) = self.chunk_of(row)?;
        chunk.symbolic_target(at)
    }

    /// Resolves a ref to an object, through symbolic refs if need be; `None` if these dangle or form a loop.
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

    /// Resolves symbolic refs to the name at the end of their chain, which need not exist. A name that is not symbolic
    /// resolves to itself. `None` if the chain loops or is longer than Git follows.
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

    /// Returns true if a ref names the object directly.
    pub fn names(&self, id: &oid) -> bool {
        let all = || self.iter().filter_map(|entry| entry.id);
        self.ids.get_or_init(|| IdSet::of(self.format, all())).contains(id)
    }

    /// Returns the peeled targets of all refs that name tags. Reads objects on the first call only.
    pub(super) fn peeled_tags(&self, packs: &PackSet) -> Result<&PeeledTags, PackError> {
        if let Some(peeled) = self.peeled.get() {
            return Ok(peeled);
        }
        let mut finder = packs.finder().map_err(|fault| packs.blame(0, fault))?;
        let mut chunks = Vec::with_capacity(self.chunks.len());
        for (chunk, start) in self.chunks.iter().zip(&self.starts) {
            let peeled = chunk.peeled(packs, &mut finder)?;
            if !peeled.is_empty() {
                chunks.push((*start, peeled));
            }
        }
        Ok(self.peeled.get_or_init(|| PeeledTags(chunks)))
    }

    /// Applies edits, each a new value or `None` to delete the ref, and returns the resulting table. The cost follows
    /// the number of edits; peeled tags and the id set are carried over.
    pub fn with_edits(&self, edits: BTreeMap<RefName, Option<RefValue>>) -> Result<RefTable, OutOfOrder> {
        let ids = self.ids.get().map(|ids| self.ids_after(ids, &edits));
        let mut table = RefTable::empty(self.format);
        let mut edits = edits.into_iter().peekable();
        for (number, chunk) in self.chunks.iter().enumerate() {
            let is_last = number + 1 == self.chunks.len();
            let falls_in = |name: &RefName| is_last || chunk.last_name().is_some_and(|last| name.as_bstr() <= last);
            if edits.peek().is_some_and(|(name, _)| falls_in(name)) {
                table.push_edited(chunk, &mut edits, falls_in)?;
            } else {
                table.push_chunk(chunk.clone());
            }
        }
        for (name, value) in edits {
            value.map_or(Ok(()), |value| table.push(name, value))?;
        }
        debug_assert_eq!(table.len, table.chunks.iter().map(|chunk| chunk.len()).sum::<usize>());
        if let Some(ids) = ids {
            table.ids = OnceLock::from(ids);
        }
        Ok(table)
    }

    /// Appends a chunk with the edits that fall into its range of names; splits the result if it is too large.
    fn push_edited(
        &mut self,
        old: &Chunk,
        edits: &mut Edits,
        falls_in: impl Fn(&RefName) -> bool,
    ) -> Result<(), OutOfOrder> {
        let mut rows: Vec<Result<usize, (RefName, RefValue)>> = Vec::with_capacity(old.len() + 1);
        for row in 0..old.len() {
            let Some(old_name) = old.name(row) else { continue };
            let mut replaced = false;
            while let Some((name, value)) = edits.next_if(|(name, _)| name.as_bstr() <= old_name) {
                replaced |= name.as_bstr() == old_name;
                rows.extend(value.map(|value| Err((name, value))));
            }
            if !replaced {
                rows.push(Ok(row));
            }
        }
        while let Some((name, value)) = edits.next_if(|(name, _)| falls_in(name)) {
            rows.extend(value.map(|value| Err((name, value))));
        }
        let max_refs = if rows.len() < 2 * CHUNK_REFS { usize::MAX } else { CHUNK_REFS };
        let mut chunk = Chunk::derived(self.format);
        for row in rows {
            if chunk.len() >= max_refs {
                self.push_chunk(Arc::new(std::mem::replace(&mut chunk, Chunk::derived(self.format))));
            }
            match row {
                Ok(row) => chunk.push_from(old, row),
                Err((name, value)) => chunk.push(name, value)?,
            }
        }
        self.push_chunk(Arc::new(chunk));
        Ok(())
    }

    fn ids_after(&self, ids: &IdSet, edits: &BTreeMap<RefName, Option<RefValue>>) -> IdSet {
        let mut ids = ids.clone();
        for (name, value) in edits {
            if let Some(old) = self.find(name.as_bstr()).and_then(|entry| entry.id) {
                ids.remove(old);
            }
            if let Some(new) = value.as_ref().and_then(RefValue::object) {
                ids.insert(new);
            }
        }
        ids
    }
}

fn entry(chunk: &Chunk, at: usize, row: usize) -> Option<RefEntry<'_>> {
    let id = chunk.id(at)?;
    Some(RefEntry { row, name: chunk.name(at)?, id: Some(id).filter(|id| !id.is_null()) })
}

/// Rows of a [`RefTable`] whose refs name tags, with the peeled targets: the objects at the end of each chain of tags.
#[derive(Clone, Debug, Default)]
pub struct PeeledTags(Vec<(usize, Peeled)>);

impl PeeledTags {
    /// Returns the peeled target of the ref in a row; `None` if the ref names no tag.
    pub fn get(&self, row: usize) -> Option<ObjectId> {
        self.from(row).next().filter(|(found, _)| *found == row).map(|(_, id)| id)
    }

    /// Iterates over rows and peeled targets, starting at a row.
    pub fn from(&self, row: usize) -> impl Iterator<Item = (usize, ObjectId)> + '_ {
        let chunk = self.0.partition_point(|(start, _)| *start <= row).saturating_sub(1);
        self.0.iter().skip(chunk).enumerate().flat_map(move |(number, (start, tags))| {
            let first = if number == 0 { tags.partition_point(|(at, _)| start + (*at as usize) < row) } else { 0 };
            tags.iter().skip(first).map(move |(at, id)| (start + *at as usize, *id))
        })
    }
}

impl PartialEq for PeeledTags {
    fn eq(&self, other: &Self) -> bool {
        self.from(0).eq(other.from(0))
    }
}

impl Eq for PeeledTags {}
