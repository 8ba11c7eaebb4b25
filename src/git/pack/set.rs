//! Set of open packs, and the lookup of objects in them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use gix::hash::{Kind as Format, oid};
use memmap2::Mmap;

use super::entries::PackData;
use super::error::{Fault, PackError};
use super::index::Index;

/// Set of checked packs with their indices, mapped into memory. The files must not change while they are open.
#[derive(Debug)]
pub struct PackSet {
    format: Format,
    packs: Vec<Arc<OpenPack>>,
    /// First slot of each pack.
    first_slots: Vec<u64>,
    slots: u64,
    /// Directory for objects that exceed the memory budget.
    spool: PathBuf,
    /// Pack of the last lookup, which likely holds the next object, too.
    recent: AtomicUsize,
}

#[derive(Debug)]
struct OpenPack {
    path: PathBuf,
    map: Mmap,
    index: Index,
    /// Rows of the index by offset, computed on first use.
    order: OnceLock<Vec<u32>>,
}

/// Location of an object in a [`PackSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// Number of the pack, in the order of addition, from 0.
    pub pack: u32,
    /// Row of the object in the pack's index.
    pub row: u32,
}

impl PackSet {
    /// Returns a set without packs.
    pub fn new(format: Format) -> Self {
        let spool = std::env::temp_dir();
        PackSet { format, packs: Vec::new(), first_slots: Vec::new(), slots: 0, spool, recent: AtomicUsize::new(0) }
    }

    /// Sets the directory for unnamed files of objects that exceed the memory budget; by default the system's temporary
    /// directory.
    pub fn with_spool(self, spool: PathBuf) -> Self {
        PackSet { spool, ..self }
    }

    /// Opens a pack and its index. Their checksums are compared with each other but not with their content.
    pub fn add(&mut self, pack: &Path, index: &Path) -> Result<(), PackError> {
        let open = || {
            let file = File::open(pack).map_err(Fault::io("open it"))?;
            self.open(pack, &file, Index::open(index, self.format)?)
        };
        let open = open().map_err(|fault| fault.of(pack))?;
        self.push(Arc::new(open));
        Ok(())
    }

    /// Adds a pack and its index from open files; `path` is the name of the pack in errors.
    pub fn add_files(&mut self, path: &Path, pack: &File, index: &File) -> Result<(), PackError> {
        let open = Index::of_file(index, path, self.format).and_then(|index| self.open(path, pack, index));
        let open = open.map_err(|fault| fault.of(path))?;
        self.push(Arc::new(open));
        Ok(())
    }

