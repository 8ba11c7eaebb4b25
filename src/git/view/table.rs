//! Refs by name. A table that follows another by some edits shares all but the chunks that they fall into.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};
use gix::hash::{Kind as Format, oid};

use super::chunk::{CHUNK_REFS, Chunk, Peeled};
use super::ids::IdSet;
use crate::pack::{PackError, PackSet};
use crate::refs::{RefName, RefValue};

/// Most symbolic refs that one ref is followed through, as in Git (`SYMREF_MAXDEPTH`).
const MAX_SYMBOLIC_DEPTH: usize = 5;

/// Refs by name, compact: about 60 bytes a ref.
#[derive(Debug)]
pub struct RefTable {
    format: Format,
    /// None of them is empty.
    chunks: Vec<Arc<Chunk>>,
    /// The first row of each chunk.
    starts: Vec<usize>,
    len: usize,
    /// The ids that refs name, made when they are needed first.
    ids: OnceLock<IdSet>,
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

/// New values of refs; none where the ref goes.
type Edits = Peekable<std::collections::btree_map::IntoIter<RefName, Option<RefValue>>>;

impl RefTable {
    /// A table of no refs.
    pub fn empty(format: Format) -> Self {
        let (ids, peeled) = (OnceLock::new(), OnceLock::new());
        RefTable { format, chunks: Vec::new(), starts: Vec::new(), len: 0, ids, peeled }
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
        (self.ids, self.peeled) = (OnceLock::new(), OnceLock::new());
        Ok(())
    }

    fn push_chunk(&mut self, chunk: Arc<Chunk>) {
        if chunk.len() > 0 {
            self.starts.push(self.len);
            self.len += chunk.len();
            self.chunks.push(chunk);
        }
    }

    /// The object format of its values.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many refs there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no refs.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The chunk of a row, and the row's number in it.
    fn chunk_of(&self, row: usize) -> Option<(&Chunk, usize)> {
        let number = self.starts.partition_point(|start| *start <= row).checked_sub(1)?;
        let (chunk, start) = (self.chunks.get(number)?, self.starts.get(number)?);
        Some((chunk, row - start))
    }

    /// The ref with a number.
    pub fn get(&self, row: usize) -> Option<RefEntry<'_>> {
        let (chunk, at) = self.chunk_of(row)?;
        entry(chunk, at, row)
    }

    /// All refs in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = RefEntry<'_>> {
        let chunks = self.chunks.iter().zip(&self.starts);
        chunks.flat_map(|(chunk, start)| (0..chunk.len()).filter_map(move |at| entry(chunk, at, start + at)))
    }

    /// The numbers of the refs whose names begin so.
    pub fn with_prefix(&self, prefix: &[u8]) -> Range<usize> {
        let start = self.first_row(|name| name < prefix);
        start..self.first_row(|name| name < prefix || name.starts_with(prefix))
    }

    /// The first row that `before` is not true for; it must be true for none behind that.
    fn first_row(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let number = self.chunks.partition_point(|chunk| chunk.last_name().is_some_and(|name| before(name)));
        match (self.chunks.get(number), self.starts.get(number)) {
            (Some(chunk), Some(start)) => start + chunk.first_row(before),
            _ => self.len,
        }
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
        let (chunk, at) = self.chunk_of(row)?;
        chunk.symbolic_target(at)
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
        let all = || self.iter().filter_map(|entry| entry.id);
        self.ids.get_or_init(|| IdSet::of(self.format, all())).contains(id)
    }

    /// The tags among the refs; looked up once.
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

    /// The table after some edits: a new value for each name, or none where the ref goes. Costs as much as there are
    /// edits; what is known of tags and ids is kept.
    pub fn with_edits(&self, edits: BTreeMap<RefName, Option<RefValue>>) -> Result<RefTable, OutOfOrder> {
        let ids = self.ids.get().map(|ids| self.ids_after(ids, &edits));
        let mut table = RefTable::empty(self.format);
        let mut edits = edits.into_iter().peekable();
        for (number, chunk) in self.chunks.iter().enumerate() {
            let is_last = number + 1 == self.chunks.len();
            let falls_in = |name: &RefName| is_last || chunk.last_name().is_some_and(|last| name.as_bstr() <= last);
            match edits.peek().is_some_and(|(name, _)| falls_in(name)) {
                false => table.push_chunk(chunk.clone()),
                true => table.push_edited(chunk, &mut edits, falls_in)?,
            }
        }
        for (name, value) in edits {
            value.map_or(Ok(()), |value| table.push(name, value))?;
        }
        if let Some(ids) = ids {
            table.ids = OnceLock::from(ids);
        }
        Ok(table)
    }

    /// Appends a chunk after the edits that fall into it; divided where that makes it large.
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
        let most = if rows.len() < 2 * CHUNK_REFS { usize::MAX } else { CHUNK_REFS };
        let mut chunk = Chunk::heir(self.format);
        for row in rows {
            if chunk.len() >= most {
                self.push_chunk(Arc::new(std::mem::replace(&mut chunk, Chunk::heir(self.format))));
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

/// The refs that name tags, with what those are tags of in the end.
#[derive(Clone, Debug, Default)]
pub struct PeeledTags(Vec<(usize, Peeled)>);

impl PeeledTags {
    /// What the ref in a row is a tag of.
    pub fn get(&self, row: usize) -> Option<ObjectId> {
        self.from(row).next().filter(|(found, _)| *found == row).map(|(_, id)| id)
    }

    /// All of them from a row on: the row, and what it is a tag of.
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
