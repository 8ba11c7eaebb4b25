//! Pack ingestion: spools a pack to a temporary file as it arrives, completes it if it is thin, and checks it in full.
//! The caller makes the objects visible; dropping [`Received`] deletes the files.
//!
//! Hidden objects take no part: delta bases are used only after a visible ref is proven to reach them, and count as
//! absent otherwise.

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

/// Largest ratio of the total size of all objects to the size of their pack, past [`EXPANSION_FREE_BYTES`]. Packs of
/// real repositories stay below 200.
pub const MAX_EXPANSION: u64 = 2048;
/// Total size of objects in bytes that is allowed in addition, whatever the size of the pack.
const EXPANSION_FREE_BYTES: u64 = 1 << 30;
/// Most bases named by id in a pack without offset deltas from which thinness is inferred. A pack with more probably
/// comes from a client that never writes offset deltas.
const FEW_BASES: usize = 64;
/// Size of the check's tables in bytes per object.
const TABLE_BYTES: u64 = 64;
/// Size of the cache of delta bases in bytes while memory is short.
const MIN_HELD_BYTES: u64 = 4 << 20;
/// Size of the write buffer in bytes.
const WRITE_BYTES: usize = 256 << 10;

/// Options for [`ingest`].
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// Limits on the sizes of pack and objects.
    pub limits: ArrivalLimits,
    /// Rules of the fsck checks; `None` to skip them.
    pub rules: Option<Rules>,
}

/// A pack could not be ingested.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The received pack is invalid.
    #[error(transparent)]
    Pack(PackError),
    /// A held pack is damaged or cannot be read.
    #[error(transparent)]
    Held(PackError),
    /// A temporary file cannot be written or read.
    #[error("a temporary file failed: {0}")]
    Io(#[from] io::Error),
}

impl IngestError {
    /// Classifies the error by what the caller can do about it.
    pub fn kind(&self) -> gitferry_base::Kind {
        match self {
            IngestError::Pack(error) | IngestError::Held(error) => error.kind(),
            IngestError::Io(error) => gitferry_base::Kind::of_io(error),
        }
    }

    /// Returns the message for the client, without paths of this machine.
    pub fn for_client(&self) -> String {
        match self {
            IngestError::Pack(error) => format!("pack: {}", error.fault),
            IngestError::Held(_) | IngestError::Io(_) => "the server could not store the pack".into(),
        }
    }
}

/// Checked pack in quarantine.
#[derive(Debug)]
pub struct ReceivedPack {
    /// Path of the pack, which has not been synced to disk.
    pub file: TempPath,
    /// Path of its index.
    pub index: TempPath,
    /// Outcome of the check.
    pub checked: CheckedPack,
    /// CRC-64/NVME of the pack.
    pub crc64: Crc64,
    /// CRC-64/NVME of the index.
    pub index_crc64: Crc64,
    /// Bases appended to a thin pack; empty if the pack was complete.
    pub completed_with: Vec<ObjectId>,
}

/// Outcome of [`ingest`].
#[derive(Debug, Default)]
pub struct Received<'r> {
    /// Received pack; `None` if it contains no objects.
    pub pack: Option<ReceivedPack>,
    /// State of the fsck checks, to be finished by [`check_special_blobs`]; `None` without rules or objects.
    pub checker: Option<Checker<'r>>,
}

/// Ingests the pack at the start of `input` into the directory `spool`. Bases of a thin pack come from `view`; the
/// search starts at `near`, the old values of the commands.
///
/// `arriving` and `checking` receive progress, and cancel the work when they are cancelled.
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
        known_bases: HashMap::new(),
    };
    let Checked { checked, checker, completed_with } = intake.check(arrival)?;
    let crc64 = if completed_with.is_empty() { crc64 } else { gitferry_base::checksum::file_crc64(&file)? };
    let index_crc64 = gitferry_base::checksum::file_crc64(&index)?;
    let pack = ReceivedPack { file, index, checked, crc64, index_crc64, completed_with };
    Ok(Received { pack: Some(pack), checker })
}

/// Temporary file with a running checksum.
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
    /// Parents of commits in the pack.
    parents: &'a [ObjectId],
    options: &'r IngestOptions,
    file: &'a Path,
    index: &'a Path,
    progress: &'a CheckProgress,
    /// Visibility of all bases looked up so far.
    known_bases: HashMap<ObjectId, bool>,
}

struct Checked<'r> {
    checked: CheckedPack,
    checker: Option<Checker<'r>>,
    completed_with: Vec<ObjectId>,
}

impl<'r> Intake<'_, 'r> {
    /// Checks the pack, completed with its missing bases.
    ///
    /// Only a full check shows which bases are missing, so they are guessed first: clients name bases outside the pack
    /// by id, and others by offset. A wrong guess costs a second check. Every base that stays missing has been searched
    /// for in the same way, so timing does not reveal if a hidden object exists.
    fn check(&mut self, arrival: Arrival) -> Result<Checked<'r>, IngestError> {
        let may_be_thin = arrival.offset_deltas > 0 || arrival.bases.len() <= FEW_BASES;
        if may_be_thin {
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

    /// Returns those of `bases` that visible refs reach, in the same order.
    fn visible(&mut self, bases: &[ObjectId]) -> Result<Vec<ObjectId>, IngestError> {
        let unknown: Vec<ObjectId> =
            bases.iter().filter(|base| !self.known_bases.contains_key(*base)).copied().collect();
        if !unknown.is_empty() {
            let found = visible_bases(self.view, self.parents, self.near, unknown.iter().copied());
            let found = found.map_err(IngestError::Held)?;
            let seen = |base: &ObjectId| found.binary_search(base).is_ok();
            self.known_bases.extend(unknown.into_iter().map(|base| (base, seen(&base))));
        }
        Ok(bases.iter().filter(|base| self.known_bases.get(*base) == Some(&true)).copied().collect())
    }

    fn check_with(&self, mut arrival: Arrival, bases: Vec<ObjectId>) -> Result<Checked<'r>, IngestError> {
        let blame = |error: PackError| {
            if error.path == self.file { IngestError::Pack(error) } else { IngestError::Held(error) }
        };
        if !bases.is_empty() {
            append_bases(self.file, &mut arrival, &bases, &self.view.packs, self.options.limits.pack_bytes)
                .map_err(blame)?;
        }
        let mut options = CheckOptions::new(self.view.format);
        options.max_resolved_bytes = self.options.limits.object_bytes.min(MAX_RESOLVED_BYTES);
        options.max_walked_bytes = options.max_resolved_bytes.min(MAX_WALKED_BYTES);
        options.max_total_bytes = arrival.bytes.saturating_mul(MAX_EXPANSION).saturating_add(EXPANSION_FREE_BYTES);
        // Tables wait for memory. The cache of delta bases shrinks instead: evicted bases are resolved again.
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

/// Returns the missing bases if they are the reason for an error.
fn missing_bases(error: &IngestError) -> Option<&[ObjectId]> {
    match error {
        IngestError::Pack(PackError { fault: Fault::MissingBase { bases, .. }, .. }) => Some(bases),
        _ => None,
    }
}

/// Finishes the fsck checks: checks the blobs that new trees name `.gitmodules` or `.gitattributes`. They are either in
/// the pack of the push (`new`), or held under any name and accepted by `is_visible`.
pub fn check_special_blobs(
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

/// Kind of an object and, for blobs of up to [`MAX_SPECIAL_BYTES`], its data.
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
