//! Objects in imports: selects new objects of the source, brings them in as packs, and proves connectivity below every
//! ref. Blocking.
//!
//! A pack of the source that is mostly new is copied as it is; the new objects of all other packs, and the loose ones,
//! become one pack. Selection compares object ids, never file names.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gix::ObjectId;
use gix::objs::Kind;
use tempfile::TempPath;

use crate::region::local::LocalPacks;
use crate::region::manifest::MAX_PACKS;
use crate::region::new_pack::NewPack;
use crate::region::{RegionError, Result};
use gitferry_base::counter::Counter;
use gitferry_git::connectivity::missing_from;
use gitferry_git::lfs::{MAX_POINTERS, Pointer};
use gitferry_git::limits::MAX_TREE_DEPTH;
use gitferry_git::local::{LooseEntry, SourcePack, SourceRepository};
use gitferry_git::pack::{CheckProgress, FindLoose, Index, LooseObject, PackError, PackSet, gather};
use gitferry_git::receive_pack::{tag_too_deep, too_deep};
use gitferry_store::objects::{Crc64, Crc64Hasher};

/// A pack is copied whole if at least one object in this many is new.
const WHOLE_PACK_SHARE: u64 = 2;
/// Number of packs in a manifest up to which an import copies whole packs; beyond, an import adds one pack. The
/// remaining room is for later changes.
const WHOLE_PACKS: usize = MAX_PACKS / 2;
/// Most larger, selected packs with which a pack is compared: Git packs seldom overlap.
const COMPARED_PACKS: usize = 8;
/// Size of the copy buffer in bytes.
const COPY_BYTES: usize = 1024 * 1024;
/// Most missing objects that an error names.
const NAMED_MISSING: usize = 10;

/// Progress of an import. Any thread may read it.
#[derive(Debug, Default)]
pub struct ImportProgress {
    /// Bytes of packs to copy.
    pub bytes: Counter,
    /// Bytes of packs copied.
    pub bytes_done: Counter,
    check: Mutex<Arc<CheckProgress>>,
}

impl ImportProgress {
    /// Returns the progress of the current or last pack check.
    pub fn check(&self) -> Arc<CheckProgress> {
        self.check.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn next_check(&self) -> Arc<CheckProgress> {
        let next = Arc::new(CheckProgress::default());
        if let Ok(mut check) = self.check.lock() {
            *check = next.clone();
        }
        next
    }
}

/// The object work of one import.
pub(super) struct Intake {
    pub source: Arc<SourceRepository>,
    pub repository: String,
    pub held: LocalPacks,
    /// Objects that refs and HEAD will name.
    pub tips: Vec<ObjectId>,
    pub spool: PathBuf,
    pub progress: Arc<ImportProgress>,
}

/// Treatment of the source's packs.
struct Selection {
    whole: Vec<SourcePack>,
    /// Packs with some new objects, to be gathered into one.
    partial: Vec<SourcePack>,
}

/// Makes an error about a temporary file name the pack of the source.
fn named(error: RegionError, origin: &Path) -> RegionError {
    match error {
        RegionError::Pack(error) => RegionError::Pack(PackError { path: origin.into(), ..error }),
        error => error,
    }
}

impl Intake {
    /// Brings in new objects and proves connectivity. Returns the new packs, and the LFS pointers in new blobs.
    pub fn run(self) -> Result<(Vec<NewPack>, Vec<Pointer>)> {
        let held = self.open_set(self.held.packs.iter().map(|pack| (pack.pack.as_path(), pack.index.as_path())))?;
        let loose = self.loose_candidates(&held)?;
        let selection = self.select(&held)?;
        let mut packs = Vec::new();
        for pack in &selection.whole {
            packs.push(self.copy_whole(pack)?);
        }
        let mut pointers = Vec::new();
        for pack in &packs {
            pointers.extend(self.new_pointers(pack, &held)?);
        }
        let mut here = held;
        for pack in &packs {
            here.add(&pack.file, &pack.index)?;
        }
        if let Some(pack) = self.gather_rest(&here, loose, &selection.partial)? {
            pointers.extend(self.new_pointers(&pack, &here)?);
            here.add(&pack.file, &pack.index)?;
            packs.push(pack);
        }
        if let Some(pack) = self.empty_tree(&packs, &here)? {
            here.add(&pack.file, &pack.index)?;
            packs.push(pack);
        }
        self.prove(&mut packs, &here)?;
        self.check_depths(&packs)?;
        pointers.sort_unstable();
        pointers.dedup();
        Ok((packs, pointers))
    }

