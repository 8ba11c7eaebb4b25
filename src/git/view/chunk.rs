//! A run of refs, shared by all tables that it has not changed in.

use std::sync::{Arc, OnceLock};

use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};
use gix::hash::{Kind as Format, oid};
use gix::objs::Kind;

use super::{peel, table::OutOfOrder};
use crate::pack::{Finder, PackError, PackSet};
use crate::refs::{RefName, RefValue};

/// Refs of a chunk; one that has grown to twice as many is divided.
pub(super) const CHUNK_REFS: usize = 256;

/// The tags among the refs of a chunk, by row, with what they are tags of in the end.
pub(super) type Peeled = Arc<Vec<(u32, ObjectId)>>;

/// Consecutive refs, compact: about 60 bytes a ref.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    format: Format,
    /// All names, one behind the other.
    names: Vec<u8>,
    /// The end of each name in `names`.
    ends: Vec<u32>,
    /// Raw ids; null for symbolic refs.
    ids: Vec<u8>,
    /// The symbolic refs by row.
    symbolic: Vec<(u32, RefName)>,
    peeled: OnceLock<Peeled>,
    /// Knowledge about tags from the chunk that this one was made of.
    inherited: Option<Inherited>,
}

/// Rows are either known or listed as unknown.
#[derive(Clone, Debug, Default)]
struct Inherited {
    tags: Vec<(u32, ObjectId)>,
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
        // Ends are numbers of 32 bits; names are far shorter in any repository that is real.
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

    /// The id in a row; null for a symbolic ref.
    pub(super) fn id(&self, row: usize) -> Option<&oid> {
        let width = self.format.len_in_bytes();
        self.ids.get(row * width..(row + 1) * width).map(oid::from_bytes_unchecked)
    }

    pub(super) fn symbolic_target(&self, row: usize) -> Option<&BStr> {
        let at = self.symbolic.binary_search_by_key(&row, |(row, _)| *row as usize).ok()?;
        self.symbolic.get(at).map(|(_, target)| target.as_bstr())
    }

    /// The first row that `before` is not true for; it must be true for none behind that.
    pub(super) fn first_row(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.name(middle).is_some_and(|name| before(name)) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Appends a ref.
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
        self.ends.push(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
    }

    /// Appends a ref of another chunk, which stands behind all that are here, with what is known of it.
    pub(super) fn push_from(&mut self, other: &Chunk, row: usize) {
        let (Some(name), Some(id)) = (other.name(row), other.id(row)) else { return };
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

    /// An empty chunk to which refs of an older one will be appended.
    pub(super) fn heir(format: Format) -> Self {
        Chunk { inherited: Some(Inherited::default()), ..Chunk::new(format) }
    }

    /// The target of the tag in a row, or that there is none; `None` where no request has looked.
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

    /// The tags among its refs; looked up once.
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
