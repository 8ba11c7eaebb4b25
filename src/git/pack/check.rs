//! Full check of a pack.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use gix::ObjectId;
use gix::objs::Kind;
use memmap2::Mmap;

use super::arrive::Arrival;
use super::entries::{Boundaries, Families, HEADER_BYTES, PackData};
use super::error::{Fault, PackError};
use super::gather::Gathered;
use super::index::{Index, Lookup, Row, write_index};
use super::link_sink::{Expected, IdTable, LinkSink, Unresolved, resolve};
use super::nesting::{self, Nested};
use super::progress::{CheckOptions, CheckProgress};
use super::resolve::{Ids, Resolver};
use super::threads::{Merged, merge, merge_checkers, mismatched, order_by_id, run};
use crate::fsck::{Checker, Rules};
use crate::lfs::Pointers;
use crate::links::{Link, kind_code};

/// Bytes that are hashed between two checks of [`CheckProgress::cancel`]. Smaller packs are hashed without an extra
/// thread.
const HASH_BYTES: usize = 4 << 20;

/// Pack of which every byte has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedPack {
    /// Checksum in the trailer, which is the pack's id.
    pub id: ObjectId,
    /// Size of the pack in bytes.
    pub bytes: u64,
    /// Number of objects.
    pub objects: u32,
    /// Path of the written index.
    pub index: PathBuf,
    /// Size of the index in bytes.
    pub index_bytes: u64,
    /// Links out of the pack, sorted and without repetition.
    pub unresolved: Vec<Link>,
    /// Objects of the pack that a link expects to be of another kind, with that wrong kind. `git index-pack --strict`
    /// and `git fsck` refuse such packs, plain `git index-pack` accepts them.
    pub mismatched: Vec<Link>,
    /// Trees, commits and tags whose links cannot be parsed; at most [`MAX_LISTED_UNPARSABLE`](super::MAX_LISTED_UNPARSABLE).
    pub unparsable: Vec<ObjectId>,
    /// Number of all such objects.
    pub unparsable_count: u64,
    /// LFS pointers among the blobs.
    pub pointers: Pointers,
    /// Upper bound of the levels of directories below any tree of the pack, through trees of the pack alone; `None` if
    /// the check found no bound.
    pub tree_levels: Option<u16>,
}

impl CheckedPack {
    /// Returns true if every link of every object resolves inside the pack to an object of the right kind.
    pub fn is_closed(&self) -> bool {
        self.unresolved.is_empty() && self.mismatched.is_empty() && self.unparsable_count == 0
    }

    /// Returns true if no tree of the pack has more than `levels` of directories below it. False proves nothing.
    pub fn proves_tree_levels(&self, levels: u32) -> bool {
        let leaves = self.unresolved.iter().any(|link| link.kind == Kind::Tree);
        !leaves && self.tree_levels.is_some_and(|most| u32::from(most) <= levels)
    }
}

/// Checks a pack in full and writes its index (version 2, the bytes that `git index-pack` writes) to
/// `index_out`, not synced.
///
/// The check verifies the header, the number of objects and the trailer. For every entry it verifies that the stream is
/// intact, has the declared size and ends at the start of the next entry, that the base is in the pack, and the hash of
/// the object (with SHA-1, also that the object is not part of a collision attack). Each object must occur once
/// ([`Fault::Duplicate`]), as `git index-pack --strict` demands.
///
/// `hint` is a claimed index of the pack. A hint makes the check faster and is verified in full: its checksum, and its
/// row of every object ([`Fault::Index`]). An index of the obsolete version 1 is ignored.
///
/// After an error `index_out` may exist with any content.
pub fn check_pack(
    pack: &Path,
    hint: Option<&Path>,
    options: &CheckOptions,
    index_out: &Path,
    progress: &CheckProgress,
) -> Result<CheckedPack, PackError> {
    check(pack, hint, options, index_out, progress).map_err(|fault| fault.of(pack))
}

