//! Packs that are open together, and where objects lie in them.

mod finder;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use gix::hash::{Kind as Format, oid};
use memmap2::Mmap;

use super::entries::PackData;
use super::error::{Fault, PackError};
use super::index::Index;
use super::inflate::Inflater;
pub use finder::{Finder, Object};
pub(crate) use finder::{RawEntry, Stored};

/// Checked packs with their indices, mapped into memory; the files must not change while they are open.
#[derive(Debug)]
pub struct PackSet {
    format: Format,
    packs: Vec<Arc<OpenPack>>,
    /// The first slot of each pack.
    first_slots: Vec<u64>,
    slots: u64,
    /// Folder for objects that are read while memory is short.
    spool: PathBuf,
    /// The pack where an object was found last: the next one is likely there too.
    recent: AtomicUsize,
}

#[derive(Debug)]
struct OpenPack {
    path: PathBuf,
    map: Mmap,
    index: Index,
    /// Rows of the index by offset; made when it is needed first.
    order: OnceLock<Vec<u32>>,
}

/// Where an object lies in a [`PackSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// Which pack, in the order in which they were added.
    pub pack: u32,
    /// The object's row in the pack's index.
    pub row: u32,
}

impl PackSet {
    /// A set without packs.
    pub fn new(format: Format) -> Self {
        let spool = std::env::temp_dir();
        PackSet { format, packs: Vec::new(), first_slots: Vec::new(), slots: 0, spool, recent: AtomicUsize::new(0) }
    }

    /// The same set, which has unnamed files of objects that find no room in memory in this folder rather than in the
    /// system's.
    pub fn with_spool(self, spool: PathBuf) -> Self {
        PackSet { spool, ..self }
    }

    /// Opens a pack. Their checksums are compared with each other but not with their content.
    pub fn add(&mut self, pack: &Path, index: &Path) -> Result<(), PackError> {
        let open = || {
            let file = File::open(pack).map_err(Fault::io("open it"))?;
            self.open(pack, &file, Index::open(index, self.format)?)
        };
        let open = open().map_err(|fault| fault.of(pack))?;
        self.push(Arc::new(open));
        Ok(())
    }

    /// The same for files that are open already; `path` is the name of the pack in errors.
    pub fn add_files(&mut self, path: &Path, pack: &File, index: &File) -> Result<(), PackError> {
        let open = Index::of_file(index, path, self.format).and_then(|index| self.open(path, pack, index));
        let open = open.map_err(|fault| fault.of(path))?;
        self.push(Arc::new(open));
        Ok(())
    }