    /// Refuses histories and trees that are too deep to be served, by the limits of a push.
    fn check_depths(&self, packs: &[NewPack]) -> Result<()> {
        let format = self.source.object_format();
        let held = self.open_set(self.held.packs.iter().map(|pack| (pack.pack.as_path(), pack.index.as_path())))?;
        let new = self.open_set(packs.iter().map(|pack| (&*pack.file, &*pack.index)))?;
        let tips = self.tips.iter().copied();
        // Links that the pack check found prove most packs: their trees are not read again.
        let found = if packs.iter().all(|pack| pack.checked.proves_tree_levels(MAX_TREE_DEPTH)) {
            tag_too_deep(&held, &new, format, tips)?
        } else {
            too_deep(&held, &new, format, tips)?
        };
        let Some(found) = found else { return Ok(()) };
        let mut of = "HEAD".to_owned();
        for (name, tip) in self.name_tips(self.tips.clone())? {
            if too_deep(&held, &new, format, [tip])? == Some(found) {
                of = name;
                break;
            }
        }
        let reason = format!("{of} cannot be served: {found}; leave that ref out with --refs");
        Err(RegionError::Refused { repository: self.repository.clone(), reason })
    }

    /// Returns the LFS pointers in blobs of a pack that are not present yet.
    fn new_pointers(&self, pack: &NewPack, here: &PackSet) -> Result<Vec<Pointer>> {
        let pointers = &pack.checked.pointers;
        if pointers.more {
            let reason = format!("one of its packs has more than {MAX_POINTERS} pointers of Git LFS");
            return Err(RegionError::Refused { repository: self.repository.clone(), reason });
        }
        Ok(pointers.of_blobs(|blob| !here.contains(blob)))
    }

    fn open_set<'a>(&self, packs: impl Iterator<Item = (&'a Path, &'a Path)>) -> Result<PackSet> {
        let mut set = PackSet::new(self.source.object_format());
        for (pack, index) in packs {
            set.add(pack, index)?;
        }
        Ok(set)
    }

    /// Returns the loose objects that the region does not hold.
    fn loose_candidates(&self, held: &PackSet) -> Result<Vec<LooseEntry>> {
        let entries = self.source.loose_objects();
        let new = entries.filter(|entry| entry.as_ref().map_or(true, |entry| !held.contains(&entry.id)));
        Ok(new.collect::<std::result::Result<_, _>>()?)
    }

    /// Sorts the source's packs by their share of new objects: neither held nor in a larger pack that is selected.
    fn select(&self, held: &PackSet) -> Result<Selection> {
        let mut selection = Selection { whole: Vec::new(), partial: Vec::new() };
        let mut larger: Vec<Index> = Vec::new();
        // The largest packs stay separate; the rest is gathered if the manifest would be too long.
        let room = WHOLE_PACKS.saturating_sub(self.held.packs.len() + 1);
        for (index, pack) in self.unknown_packs()? {
            let known =
                |id: &gix::hash::oid| held.contains(id) || larger.iter().any(|larger| larger.row_of(id).is_some());
            let new = if held.is_empty() && larger.is_empty() {
                u64::from(index.objects())
            } else {
                (0..index.objects()).filter(|row| !known(index.id(*row))).count() as u64
            };
            let mostly_new = new >= u64::from(index.objects()).div_ceil(WHOLE_PACK_SHARE).max(1);
            if mostly_new && selection.whole.len() < room {
                selection.whole.push(pack);
                if larger.len() < COMPARED_PACKS {
                    larger.push(index);
                }
            } else if new > 0 {
                selection.partial.push(pack);
            }
        }
        Ok(selection)
    }