/// Checks a received pack like [`check_pack`], with entry boundaries from `arrival`.
///
/// Since [`arrive`](fn@super::arrive) wrote the file, only [`append_bases`](super::append_bases) may have changed it.
/// Objects are also checked against the fsck `rules`, if given.
pub fn check_arrived<'a>(
    pack: &Path,
    arrival: &Arrival,
    rules: Option<&'a Rules>,
    options: &CheckOptions,
    index_out: &Path,
    progress: &CheckProgress,
) -> Result<(CheckedPack, Option<Checker<'a>>), PackError> {
    let written = Written { id: arrival.trailer, bytes: arrival.bytes, offsets: &arrival.offsets };
    check_written(written, pack, rules, options, index_out, progress).map_err(|fault| fault.of(pack))
}

/// Checks a pack like [`check_pack`] that [`gather`](fn@super::gather) has just written, with its entry boundaries.
pub fn check_gathered(
    pack: &Path,
    gathered: &Gathered,
    options: &CheckOptions,
    index_out: &Path,
    progress: &CheckProgress,
) -> Result<CheckedPack, PackError> {
    let written = Written { id: gathered.built.id, bytes: gathered.built.bytes, offsets: &gathered.offsets };
    let checked = check_written(written, pack, None, options, index_out, progress);
    checked.map(|(checked, _)| checked).map_err(|fault| fault.of(pack))
}

/// A pack that this process has written and hashed.
struct Written<'a> {
    id: ObjectId,
    bytes: u64,
    offsets: &'a [u64],
}

fn check_written<'r>(
    written: Written<'_>,
    path: &Path,
    rules: Option<&'r Rules>,
    options: &CheckOptions,
    index_out: &Path,
    progress: &CheckProgress,
) -> Result<(CheckedPack, Option<Checker<'r>>), Fault> {
    let Written { id, bytes, offsets } = written;
    let map = map(path)?;
    let data = PackData::new(&map, options.format)?;
    let begins = offsets.len() == data.objects as usize + 1 && offsets.first() == Some(&(HEADER_BYTES as u64));
    if !begins || offsets.last() != Some(&data.end()) || id.as_ref() != data.trailer() {
        return Err(Fault::File("it is not the pack that was written".into()));
    }
    progress.objects_total.store(data.objects.into(), Ordering::Relaxed);
    progress.bytes_total.store(bytes, Ordering::Relaxed);
    let boundaries = Boundaries { offsets: offsets.to_vec(), rows: Vec::new() };
    let (checked, checker) = check_boundaries(data, boundaries, rules, options, index_out, progress)?;
    Ok((CheckedPack { id, bytes, objects: data.objects, ..checked }, checker))
}

fn map(path: &Path) -> Result<Mmap, Fault> {
    let file = File::open(path).map_err(Fault::io("open it"))?;
    let bytes = file.metadata().map_err(Fault::io("read its size"))?.len();
    if bytes == 0 {
        return Err(Fault::File("it is empty".into()));
    }
    // SAFETY: the file is in a private spool or in a store that never rewrites a file.
    unsafe { Mmap::map(&file) }.map_err(Fault::io("map it"))
}

