//! The full check of a pack.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use gix::ObjectId;
use memmap2::Mmap;

use super::arrive::Arrival;
use super::entries::{Boundaries, Families, PackData};
use super::error::{Fault, PackError};
use super::family::{Findings, MAX_LISTED_UNPARSABLE, Worker};
use super::index::{Index, Lookup, Row, leading, write_index};
use super::link_sink::{Expected, IdTable, LinkSink, Unresolved, resolve};
use super::progress::{CheckOptions, CheckProgress};
use super::resolve::{Ids, Resolver};
use crate::fsck::{Checker, Rules};
use crate::lfs::Pointers;
use crate::links::Link;

/// Bytes that are hashed between two looks at [`CheckProgress::cancel`]. Smaller packs are not worth a
/// thread for their checksum.
const HASH_BYTES: usize = 4 << 20;

/// A pack of which every byte has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedPack {
    /// Its trailer checksum, which is its identity.
    pub id: ObjectId,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many objects it holds.
    pub objects: u32,
    /// Where its index has been written.
    pub index: PathBuf,
    /// The index's size in bytes.
    pub index_bytes: u64,
    /// What its objects name that is not in it: sorted, each once.
    pub unresolved: Vec<Link>,
    /// Objects of it that are taken for another kind than they are, with that wrong kind. `git index-pack
    /// --strict` and `git fsck` refuse that, plain `git index-pack` does not notice.
    pub mismatched: Vec<Link>,
    /// Trees, commits and tags whose links cannot be told; at most [`MAX_LISTED_UNPARSABLE`] of them.
    pub unparsable: Vec<ObjectId>,
    /// How many such objects there are.
    pub unparsable_count: u64,
    /// Pointers of Git LFS among its blobs.
    pub pointers: Pointers,
}

impl CheckedPack {
    /// Whether every link of every object resolves inside the pack to an object of the right kind.
    pub fn is_closed(&self) -> bool {
        self.unresolved.is_empty() && self.mismatched.is_empty() && self.unparsable_count == 0
    }
}

/// Checks a pack in full and writes its index (version 2, the bytes that `git index-pack` writes) to
/// `index_out`, not synced.
///
/// Verified are: header, number of objects, the checksum at the end, and of every entry that its stream is
/// intact, has the size it says, ends where the next entry begins, that its base is in the pack, and the
/// hash of its object (with SHA-1, that it is not part of a collision attack). An object may be in a pack
/// only once ([`Fault::Duplicate`]), as `git index-pack --strict` demands.
///
/// `hint` is an index that is said to be the pack's. It makes the check faster and is verified in full:
/// its own checksum, and that it says of every object what has been computed ([`Fault::Index`]). An index
/// of the obsolete version 1 is not used.
///
/// On an error `index_out` may have been created, with any content.
pub fn check_pack(
    pack: &Path,
    hint: Option<&Path>,
    options: &CheckOptions,
    index_out: &Path,
    progress: &CheckProgress,
) -> Result<CheckedPack, PackError> {
    check(pack, hint, options, index_out, progress).map_err(|fault| fault.of(pack))
}

/// Like [`check_pack`] for a pack of which `arrival` is known: it has been written to a file as it arrived and
/// has not been changed since, but by [`append_bases`](super::append_bases). Objects are checked by `rules`
/// on the way, if there are any.
pub fn check_arrived<'a>(
    pack: &Path,
    arrival: &Arrival,
    rules: Option<&'a Rules>,
    options: &CheckOptions,
    index_out: &Path,
    progress: &CheckProgress,
) -> Result<(CheckedPack, Option<Checker<'a>>), PackError> {
    let check = || {
        let map = map(pack)?;
        let data = PackData::new(&map, options.format)?;
        let begins = arrival.offsets.len() == data.objects as usize + 1;
        if !begins || arrival.offsets.last() != Some(&data.end()) || arrival.trailer.as_ref() != data.trailer() {
            return Err(Fault::File("it is not the pack that arrived".into()));
        }
        progress.objects_total.store(data.objects.into(), Ordering::Relaxed);
        progress.bytes_total.store(arrival.bytes, Ordering::Relaxed);
        let (checked, checker) = check_boundaries(data, arrival.boundaries(), rules, options, index_out, progress)?;
        Ok((CheckedPack { id: arrival.trailer, bytes: arrival.bytes, objects: data.objects, ..checked }, checker))
    };
    check().map_err(|fault: Fault| fault.of(pack))
}

fn map(path: &Path) -> Result<Mmap, Fault> {
    let file = File::open(path).map_err(Fault::io("open it"))?;
    let bytes = file.metadata().map_err(Fault::io("read its size"))?.len();
    if bytes == 0 {
        return Err(Fault::File("it is empty".into()));
    }
    // SAFETY: the file lies in a private spool or in a store that never rewrites a file.
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
        // A damaged pack does not match its index either, but that is not what is wrong.
        (Err(Fault::Index(_)), Err(fault)) | (Err(fault), _) | (Ok(_), Err(fault)) => return Err(fault),
        (Ok(checked), Ok(())) => checked,
    };
    Ok(CheckedPack { id: pack.trailer().to_owned(), bytes, objects: pack.objects, ..checked })
}

/// Compares the checksum at the end with the content.
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