    /// Returns the packs of the source that the region does not hold under the same checksum, largest first.
    fn unknown_packs(&self) -> Result<Vec<(Index, SourcePack)>> {
        let mut seen: HashSet<ObjectId> = self.held.packs.iter().map(|pack| pack.live.id).collect();
        let mut packs = Vec::new();
        for pack in self.source.packs()? {
            let index = Index::of_file(&pack.open_index()?, &pack.index, self.source.object_format());
            let index = index.map_err(|fault| fault.of(&pack.index))?;
            if seen.insert(index.pack_checksum().to_owned()) {
                packs.push((index, pack));
            }
        }
        packs.sort_by(|(a, pack), (b, other)| b.objects().cmp(&a.objects()).then_with(|| pack.pack.cmp(&other.pack)));
        Ok(packs)
    }

    /// Copies a pack as it is and checks the copy.
    fn copy_whole(&self, pack: &SourcePack) -> Result<NewPack> {
        self.progress.bytes.add(pack.bytes);
        let (file, crc64) = self.copy(&mut pack.open_pack()?)?;
        let (hint, _) = self.copy(&mut pack.open_index()?)?;
        self.check(file, crc64, Some(&hint), &pack.pack)
    }

    fn copy(&self, input: &mut File) -> Result<(TempPath, Crc64)> {
        use std::io::{Read as _, Write as _};
        let mut out = tempfile::NamedTempFile::new_in(&self.spool)?;
        let mut crc64 = Crc64Hasher::default();
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let count = input.read(&mut buffer)?;
            if count == 0 {
                return Ok((out.into_temp_path(), crc64.finish()));
            }
            crc64.update(&buffer[..count]);
            out.write_all(&buffer[..count])?;
            self.progress.bytes_done.add(count as u64);
        }
    }

    fn check(&self, file: TempPath, crc64: Crc64, hint: Option<&Path>, origin: &Path) -> Result<NewPack> {
        let checked = NewPack::check(file, crc64, hint, self.source.object_format(), &self.progress.next_check());
        checked.map_err(|error| named(error, origin))
    }

    /// Gathers loose objects and the new objects of partly known packs into one pack.
    fn gather_rest(&self, here: &PackSet, loose: Vec<LooseEntry>, partial: &[SourcePack]) -> Result<Option<NewPack>> {
        let mut from = PackSet::new(self.source.object_format());
        for pack in partial {
            from.add_files(&pack.pack, &pack.open_pack()?, &pack.open_index()?)?;
        }
        let mut wanted: Vec<ObjectId> = loose.iter().map(|entry| entry.id).collect();
        for index in from.indices() {
            wanted.extend((0..index.objects()).map(|row| index.id(row).to_owned()));
        }
        wanted.retain(|id| !here.contains(id));
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(None);
        }
        let mut find = |id: &gix::hash::oid| {
            let Ok(at) = loose.binary_search_by(|entry| entry.id.as_ref().cmp(id)) else { return Ok(None) };
            let object = loose[at].open().map_err(std::io::Error::other)?;
            Ok(Some(LooseObject { kind: object.kind, size: object.size, data: Box::new(object) }))
        };
        self.gather(&wanted, &from, &mut find).map(Some)
    }

    fn gather(&self, wanted: &[ObjectId], from: &PackSet, find: &mut FindLoose<'_>) -> Result<NewPack> {
        let dir = tempfile::TempDir::new_in(&self.spool)?;
        let path = dir.path().join("gathered.pack");
        let gathered = gather(wanted, from, find, &path)?;
        let file = tempfile::NamedTempFile::new_in(&self.spool)?.into_temp_path();
        std::fs::rename(&path, &file)?;
        let crc64 = gitferry_base::checksum::file_crc64(&file)?;
        let progress = self.progress.next_check();
        let checked = NewPack::check_gathered(file, crc64, &gathered, self.source.object_format(), &progress);
        checked.map_err(|error| named(error, self.source.path()))
    }

    /// Makes a pack of the empty tree if an object links to it and no pack has it: Git has the empty tree built in, and
    /// repositories need not hold it.
    fn empty_tree(&self, packs: &[NewPack], here: &PackSet) -> Result<Option<NewPack>> {
        let id = ObjectId::empty_tree(self.source.object_format());
        let links =
            |pack: &NewPack| pack.checked.unresolved.iter().any(|link| link.id == id && link.kind == Kind::Tree);
        if here.contains(&id) || !(self.tips.contains(&id) || packs.iter().any(links)) {
            return Ok(None);
        }
        let mut find =
            |_: &gix::hash::oid| Ok(Some(LooseObject { kind: Kind::Tree, size: 0, data: Box::new(std::io::empty()) }));
        self.gather(&[id], &PackSet::new(self.source.object_format()), &mut find).map(Some)
    }

    /// Decides which packs are closed, and proves that everything below each tip is present.
    fn prove(&self, packs: &mut [NewPack], here: &PackSet) -> Result<()> {
        let format = self.source.object_format();
        // Assume that all sound packs are closed and drop those that are not, until the rest holds: the remaining packs
        // link only to each other.
        for pack in packs.iter_mut() {
            pack.closed = pack.checked.mismatched.is_empty() && pack.checked.unparsable_count == 0;
        }
        let trusted = loop {
            let mut assumed = PackSet::new(format);
            for pack in self.held.packs.iter().filter(|pack| pack.live.closed) {
                assumed.add(&pack.pack, &pack.index)?;
            }
            for pack in packs.iter().filter(|pack| pack.closed) {
                assumed.add(&pack.file, &pack.index)?;
            }
            let open = |pack: &NewPack| pack.checked.unresolved.iter().any(|link| !assumed.contains(&link.id));
            let mut changed = false;
            for pack in packs.iter_mut().filter(|pack| pack.closed) {
                if open(pack) {
                    (pack.closed, changed) = (false, true);
                }
            }
            if !changed {
                break assumed;
            }
        };
        let unproven: Vec<ObjectId> = self.tips.iter().filter(|tip| !trusted.contains(tip)).copied().collect();
        if unproven.is_empty() {
            return Ok(());
        }
        self.walk(unproven, here, &trusted)
    }

    /// Walks from tips outside closed packs. Missing objects are fatal only below a ref.
    fn walk(&self, tips: Vec<ObjectId>, here: &PackSet, trusted: &PackSet) -> Result<()> {
        let named = self.name_tips(tips)?;
        let missing = missing_from(named, here, &|id| trusted.contains(id))?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(RegionError::MissingObjects {
            repository: self.repository.clone(),
            missing: missing.iter().take(NAMED_MISSING).map(ToString::to_string).collect(),
            more: missing.len() > NAMED_MISSING,
        })
    }

    /// Finds a ref of the source for each tip.
    fn name_tips(&self, tips: Vec<ObjectId>) -> Result<Vec<(String, ObjectId)>> {
        let mut left: HashSet<ObjectId> = tips.into_iter().collect();
        let mut named = Vec::with_capacity(left.len());
        for entry in self.source.refs(&gitferry_git::local::RefPatterns::all())? {
            let (name, value) = entry?;
            if let Some(id) = value.object()
                && left.remove(id)
            {
                named.push((name.to_string(), *id));
            }
        }
        named.extend(left.into_iter().map(|id| ("HEAD".to_owned(), id)));
        Ok(named)
    }
}