fn check(
    path: &Path,
    hint: Option<&Path>,
    options: &CheckOptions,
    index_out: &Path,
    progress: &CheckProgress,
) -> Result<CheckedPack, Fault> {
    let map = map(path)?;
    let bytes = map.len() as u64;
    let pack = PackData::new(&map, options.format)?;
    progress.objects_total.store(pack.objects.into(), Ordering::Relaxed);
    progress.bytes_total.store(bytes, Ordering::Relaxed);
    let hint = hint.filter(|hint| Index::is_version_2(hint));
    let resolve = || match hint {
        Some(hint) => check_with_index(pack, hint, options, index_out, progress),
        None => check_without_index(pack, options, index_out, progress),
    };
    let (checked, trailer) = if bytes <= HASH_BYTES as u64 {
        (resolve(), verify_trailer(&pack, progress))
    } else {
        std::thread::scope(|scope| {
            let trailer = std::thread::Builder::new().spawn_scoped(scope, || verify_trailer(&pack, progress));
            let trailer = trailer.map_err(Fault::io("start a thread"))?;
            let checked = resolve();
            Ok((checked, trailer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
        })?
    };
    let checked = match (checked, trailer) {
        // A damaged pack does not match its index either; the damage of the pack is the cause.
        (Err(Fault::Index(_)), Err(fault)) | (Err(fault), _) | (Ok(_), Err(fault)) => return Err(fault),
        (Ok(checked), Ok(())) => checked,
    };
    Ok(CheckedPack { id: pack.trailer().to_owned(), bytes, objects: pack.objects, ..checked })
}

/// Compares the checksum in the trailer with the content.
fn verify_trailer(pack: &PackData<'_>, progress: &CheckProgress) -> Result<(), Fault> {
    let mut hasher = gix::hash::hasher(pack.format);
    for piece in pack.slice(0, pack.end()).chunks(HASH_BYTES) {
        progress.check()?;
        hasher.update(piece);
    }
    let computed = hasher.try_finalize().map_err(|_| Fault::Collision { offset: 0 })?;
    let stored = pack.trailer().to_owned();
    if computed == stored { Ok(()) } else { Err(Fault::Checksum { stored, computed }) }
}

/// Opens a claimed index, and verifies its checksum and that it is of this pack.
fn open_hint(path: &Path, pack: &PackData<'_>) -> Result<Index, Fault> {
    let hint = Index::open(path, pack.format)?;
    hint.verify_checksum()?;
    if hint.pack_checksum() != pack.trailer() {
        return Err(Fault::Index(format!("it is the index of pack {}", hint.pack_checksum())));
    }
    Ok(hint)
}

fn check_with_index(
    pack: PackData<'_>,
    hint: &Path,
    options: &CheckOptions,
    index_out: &Path,
    progress: &CheckProgress,
) -> Result<CheckedPack, Fault> {
    let hint = open_hint(hint, &pack)?;
    let boundaries = Boundaries::from_index(&pack, &hint)?;
    let lookup = Lookup::new(&hint)?;
    let expected = Expected::new(hint.objects());
    let families = Families::new(&pack, &boundaries, progress)?;
    let resolver = Resolver::new(
        pack,
        &boundaries,
        &families,
        Ids::Compare(&hint),
        options,
        progress,
        None,
        directory_of(index_out),
    );
    let found = run(&resolver, || LinkSink::lookup(&lookup, &expected, options.format))?;
    resolver.check_all_resolved()?;

    let mut unresolved = Vec::new();
    let mut all_nested = Vec::new();
    let Merged { unparsable, unparsable_count, pointers } = merge(found, |sink| {
        let LinkSink::Lookup { unresolved: some, nested, .. } = sink else {
            unreachable!("all threads have a sink that looks links up");
        };
        unresolved.push(some);
        all_nested.push(nested);
        Ok(())
    })?;
    let rows = (0..pack.objects).map(|entry| (entry, boundaries.rows[entry as usize]));
    let mismatched = mismatched(&resolver, &expected, rows);
    drop((lookup, expected));
    rows_to_entries(&boundaries.rows, &mut all_nested);
    let tree_levels = tree_levels(&resolver, all_nested);
    // Every id, offset and CRC of the hint has been compared with the computed value.
    let row = |row| {
        let Some(offset) = hint.offset(row) else { unreachable!("the boundaries hold the offset of every row") };
        Row { id: hint.id(row).to_owned(), crc32: hint.crc32(row), offset }
    };
    let index_bytes = write_index(index_out, options.format, pack.objects, row, pack.trailer())?;
    Ok(CheckedPack {
        unresolved: Unresolved::merge(unresolved)?,
        mismatched,
        unparsable,
        unparsable_count,
        pointers,
        tree_levels,
        ..summary(index_out, index_bytes, options)
    })
}

/// Replaces the rows of subtrees by their entries; `rows` holds the row of each entry.
fn rows_to_entries(rows: &[u32], nested: &mut [Vec<Nested>]) {
    let mut entries = vec![0; rows.len()];
    for (entry, row) in (0..).zip(rows) {
        entries[*row as usize] = entry;
    }
    for link in nested.iter_mut().flatten() {
        link.subtree = entries[link.subtree as usize];
    }
}

fn tree_levels(resolver: &Resolver<'_>, nested: Vec<Vec<Nested>>) -> Option<u16> {
    let is_tree = |entry| resolver.kind_code(entry) == kind_code(Kind::Tree);
    nesting::levels(resolver.families, resolver.pack.objects, nested, is_tree)
}

fn check_without_index(
    pack: PackData<'_>,
    options: &CheckOptions,
    index_out: &Path,
    progress: &CheckProgress,
) -> Result<CheckedPack, Fault> {
    let boundaries = Boundaries::scan(&pack, progress)?;
    check_boundaries(pack, boundaries, None, options, index_out, progress).map(|(checked, _)| checked)
}

fn check_boundaries<'r>(
    pack: PackData<'_>,
    boundaries: Boundaries,
    rules: Option<&'r Rules>,
    options: &CheckOptions,
    index_out: &Path,
    progress: &CheckProgress,
) -> Result<(CheckedPack, Option<Checker<'r>>), Fault> {
    let families = Families::new(&pack, &boundaries, progress)?;
    let ids = Ids::Keep {
        ids: IdTable::new(pack.objects, options.format),
        crcs: (0..pack.objects).map(|_| AtomicU32::new(0)).collect(),
    };
    let directory = directory_of(index_out);
    let resolver = Resolver::new(pack, &boundaries, &families, ids, options, progress, rules, directory);
    let mut found = run(&resolver, || LinkSink::spool(directory, options.format, pack.objects))?;
    resolver.check_all_resolved()?;
    let checker = merge_checkers(rules, options.format, &mut found);

    let order = order_by_id(&resolver)?;
    let Ids::Keep { ids, crcs } = &resolver.ids else { unreachable!("the resolver was made to keep ids") };
    let row = |row: u32| {
        let entry = order[row as usize];
        let crc32 = crcs[entry as usize].load(Ordering::Relaxed);
        Row { id: ids.get(entry), crc32, offset: boundaries.offsets[entry as usize] }
    };
    let index_bytes = write_index(index_out, options.format, pack.objects, row, pack.trailer())?;

    let index = Index::open(index_out, options.format)?;
    let lookup = Lookup::new(&index)?;
    let expected = Expected::new(index.objects());
    let mut unresolved = Unresolved::default();
    let mut all_nested = Vec::new();
    let Merged { unparsable, unparsable_count, pointers } = merge(found, |sink| {
        let LinkSink::Spool { links, nested, .. } = sink else {
            unreachable!("all threads have a sink that spools links");
        };
        nested.drain_nested(|subtree, tree| {
            let row = lookup.row_of(subtree);
            all_nested.extend(row.map(|row| Nested { subtree: order[row as usize], tree }));
        })?;
        links.drain_links(|id, kind| resolve(id, kind, &lookup, &expected, &mut unresolved))
    })?;
    let rows = order.iter().copied().zip(0..);
    let checked = CheckedPack {
        unresolved: Unresolved::merge(vec![unresolved])?,
        mismatched: mismatched(&resolver, &expected, rows),
        unparsable,
        unparsable_count,
        pointers,
        tree_levels: tree_levels(&resolver, vec![all_nested]),
        ..summary(index_out, index_bytes, options)
    };
    Ok((checked, checker))
}

/// Directory of the index, which also holds temporary files.
fn directory_of(index: &Path) -> &Path {
    index.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Checked pack without the values that the caller fills in.
fn summary(index: &Path, index_bytes: u64, options: &CheckOptions) -> CheckedPack {
    CheckedPack {
        id: ObjectId::null(options.format),
        bytes: 0,
        objects: 0,
        index: index.to_owned(),
        index_bytes,
        unresolved: Vec::new(),
        mismatched: Vec::new(),
        unparsable: Vec::new(),
        unparsable_count: 0,
        pointers: Pointers::default(),
        tree_levels: None,
    }
}
