//! [`Chunk`]: a run of consecutive refs, shared by all versions of a table in which the run is the same.

use std::sync::{Arc, OnceLock};

use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};
use gix::hash::{Kind as Format, oid};
use gix::objs::Kind;

use super::peel::peel;
use crate::pack::{Finder, PackError, PackSet};
use crate::refs::{RefName, RefValue};

/// Target number of refs in a chunk. Edits that grow a chunk to twice as many split it.
pub(super) const CHUNK_REFS: usize = 256;

/// Rows of a chunk whose refs name tags, ascending, each with the peeled target of its tag.
pub(super) type Peeled = Arc<Vec<(u32, ObjectId)>>;

/// A ref cannot be appended to a [`RefTable`](super::RefTable).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ref {name} does not follow the one before it, or its value has another object format")]
pub struct OutOfOrder {
    /// Name of the rejected ref.
    pub name: RefName,
}

/// Consecutive refs in the order of their names; about 60 bytes per ref.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    format: Format,
    /// Concatenated names.
    names: Vec<u8>,
    /// End offset of each name in `names`.
    ends: Vec<u32>,
    /// Concatenated raw ids; null for symbolic refs.
    ids: Vec<u8>,
    /// Rows of symbolic refs, ascending, with their targets.
    symbolic: Vec<(u32, RefName)>,
    peeled: OnceLock<Peeled>,
    /// Peeled tags that the chunk this one derives from had already resolved.
    inherited: Option<Inherited>,
}

/// Peeled tags carried over from an older chunk. A row in neither list is known to name no tag.
#[derive(Clone, Debug, Default)]
struct Inherited {
    tags: Vec<(u32, ObjectId)>,
    /// Rows that have not been peeled yet, ascending.
    unknown: Vec<u32>,
}

impl Chunk {
    pub(super) fn new(format: Format) -> Self {
        Chunk {
            format,
            names: Vec::new(),
            ends: Vec::new(),
            ids: Vec::new(),
            symbolic: Vec::new(),
            peeled: OnceLock::new(),
            inherited: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn is_full(&self) -> bool {
        // Name offsets have 32 bits. A full chunk of names of the maximal length stays far below that.
        self.len() >= CHUNK_REFS || self.names.len() > (u32::MAX / 2) as usize
    }

    pub(super) fn name(&self, row: usize) -> Option<&BStr> {
        let end = *self.ends.get(row)? as usize;
        let start = row.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())? as usize;
        self.names.get(start..end).map(ByteSlice::as_bstr)
    }

    pub(super) fn last_name(&self) -> Option<&BStr> {
        self.name(self.len().checked_sub(1)?)
    }

    /// Returns the id in a row; null for a symbolic ref.
    pub(super) fn id(&self, row: usize) -> Option<&oid> {
        let width = self.format.len_in_bytes();
        self.ids.get(row * width..(row + 1) * width).map(oid::from_bytes_unchecked)
    }

    pub(super) fn symbolic_target(&self, row: usize) -> Option<&BStr> {
        let at = self.symbolic.binary_search_by_key(&row, |(row, _)| *row as usize).ok()?;
        self.symbolic.get(at).map(|(_, target)| target.as_bstr())
    }

    /// Returns the first row for whose name `before` is false. `before` must be monotonic: true, then false.
    pub(super) fn first_row(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let mut low = 0;
        let mut high = self.len();
        while low < high {
            let middle = low + (high - low) / 2;
            if self.name(middle).is_some_and(|name| before(name)) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Appends a ref. Fails if the name does not ascend or the id has another object format.
    pub(super) fn push(&mut self, name: RefName, value: RefValue) -> Result<(), OutOfOrder> {
        let ascends = self.last_name().is_none_or(|last| last < name.as_bstr());
        if !ascends || value.object().is_some_and(|id| id.kind() != self.format) {
            return Err(OutOfOrder { name });
        }
        match value {
            RefValue::Object(id) => self.push_raw(&name, id.as_slice()),
            RefValue::Symbolic(target) => {
                self.symbolic.push((self.ends.len() as u32, target));
                self.push_raw(&name, self.format.null_ref().as_bytes());
            }
        }
        if let Some(inherited) = &mut self.inherited {
            inherited.unknown.push(self.ends.len() as u32 - 1);
        }
        self.peeled = OnceLock::new();
        Ok(())
    }

    fn push_raw(&mut self, name: &[u8], id: &[u8]) {
        self.names.extend_from_slice(name);
        self.ids.extend_from_slice(id);
        let Ok(end) = u32::try_from(self.names.len()) else {
            unreachable!("chunks are split before their names exceed 4 GiB");
        };
        self.ends.push(end);
    }

    /// Appends the ref in a row of another chunk together with its peeled target, if that is known. The caller
    /// keeps names ascending.
    pub(super) fn push_from(&mut self, other: &Chunk, row: usize) {
        debug_assert!(row < other.len(), "row {row} is one of the {} rows of the other chunk", other.len());
        let (Some(name), Some(id)) = (other.name(row), other.id(row)) else { return };
        debug_assert!(self.last_name().is_none_or(|last| last < name), "names in a chunk ascend");
        let own_row = self.ends.len() as u32;
        self.push_raw(name, id.as_bytes());
        if id.is_null()
            && let Ok(at) = other.symbolic.binary_search_by_key(&row, |(row, _)| *row as usize)
            && let Some((_, target)) = other.symbolic.get(at)
        {
            self.symbolic.push((own_row, target.clone()));
        }
        let inherited = self.inherited.get_or_insert_with(Inherited::default);
        match other.known_tag(row) {
            Some(Some(peeled)) => inherited.tags.push((own_row, peeled)),
            Some(None) => {}
            None => inherited.unknown.push(own_row),
        }
        self.peeled = OnceLock::new();
    }

    /// Creates an empty chunk that takes over peeled tags of the refs appended with [`Chunk::push_from`].
    pub(super) fn derived(format: Format) -> Self {
        Chunk { inherited: Some(Inherited::default()), ..Chunk::new(format) }
    }

    /// Returns the peeled target in a row, `Some(None)` if the ref names no tag, and `None` if that is not known yet.
    fn known_tag(&self, row: usize) -> Option<Option<ObjectId>> {
        let find = |tags: &[(u32, ObjectId)]| {
            tags.binary_search_by_key(&row, |(row, _)| *row as usize)
                .ok()
                .and_then(|at| tags.get(at))
                .map(|(_, id)| *id)
        };
        if let Some(peeled) = self.peeled.get() {
            return Some(find(peeled));
        }
        let inherited = self.inherited.as_ref()?;
        let unknown = inherited.unknown.binary_search_by_key(&row, |row| *row as usize).is_ok();
        (!unknown).then(|| find(&inherited.tags))
    }

    /// Returns the peeled tags of the chunk. Reads the objects of unknown rows on the first call only.
    pub(super) fn peeled(&self, packs: &PackSet, finder: &mut Finder<'_>) -> Result<Peeled, PackError> {
        if let Some(peeled) = self.peeled.get() {
            return Ok(peeled.clone());
        }
        let mut all = Vec::new();
        for row in 0..self.len() {
            if let Some(known) = self.known_tag(row) {
                all.extend(known.map(|id| (row as u32, id)));
                continue;
            }
            let Some(id) = self.id(row).filter(|id| !id.is_null()) else { continue };
            let Some(location) = packs.locate(id) else { continue };
            if finder.kind(location)? == Kind::Tag {
                all.extend(peel(packs, finder, id)?.map(|id| (row as u32, id)));
            }
        }
        Ok(self.peeled.get_or_init(|| Arc::new(all)).clone())
    }
}
