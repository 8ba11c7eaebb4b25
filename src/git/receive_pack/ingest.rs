//! Taking a pack in: it is written to a quarantine file as it arrives, completed if it is thin, and checked in
//! full. Only the caller makes anything of it visible; when [`Received`] is dropped, nothing is left.
//!
//! Nothing that the client may not see has a part in this: a base is used once it is proven to be reachable from what
//! the client sees, and one that is not counts as absent.

use std::collections::HashMap;
use std::io::{self, BufRead, BufWriter, Write};
use std::path::Path;

use gix::ObjectId;
use gix::hash::oid;
use gix::objs::Kind;
use tempfile::TempPath;

use super::reach::visible_bases;
use crate::fsck::{self, Checker, MAX_SPECIAL_BYTES, Rules};
use crate::limits::MAX_WALKED_BYTES;
use crate::memory;
use crate::pack::{
    Arrival, ArrivalLimits, CheckOptions, CheckProgress, CheckedPack, Fault, Finder, MAX_RESOLVED_BYTES, PackError,
    PackSet, append_bases, arrive, check_arrived, truncate,
};
use crate::view::View;
use gitferry_base::checksum::{Crc64, Crc64Hasher};

/// The objects of a pack may have this many times its bytes together, and [`FREE_BYTES`] more. Packs of real
/// repositories stay below 200 times.
pub const MAX_EXPANSION: u64 = 2048;
const FREE_BYTES: u64 = 1 << 30;
/// A pack with more deltas by id than this, and no other deltas, is taken for one of a client that makes no
/// other deltas, so that they say nothing about whether the pack is thin.
const FEW_BASES: usize = 64;
/// Bytes of tables that a check has for each object of a pack.
const TABLE_BYTES: u64 = 64;
/// Bytes of bases that are kept where memory is short.
const MIN_HELD_BYTES: u64 = 4 << 20;
/// Bytes written to the quarantine file at a time.
const WRITE_BYTES: usize = 256 << 10;

/// How to take packs in.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// What is too large.
    pub limits: ArrivalLimits,
    /// By which objects are checked; `None` for not at all.
    pub rules: Option<Rules>,
}

/// Why a pack was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// It is not what it should be.
    #[error(transparent)]
    Pack(PackError),
    /// A pack that is held is damaged, or cannot be read.
    #[error(transparent)]
    Held(PackError),
    /// A temporary file failed.
    #[error("a temporary file failed: {0}")]
    Io(#[from] io::Error),
}

impl IngestError {
    /// What the caller should do.
    pub fn kind(&self) -> gitferry_base::Kind {
        match self {
            IngestError::Pack(error) | IngestError::Held(error) => error.kind(),
            IngestError::Io(error) => gitferry_base::Kind::of_io(error),
        }
    }

    /// What the client is told: without the name of a file that says nothing to anybody.
    pub fn for_client(&self) -> String {
        match self {
            IngestError::Pack(error) => format!("pack: {}", error.fault),
            IngestError::Held(_) | IngestError::Io(_) => "the server could not store the pack".into(),
        }
    }
}

/// A checked pack in quarantine.
#[derive(Debug)]
pub struct ReceivedPack {
    /// The pack; its content is on its way to the disk, not synced.
    pub file: TempPath,
    /// Its index.
    pub index: TempPath,
    /// What the check found.
    pub checked: CheckedPack,
    /// CRC-64/NVME of the pack.
    pub crc64: Crc64,
    /// CRC-64/NVME of the index.
    pub index_crc64: Crc64,
    /// The objects that completed it, because it came thin.
    pub completed_with: Vec<ObjectId>,
}

/// What came with a push.
#[derive(Debug, Default)]
pub struct Received<'r> {
    /// The pack; `None` if it had no objects.
    pub pack: Option<ReceivedPack>,
    /// The check by rules, finished but for the blobs that Git itself reads; `None` without rules or objects.
    pub checker: Option<Checker<'r>>,
}

