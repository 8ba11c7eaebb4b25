//! Which LFS objects the refs of a pass need: the pointers among what the source would send.

use std::fs::File;
use std::io::{self, BufRead, BufWriter, Read, Write as _};
use std::path::PathBuf;

use gix::hash::Kind as Format;

use crate::remotes::error::RemotesError;
use crate::remotes::supply::{Supply, Wanted};
use gitferry_git::client::ClientError;
use gitferry_git::lfs::{MAX_POINTER_BYTES, MAX_POINTERS, Pointer};
use gitferry_git::pack::{
    Arrival, ArrivalLimits, CheckOptions, CheckProgress, Fault, MAX_RESOLVED_BYTES, arrive, check_arrived,
};
use gitferry_git::protocol::Filter;
use gitferry_git::receive_pack::MAX_EXPANSION;

/// Objects may have this many bytes more than [`MAX_EXPANSION`] allows for their pack.
const FREE_BYTES: u64 = 1 << 30;
/// Bytes that are written to the temporary file at a time.
const WRITE_BYTES: usize = 256 << 10;

/// Where a pack lies while pointers are looked for in it, and how large it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spill {
    /// The folder.
    pub dir: PathBuf,
    /// Most bytes.
    pub bytes: u64,
}

/// The pointers among the objects that a push would bring, each object once. Commits, trees and small files are fetched
/// for that and thrown away.
pub fn find_pointers(
    supply: &mut dyn Supply,
    wanted: &Wanted,
    format: Format,
    spill: &Spill,
) -> Result<Vec<Pointer>, RemotesError> {
    let filter = Some(Filter { blob_limit: Some(MAX_POINTER_BYTES as u64 + 1), ..Filter::default() });
    let wanted = Wanted { thin: false, ofs_delta: true, filter, ..wanted.clone() };
    let mut pack = supply.pack(&wanted).map_err(|error| match error {
        RemotesError::Client(ClientError::Unsupported { server, what }) => {
            RemotesError::LfsUnsupported { server, what }
        }
        error => error,
    })?;
    let dir = tempfile::tempdir_in(&spill.dir)?;
    let (file, index) = (dir.path().join("pack"), dir.path().join("index"));
    let limits = ArrivalLimits { pack_bytes: spill.bytes, object_bytes: MAX_RESOLVED_BYTES };
    let mut input = Noting { input: &mut *pack.bytes, failed: None };
    let mut out = BufWriter::with_capacity(WRITE_BYTES, File::create(&file)?);
    let arrived = arrive(&mut input, format, limits, &mut out, &CheckProgress::default());
    let arrival = match (arrived, input.failed) {
        (Ok(arrival), _) => arrival,
        (Err(_), Some(error)) => return Err(ClientError::from_io(error)?.into()),
        (Err(fault), None) => return Err(search_failed(fault)),
    };
    out.flush()?;
    drop(pack);
    if arrival.objects == 0 {
        return Ok(Vec::new());
    }
    let (checked, _) = check_arrived(&file, &arrival, None, &options(&arrival), &index, &CheckProgress::default())
        .map_err(|error| search_failed(error.fault))?;
    if checked.pointers.more {
        let reason = format!("there are more than {MAX_POINTERS} pointers");
        return Err(RemotesError::LfsSearch { kind: gitferry_base::Kind::Refused, reason });
    }
    let mut pointers = checked.pointers.of_blobs(|_| true);
    pointers.dedup_by_key(|pointer| pointer.oid);
    Ok(pointers)
}

fn options(arrival: &Arrival) -> CheckOptions {
    let mut options = CheckOptions::new(arrival.format);
    options.max_resolved_bytes = MAX_RESOLVED_BYTES;
    options.max_total_bytes = arrival.bytes.saturating_mul(MAX_EXPANSION).saturating_add(FREE_BYTES);
    options
}

fn search_failed(fault: Fault) -> RemotesError {
    RemotesError::LfsSearch { kind: fault.kind(), reason: fault.to_string() }
}

/// Keeps the error of an input, which says more than that something could not be read.
struct Noting<'i> {
    input: &'i mut dyn BufRead,
    failed: Option<io::Error>,
}

impl BufRead for Noting<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let failed = &mut self.failed;
        self.input.fill_buf().map_err(|error| {
            let kind = error.kind();
            *failed = Some(error);
            kind.into()
        })
    }

    fn consume(&mut self, bytes: usize) {
        self.input.consume(bytes);
    }
}

impl Read for Noting<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}
