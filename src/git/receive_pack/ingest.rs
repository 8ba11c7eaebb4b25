//! Taking a pack in: it is written to a quarantine file as it arrives, completed if it is thin, and checked in
//! full. Only the caller makes anything of it visible; when [`Received`] is dropped, nothing is left.

use std::io::{self, BufRead, BufWriter, Write};
use std::path::Path;

use gix::ObjectId;
use gix::hash::oid;
use gix::objs::Kind;
use tempfile::TempPath;

use crate::git::fsck::{self, Checker, MAX_SPECIAL_BYTES, Rules};
use crate::git::pack::{
    Arrival, ArrivalLimits, CheckOptions, CheckProgress, CheckedPack, Fault, Finder, MAX_RESOLVED_BYTES, PackError,
    PackSet, append_bases, arrive, check_arrived, truncate,
};
use crate::git::view::View;
use crate::objects::{Crc64, Crc64Hasher};

/// The objects of a pack may have this many times its bytes together, and [`FREE_BYTES`] more. Packs of real
/// repositories stay below 200 times.
pub const MAX_EXPANSION: u64 = 2048;
const FREE_BYTES: u64 = 1 << 30;
/// A pack with more deltas by id than this, and no other deltas, is taken for one of a client that makes no
/// other deltas, so that they say nothing about whether the pack is thin.
const FEW_BASES: usize = 64;
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
    Pack(#[from] PackError),
    /// A temporary file failed.
    #[error("a temporary file failed: {0}")]
    Io(#[from] io::Error),
}

impl IngestError {
    /// What the caller should do.
    pub fn kind(&self) -> crate::Kind {
        match self {
            IngestError::Pack(error) => error.kind(),
            IngestError::Io(error) => crate::Kind::of_io(error),
        }
    }

    /// What the client is told: without the name of a file that says nothing to anybody.
    pub fn for_client(&self) -> String {
        match self {
            IngestError::Pack(error) => format!("pack: {}", error.fault),
            IngestError::Io(_) => "the server could not store the pack".into(),
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
pub struct Received {
    /// The pack; `None` if it had no objects.
    pub pack: Option<ReceivedPack>,
    /// What is wrong with objects.
    pub findings: fsck::Report,
}

/// Takes the pack at the front of `input` in, into the folder `spool`. `view` has what a thin pack needs.
///
/// `arriving` and `checking` say how far it is, and may cancel.
pub fn ingest(
    input: &mut dyn BufRead,
    view: &View,
    options: &IngestOptions,
    spool: &Path,
    arriving: &CheckProgress,
    checking: &CheckProgress,
) -> Result<Received, IngestError> {
    let file = tempfile::NamedTempFile::new_in(spool)?;
    let mut out = Spool { out: BufWriter::with_capacity(WRITE_BYTES, file), crc64: Crc64Hasher::default() };
    let arrival = arrive(input, view.format, options.limits, &mut out, arriving);
    let (file, crc64) = out.finish()?;
    let arrival = arrival.map_err(|fault| fault.of(&file))?;
    if arrival.objects == 0 {
        return Ok(Received::default());
    }
    let index = tempfile::NamedTempFile::new_in(spool)?.into_temp_path();
    let intake = Intake { view, options, file: &file, index: &index, progress: checking };
    let Checked { checked, checker, completed_with } = intake.check(arrival)?;
    let findings = match checker {
        Some(checker) => intake.look_into_special_blobs(checker)?,
        None => fsck::Report::default(),
    };
    let crc64 = if completed_with.is_empty() { crc64 } else { crate::region::commit::file_crc64(&file)? };
    let index_crc64 = crate::region::commit::file_crc64(&index)?;
    let pack = ReceivedPack { file, index, checked, crc64, index_crc64, completed_with };
    Ok(Received { pack: Some(pack), findings })
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

struct Intake<'a> {
    view: &'a View,
    options: &'a IngestOptions,
    file: &'a Path,
    index: &'a Path,
    progress: &'a CheckProgress,
}

struct Checked<'a> {
    checked: CheckedPack,
    checker: Option<Checker<'a>>,
    completed_with: Vec<ObjectId>,
}

impl<'a> Intake<'a> {
    /// Checks what has arrived, completed with the bases that it lacks.
    ///
    /// Which those are shows only when everything else is resolved, so that is guessed: clients use deltas by
    /// id for bases that they do not send, and say others by place. A wrong guess costs a second check.
    fn check(&self, arrival: Arrival) -> Result<Checked<'a>, PackError> {
        let held: Vec<ObjectId> = arrival.bases.iter().filter(|id| self.view.packs.contains(id)).copied().collect();
        let telling = arrival.offset_deltas > 0 || arrival.bases.len() <= FEW_BASES;
        if telling && !held.is_empty() {
            match self.check_with(arrival.clone(), held.clone()) {
                Err(error) if matches!(error.fault, Fault::Duplicate { .. }) => truncate(self.file, &arrival)?,
                result => return result,
            }
        }
        match self.check_with(arrival.clone(), Vec::new()) {
            Err(PackError { fault: Fault::MissingBase { bases, .. }, .. }) if !held.is_empty() => {
                let mut bases = bases.into_vec();
                bases.retain(|base| held.binary_search(base).is_ok());
                self.check_with(arrival, bases)
            }
            result => result,
        }
    }

    fn check_with(&self, mut arrival: Arrival, bases: Vec<ObjectId>) -> Result<Checked<'a>, PackError> {
        if !bases.is_empty() {
            append_bases(self.file, &mut arrival, &bases, &self.view.packs, self.options.limits.pack_bytes)?;
        }
        let mut options = CheckOptions::new(self.view.format);
        options.max_resolved_bytes = self.options.limits.object_bytes.min(MAX_RESOLVED_BYTES);
        options.max_total_bytes = arrival.bytes.saturating_mul(MAX_EXPANSION).saturating_add(FREE_BYTES);
        let rules = self.options.rules.as_ref();
        let (checked, checker) = check_arrived(self.file, &arrival, rules, &options, self.index, self.progress)?;
        Ok(Checked { checked, checker, completed_with: bases })
    }

    /// The last part of the check by rules: what trees name `.gitmodules` and `.gitattributes`, whether it came
    /// with the push or was there, perhaps under another name.
    fn look_into_special_blobs(&self, checker: Checker<'_>) -> Result<fsck::Report, PackError> {
        let mut new = PackSet::new(self.view.format);
        new.add(self.file, self.index)?;
        let fail = |fault: Fault| fault.of(self.file);
        let (mut new_finder, mut old_finder) = (new.finder().map_err(fail)?, self.view.packs.finder().map_err(fail)?);
        checker.finish(|id| match special(&new, &mut new_finder, id)? {
            Some(found) => Ok(Some(found)),
            None => special(&self.view.packs, &mut old_finder, id),
        })
    }
}

/// Kind of an object and, unless it is too large, its data.
type Special = (Kind, Option<Vec<u8>>);

fn special(packs: &PackSet, finder: &mut Finder<'_>, id: &oid) -> Result<Option<Special>, PackError> {
    let Some(location) = packs.locate(id) else { return Ok(None) };
    let kind = finder.kind(location)?;
    if kind != Kind::Blob {
        return Ok(Some((kind, None)));
    }
    match finder.read(location) {
        Ok(object) if object.data.len() as u64 <= MAX_SPECIAL_BYTES => Ok(Some((kind, Some(object.data.to_vec())))),
        Ok(_) => Ok(Some((kind, None))),
        Err(PackError { fault: Fault::TooLarge { .. }, .. }) => Ok(Some((kind, None))),
        Err(error) => Err(error),
    }
}