/// Takes the pack at the front of `input` in, into the folder `spool`. `view` has what a thin pack needs, most of it
/// probably reachable from `near`: what the refs to be changed name now.
///
/// `arriving` and `checking` say how far it is, and may cancel.
pub fn ingest<'r>(
    input: &mut dyn BufRead,
    view: &View,
    near: &[ObjectId],
    options: &'r IngestOptions,
    spool: &Path,
    arriving: &CheckProgress,
    checking: &CheckProgress,
) -> Result<Received<'r>, IngestError> {
    let file = tempfile::NamedTempFile::new_in(spool)?;
    let mut out = Spool { out: BufWriter::with_capacity(WRITE_BYTES, file), crc64: Crc64Hasher::default() };
    let arrival = arrive(input, view.format, options.limits, &mut out, arriving);
    let (file, crc64) = out.finish()?;
    let arrival = arrival.map_err(|fault| IngestError::Pack(fault.of(&file)))?;
    if arrival.objects == 0 {
        return Ok(Received::default());
    }
    let index = tempfile::NamedTempFile::new_in(spool)?.into_temp_path();
    let parents = arrival.parents.clone();
    let mut intake = Intake {
        view,
        near,
        parents: &parents,
        options,
        file: &file,
        index: &index,
        progress: checking,
        looked_for: HashMap::new(),
    };
    let Checked { checked, checker, completed_with } = intake.check(arrival)?;
    let crc64 = if completed_with.is_empty() { crc64 } else { gitferry_base::checksum::file_crc64(&file)? };
    let index_crc64 = gitferry_base::checksum::file_crc64(&index)?;
    let pack = ReceivedPack { file, index, checked, crc64, index_crc64, completed_with };
    Ok(Received { pack: Some(pack), checker })
}

/// A file with its checksum.
struct Spool {
    out: BufWriter<tempfile::NamedTempFile>,
    crc64: Crc64Hasher,
}

impl Spool {
    fn finish(self) -> io::Result<(TempPath, Crc64)> {
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((file.into_temp_path(), self.crc64.finish()))
    }
}

impl Write for Spool {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.out.write(data)?;
        self.crc64.update(&data[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct Intake<'a, 'r> {
    view: &'a View,
    near: &'a [ObjectId],
    /// Commits that the pack says it builds on.
    parents: &'a [ObjectId],
    options: &'r IngestOptions,
    file: &'a Path,
    index: &'a Path,
    progress: &'a CheckProgress,
    /// Bases that have been looked for, and whether the client sees them.
    looked_for: HashMap<ObjectId, bool>,
}

struct Checked<'r> {
    checked: CheckedPack,
    checker: Option<Checker<'r>>,
    completed_with: Vec<ObjectId>,
}

impl<'r> Intake<'_, 'r> {
    /// Checks what has arrived, completed with the bases that it lacks.
    ///
    /// Which those are shows only when everything else is resolved, so that is guessed: clients use deltas by
    /// id for bases that they do not send, and say others by place. A wrong guess costs a second check. Bases that
    /// are lacking in the end have all been looked for in the same way, held or not.
    fn check(&mut self, arrival: Arrival) -> Result<Checked<'r>, IngestError> {
        let telling = arrival.offset_deltas > 0 || arrival.bases.len() <= FEW_BASES;
        if telling {
            let held: Vec<ObjectId> = arrival.bases.iter().filter(|id| self.view.packs.contains(id)).copied().collect();
            let visible = self.visible(&held)?;
            if !visible.is_empty() {
                match self.check_with(arrival.clone(), visible) {
                    Err(IngestError::Pack(PackError { fault: Fault::Duplicate { .. }, .. })) => {
                        truncate(self.file, &arrival).map_err(IngestError::Pack)?;
                    }
                    Err(error) => {
                        if let Some(bases) = missing_bases(&error) {
                            self.visible(bases)?;
                        }
                        return Err(error);
                    }
                    Ok(checked) => return Ok(checked),
                }
            }
        }
        let error = match self.check_with(arrival.clone(), Vec::new()) {
            Err(error) => error,
            Ok(checked) => return Ok(checked),
        };
        let Some(bases) = missing_bases(&error) else { return Err(error) };
        match self.visible(bases)? {
            visible if visible.is_empty() => Err(error),
            visible => self.check_with(arrival, visible),
        }
    }