    /// Opens a set of packs, in this order. Packs that are open in `known` are shared, as a path always names the same
    /// file.
    pub fn of<'a>(
        format: Format,
        packs: impl Iterator<Item = (&'a Path, &'a Path)>,
        known: Option<&PackSet>,
    ) -> Result<Self, PackError> {
        // By the bytes of the path: paths hash by component, which takes far longer.
        let open: HashMap<&OsStr, &Arc<OpenPack>> =
            known.into_iter().flat_map(|set| &set.packs).map(|pack| (pack.path.as_os_str(), pack)).collect();
        let mut set = PackSet::new(format);
        for (pack, index) in packs {
            match open.get(pack.as_os_str()) {
                Some(known) => set.push(Arc::clone(known)),
                None => set.add(pack, index)?,
            }
        }
        Ok(set)
    }

    fn push(&mut self, pack: Arc<OpenPack>) {
        self.first_slots.push(self.slots);
        self.slots += u64::from(pack.index.objects());
        self.packs.push(pack);
    }

    fn open(&self, path: &Path, file: &File, index: Index) -> Result<OpenPack, Fault> {
        if file.metadata().map_err(Fault::io("read its size"))?.len() == 0 {
            return Err(Fault::File("it is empty".into()));
        }
        // SAFETY: the file is in a private spool or in a store that never rewrites a file.
        let map = unsafe { Mmap::map(file) }.map_err(Fault::io("map it"))?;
        let pack = PackData::new(&map, self.format)?;
        if index.pack_checksum() != pack.trailer() || index.objects() != pack.objects {
            return Err(Fault::Index(format!("it is the index of pack {}", index.pack_checksum())));
        }
        Ok(OpenPack { path: path.to_owned(), map, index, order: OnceLock::new() })
    }

    /// Object format of the ids.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Number of packs.
    pub fn len(&self) -> usize {
        self.packs.len()
    }

    /// Returns true if the set has no packs.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Indices of the packs, in the order of addition.
    pub fn indices(&self) -> impl Iterator<Item = &Index> {
        self.packs.iter().map(|pack| &pack.index)
    }

    /// Finds an object. If several packs hold the object, any of them may be returned.
    pub fn locate(&self, id: &oid) -> Option<Location> {
        let recent = self.recent.load(Ordering::Relaxed);
        let order = std::iter::once(recent).chain((0..self.packs.len()).filter(|at| *at != recent));
        for at in order {
            if let Some(row) = self.packs.get(at).and_then(|pack| pack.index.row_of(id)) {
                if at != recent {
                    self.recent.store(at, Ordering::Relaxed);
                }
                return Some(Location { pack: at as u32, row });
            }
        }
        None
    }

    /// Finds an object in the first pack that holds it: always the same location.
    ///
    /// The delta base of an object is in the same pack, so the first location of the base is in that pack or in an
    /// earlier one: following deltas from first location to first location never forms a cycle.
    pub fn locate_first(&self, id: &oid) -> Option<Location> {
        let row =
            |(at, pack): (usize, &Arc<OpenPack>)| pack.index.row_of(id).map(|row| Location { pack: at as u32, row });
        self.packs.iter().enumerate().find_map(row)
    }

    /// Rows of a pack's index in the order of their entries in the pack. Computed once and kept for the lifetime of the
    /// set (four bytes per object).
    pub(crate) fn order(&self, pack: u32) -> Result<&[u32], Fault> {
        let pack = self.pack(pack)?;
        Ok(pack.order.get_or_init(|| {
            let mut rows: Vec<(u64, u32)> =
                (0..pack.index.objects()).map(|row| (pack.index.offset(row).unwrap_or(u64::MAX), row)).collect();
            rows.sort_unstable();
            rows.into_iter().map(|(_, row)| row).collect()
        }))
    }

    /// Row of the entry at an offset.
    pub(crate) fn row_at(&self, pack: u32, offset: u64) -> Result<u32, Fault> {
        let order = self.order(pack)?;
        let index = self.index(pack)?;
        let found = order.binary_search_by_key(&offset, |row| index.offset(*row).unwrap_or(u64::MAX));
        let row = found.ok().and_then(|at| order.get(at).copied());
        row.ok_or_else(|| Fault::Index(format!("no object is at offset {offset}")))
    }

    /// Offset at which the entries of a pack end and the trailer begins.
    pub(crate) fn end(&self, pack: u32) -> Result<u64, Fault> {
        Ok(self.data(pack)?.end())
    }

    /// Bytes of a pack in a range of offsets.
    pub(crate) fn bytes(&self, pack: u32, range: std::ops::Range<u64>) -> Result<&[u8], Fault> {
        let file = &self.pack(pack)?.map;
        let range = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let bytes = range.and_then(|(from, to)| file.get(from..to));
        bytes.ok_or_else(|| Fault::Index("its offsets do not ascend within the pack".into()))
    }

    /// Returns true if a pack of the set holds the object.
    pub fn contains(&self, id: &oid) -> bool {
        self.locate(id).is_some()
    }

    /// Number of slots: [`PackSet::slot`] returns smaller numbers.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// Slot of a location. Slots number all locations from 0 without gaps, for tables of objects.
    ///
    /// # Panics
    /// If the location is of another set, with more packs.
    pub fn slot(&self, location: Location) -> u64 {
        self.first_slots[location.pack as usize] + u64::from(location.row)
    }

    /// Location of a slot.
    pub fn at_slot(&self, slot: u64) -> Option<Location> {
        let pack = self.first_slots.partition_point(|first| *first <= slot).checked_sub(1)?;
        // An empty pack shares its first slot with the next pack; the last of them holds the slot.
        let row = u32::try_from(slot - self.first_slots[pack]).ok()?;
        (row < self.packs[pack].index.objects()).then_some(Location { pack: pack as u32, row })
    }

    /// Id of the object at a location.
    pub fn id(&self, location: Location) -> Option<&oid> {
        let index = &self.packs.get(location.pack as usize)?.index;
        (location.row < index.objects()).then(|| index.id(location.row))
    }

    /// Index of a pack.
    pub(super) fn index(&self, pack: u32) -> Result<&Index, Fault> {
        Ok(&self.pack(pack)?.index)
    }

    /// Content of a pack.
    pub(super) fn data(&self, pack: u32) -> Result<PackData<'_>, Fault> {
        PackData::new(&self.pack(pack)?.map, self.format)
    }

    /// Directory for objects that exceed the memory budget.
    pub(super) fn spool(&self) -> &Path {
        &self.spool
    }

    fn pack(&self, number: u32) -> Result<&OpenPack, Fault> {
        let pack = self.packs.get(number as usize).map(|pack| &**pack);
        pack.ok_or_else(|| Fault::File(format!("there is no pack number {number} in the set")))
    }

    /// Adds the path of a pack to a fault.
    pub(crate) fn blame(&self, number: u32, fault: Fault) -> PackError {
        fault.of(self.packs.get(number as usize).map_or(Path::new("?"), |pack| &pack.path))
    }
}