    /// A set of packs, in this order. Those that `known` has open are not opened again: a file under one path is
    /// always the same.
    pub fn of<'a>(
        format: Format,
        packs: impl Iterator<Item = (&'a Path, &'a Path)>,
        known: Option<&PackSet>,
    ) -> Result<Self, PackError> {
        let open: HashMap<&Path, &Arc<OpenPack>> =
            known.into_iter().flat_map(|set| &set.packs).map(|pack| (pack.path.as_path(), pack)).collect();
        let mut set = PackSet::new(format);
        for (pack, index) in packs {
            match open.get(pack) {
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
        // SAFETY: the file lies in a private spool or in a store that never rewrites a file.
        let map = unsafe { Mmap::map(file) }.map_err(Fault::io("map it"))?;
        let pack = PackData::new(&map, self.format)?;
        if index.pack_checksum() != pack.trailer() || index.objects() != pack.objects {
            return Err(Fault::Index(format!("it is the index of pack {}", index.pack_checksum())));
        }
        Ok(OpenPack { path: path.to_owned(), map, index, order: OnceLock::new() })
    }

    /// The hash that ids are made with.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many packs there are.
    pub fn len(&self) -> usize {
        self.packs.len()
    }

    /// Whether there are no packs.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// The indices, in the order in which packs were added.
    pub fn indices(&self) -> impl Iterator<Item = &Index> {
        self.packs.iter().map(|pack| &pack.index)
    }

    /// Finds an object. One that is in several packs may be found in any of them.
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

    /// Finds an object in the first pack that has it: always the same place.
    ///
    /// What lies first in one pack has its delta base in that pack, so first or in an earlier one: following
    /// deltas from first place to first place never leads in a circle.
    pub fn locate_first(&self, id: &oid) -> Option<Location> {
        let row =
            |(at, pack): (usize, &Arc<OpenPack>)| pack.index.row_of(id).map(|row| Location { pack: at as u32, row });
        self.packs.iter().enumerate().find_map(row)
    }

    /// The rows of a pack's index in the order in which their entries lie in the pack. Sorted once and then
    /// kept (four bytes an object) as long as the set lives.
    pub(crate) fn order(&self, pack: u32) -> Result<&[u32], Fault> {
        let pack = self.pack(pack)?;
        Ok(pack.order.get_or_init(|| {
            let mut rows: Vec<(u64, u32)> =
                (0..pack.index.objects()).map(|row| (pack.index.offset(row).unwrap_or(u64::MAX), row)).collect();
            rows.sort_unstable();
            rows.into_iter().map(|(_, row)| row).collect()
        }))
    }

    /// The row of the entry at an offset.
    pub(crate) fn row_at(&self, pack: u32, offset: u64) -> Result<u32, Fault> {
        let (order, index) = (self.order(pack)?, &self.pack(pack)?.index);
        let found = order.binary_search_by_key(&offset, |row| index.offset(*row).unwrap_or(u64::MAX));
        let row = found.ok().and_then(|at| order.get(at).copied());
        row.ok_or_else(|| Fault::Index(format!("no object is at offset {offset}")))
    }

    /// Where entries of a pack end and its trailer begins.
    pub(crate) fn end(&self, pack: u32) -> Result<u64, Fault> {
        Ok(PackData::new(&self.pack(pack)?.map, self.format)?.end())
    }

    /// Bytes of a pack, from its beginning.
    pub(crate) fn bytes(&self, pack: u32, range: std::ops::Range<u64>) -> Result<&[u8], Fault> {
        let file = &self.pack(pack)?.map;
        let range = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let bytes = range.and_then(|(from, to)| file.get(from..to));
        bytes.ok_or_else(|| Fault::Index("its offsets do not ascend within the pack".into()))
    }

    /// Whether an object is there.
    pub fn contains(&self, id: &oid) -> bool {
        self.locate(id).is_some()
    }

    /// How many numbers [`PackSet::slot`] gives.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// Numbers locations from 0 without gaps, for tables of objects.
    pub fn slot(&self, location: Location) -> u64 {
        self.first_slots.get(location.pack as usize).copied().unwrap_or(0) + u64::from(location.row)
    }

    /// The location with a number.
    pub fn at_slot(&self, slot: u64) -> Option<Location> {
        let pack = self.first_slots.partition_point(|first| *first <= slot).checked_sub(1)?;
        // Packs without objects share their number with the next pack; the last one of them is meant.
        let row = u32::try_from(slot - self.first_slots[pack]).ok()?;
        (row < self.packs[pack].index.objects()).then_some(Location { pack: pack as u32, row })
    }

    /// The id of an object.
    pub fn id(&self, location: Location) -> Option<&oid> {
        let index = &self.packs.get(location.pack as usize)?.index;
        (location.row < index.objects()).then(|| index.id(location.row))
    }

    /// Starts reading objects. Every thread needs its own.
    pub fn finder(&self) -> Result<Finder<'_>, Fault> {
        Ok(Finder::new(self, Inflater::new().map_err(|e| Fault::File(e.into()))?))
    }

    fn pack(&self, number: u32) -> Result<&OpenPack, Fault> {
        let pack = self.packs.get(number as usize).map(|pack| &**pack);
        pack.ok_or_else(|| Fault::File(format!("there is no pack number {number}")))
    }

    /// Names the pack that a fault is about.
    pub(crate) fn blame(&self, number: u32, fault: Fault) -> PackError {
        fault.of(self.packs.get(number as usize).map_or(Path::new("?"), |pack| &pack.path))
    }
}