    /// Those of some bases that the client sees, sorted.
    fn visible(&mut self, bases: &[ObjectId]) -> Result<Vec<ObjectId>, IngestError> {
        let unknown: Vec<ObjectId> =
            bases.iter().filter(|base| !self.looked_for.contains_key(*base)).copied().collect();
        if !unknown.is_empty() {
            let found = visible_bases(self.view, self.parents, self.near, unknown.iter().copied());
            let found = found.map_err(IngestError::Held)?;
            let seen = |base: &ObjectId| found.binary_search(base).is_ok();
            self.looked_for.extend(unknown.into_iter().map(|base| (base, seen(&base))));
        }
        Ok(bases.iter().filter(|base| self.looked_for.get(*base) == Some(&true)).copied().collect())
    }

    fn check_with(&self, mut arrival: Arrival, bases: Vec<ObjectId>) -> Result<Checked<'r>, IngestError> {
        let blame = |error: PackError| match error.path == self.file {
            true => IngestError::Pack(error),
            false => IngestError::Held(error),
        };
        if !bases.is_empty() {
            append_bases(self.file, &mut arrival, &bases, &self.view.packs, self.options.limits.pack_bytes)
                .map_err(blame)?;
        }
        let mut options = CheckOptions::new(self.view.format);
        options.max_resolved_bytes = self.options.limits.object_bytes.min(MAX_RESOLVED_BYTES);
        options.max_walked_bytes = options.max_resolved_bytes.min(MAX_WALKED_BYTES);
        options.max_total_bytes = arrival.bytes.saturating_mul(MAX_EXPANSION).saturating_add(FREE_BYTES);
        // Tables of all objects, and the bases that wait for deltas: those may be fewer, and are resolved again then.
        let tables = memory::budget().take(u64::from(arrival.objects) * TABLE_BYTES);
        let _tables = tables.map_err(|busy| IngestError::Pack(Fault::Busy(busy).of(self.file)))?;
        let held = memory::budget().try_take(arrival.claimed.min(options.max_held_bytes));
        if held.is_none() {
            options.max_held_bytes = MIN_HELD_BYTES;
        }
        let rules = self.options.rules.as_ref();
        let (checked, checker) =
            check_arrived(self.file, &arrival, rules, &options, self.index, self.progress).map_err(blame)?;
        Ok(Checked { checked, checker, completed_with: bases })
    }
}

/// The bases that a pack lacks, if that is what is wrong with it.
fn missing_bases(error: &IngestError) -> Option<&[ObjectId]> {
    match error {
        IngestError::Pack(PackError { fault: Fault::MissingBase { bases, .. }, .. }) => Some(bases),
        _ => None,
    }
}

/// Finishes the check by rules: looks into what trees name `.gitmodules` and `.gitattributes`, whether it is in the
/// pack of the push (`new`) or was held before, perhaps under another name, and `is_visible`.
pub fn look_into_special_blobs(
    checker: Checker<'_>,
    new: &PackSet,
    view: &View,
    is_visible: &dyn Fn(&ObjectId) -> bool,
) -> Result<fsck::Report, PackError> {
    let mut new_finder = new.finder().map_err(|fault| new.blame(0, fault))?;
    let mut held_finder = view.packs.finder().map_err(|fault| view.packs.blame(0, fault))?;
    checker.finish(|id| match special(new, &mut new_finder, id)? {
        None if is_visible(id) => special(&view.packs, &mut held_finder, id),
        found => Ok(found),
    })
}

/// Kind of an object and, unless it is too large, its data.
type Special = (Kind, Option<Vec<u8>>);

fn special(packs: &PackSet, finder: &mut Finder<'_>, id: &oid) -> Result<Option<Special>, PackError> {
    let Some(location) = packs.locate(id) else { return Ok(None) };
    let kind = finder.kind(location)?;
    if kind != Kind::Blob {
        return Ok(Some((kind, None)));
    }
    let size = finder.size(location)?;
    if size > MAX_SPECIAL_BYTES {
        return Ok(Some((kind, None)));
    }
    let busy = |busy| packs.blame(location.pack, Fault::Busy(busy));
    let _memory = memory::budget().take(size).map_err(busy)?;
    Ok(Some((kind, Some(finder.read(location)?.data.to_vec()))))
}