fn check_with_index(
    pack: PackData<'_>,
    hint: &Path,
    options: &CheckOptions,
    index_out: &Path,
    progress: &CheckProgress,
) -> Result<CheckedPack, Fault> {
    let hint = Index::open(hint, options.format)?;
    hint.verify_checksum()?;
    if hint.pack_checksum() != pack.trailer() {
        return Err(Fault::Index(format!("it is the index of pack {}", hint.pack_checksum())));
    }
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
    let Merged { unparsable, unparsable_count, pointers } = merge(found, |sink| {
        if let LinkSink::Lookup { unresolved: some, .. } = sink {
            unresolved.push(some);
        }
        Ok(())
    })?;
    let rows = (0..pack.objects).map(|entry| (entry, boundaries.rows[entry as usize]));
    let mismatched = mismatched(&resolver, &expected, rows);
    // Every id, offset and CRC of the hint has been compared with what was computed.
    let row =
        |row| Row { id: hint.id(row).to_owned(), crc32: hint.crc32(row), offset: hint.offset(row).unwrap_or_default() };
    let index_bytes = write_index(index_out, options.format, pack.objects, row, pack.trailer())?;
    Ok(CheckedPack {
        unresolved: Unresolved::merge(unresolved)?,
        mismatched,
        unparsable,
        unparsable_count,
        pointers,
        ..summary(index_out, index_bytes, options)
    })
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
    let mut checker = rules.map(|rules| Checker::new(rules, options.format));
    for some in found.iter_mut().filter_map(|findings| findings.checker.take()) {
        checker.iter_mut().for_each(|all| all.merge(&some));
    }

    let order = order_by_id(&resolver)?;
    let Ids::Keep { ids, crcs } = &resolver.ids else { return Err(Fault::Index("there is none".into())) };
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
    let Merged { unparsable, unparsable_count, pointers } = merge(found, |sink| match sink {
        LinkSink::Spool { spool, .. } => spool.drain(|id, kind| resolve(id, kind, &lookup, &expected, &mut unresolved)),
        LinkSink::Lookup { .. } => Ok(()),
    })?;
    let rows = order.iter().copied().zip(0..);
    let checked = CheckedPack {
        unresolved: Unresolved::merge(vec![unresolved])?,
        mismatched: mismatched(&resolver, &expected, rows),
        unparsable,
        unparsable_count,
        pointers,
        ..summary(index_out, index_bytes, options)
    };
    Ok((checked, checker))
}

/// The folder of the index, where temporary files go, too.
fn directory_of(index: &Path) -> &Path {
    index.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What is filled in by the callers.
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
    }
}

/// Runs the threads, and returns what they found or what stopped them.
fn run<'a>(resolver: &'a Resolver<'a>, sink: impl Fn() -> LinkSink<'a>) -> Result<Vec<Findings<'a>>, Fault> {
    let workers = (0..resolver.threads).map(|_| Worker::new(resolver, sink()));
    let workers = workers.collect::<Result<Vec<_>, Fault>>()?;
    if workers.len() == 1 {
        return workers.into_iter().map(Worker::run).collect();
    }
    let results: Vec<Result<Findings<'a>, Fault>> = std::thread::scope(|scope| {
        let start = |worker: Worker<'a>| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || worker.run());
            thread.map_err(|source| {
                resolver.halt();
                Fault::Io { action: "start a thread", source }
            })
        };
        let threads: Vec<_> = workers.into_iter().map(start).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Findings<'a>, Fault>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(|thread| thread.and_then(join)).collect()
    });
    let mut found = Vec::new();
    let mut cancelled = None;
    for result in results {
        match result {
            Ok(findings) => found.push(findings),
            // Either the caller cancelled, or another thread failed and says why.
            Err(Fault::Cancelled) => cancelled = Some(Fault::Cancelled),
            Err(fault) => return Err(fault),
        }
    }
    cancelled.map_or(Ok(found), Err)
}

/// What all threads found together.
struct Merged {
    unparsable: Vec<ObjectId>,
    unparsable_count: u64,
    pointers: Pointers,
}

/// Joins what threads found; `each` takes their links.
fn merge<'a>(
    found: Vec<Findings<'a>>,
    mut each: impl FnMut(LinkSink<'a>) -> Result<(), Fault>,
) -> Result<Merged, Fault> {
    let mut merged = Merged { unparsable: Vec::new(), unparsable_count: 0, pointers: Pointers::default() };
    for findings in found {
        merged.unparsable.extend(findings.unparsable);
        merged.unparsable_count += findings.unparsable_count;
        merged.pointers.merge(findings.pointers);
        each(findings.sink)?;
    }
    merged.unparsable.sort_unstable();
    merged.unparsable.truncate(MAX_LISTED_UNPARSABLE);
    merged.pointers.found.sort_unstable();
    Ok(merged)
}

/// Objects that are taken for another kind than they are; `rows` yields entries with their rows.
fn mismatched(resolver: &Resolver<'_>, expected: &Expected, rows: impl Iterator<Item = (u32, u32)>) -> Vec<Link> {
    let mut all: Vec<Link> = rows
        .flat_map(|(entry, row)| {
            let wrong = expected.wrong(row, resolver.kind_code(entry));
            wrong.map(move |kind| (entry, kind))
        })
        .map(|(entry, kind)| Link { id: resolver.id(entry), kind })
        .collect();
    all.sort_unstable();
    all
}

/// All entries in the order of their ids.
fn order_by_id(resolver: &Resolver<'_>) -> Result<Vec<u32>, Fault> {
    let mut order: Vec<(u32, u32)> =
        (0..resolver.pack.objects).map(|entry| (leading(resolver.id(entry).as_slice()), entry)).collect();
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| resolver.id(a.1).cmp(&resolver.id(b.1))));
    for pair in order.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        if a.0 == b.0 && resolver.id(a.1) == resolver.id(b.1) {
            let offset = |entry: u32| resolver.boundaries.offsets[entry as usize];
            let (first, second) = (offset(a.1.min(b.1)), offset(a.1.max(b.1)));
            return Err(Fault::Duplicate { id: resolver.id(a.1), first, second });
        }
    }
    Ok(order.into_iter().map(|(_, entry)| entry).collect())
}
