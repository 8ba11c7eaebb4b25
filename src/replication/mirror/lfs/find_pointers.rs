//! Finds the LFS pointers in the objects that a pass would send.

use std::fs::File;
use std::io::{self, BufRead, BufWriter, Read, Write as _};
use std::path::PathBuf;

use gix::hash::Kind as Format;

use crate::mirror::error::MirrorError;
use crate::mirror::object_source::{ObjectSource, PackRequest};
use gitferry_git::client::ClientError;
use gitferry_git::lfs::{MAX_POINTER_BYTES, MAX_POINTERS, Pointer};
use gitferry_git::pack::{
    Arrival, ArrivalLimits, CheckOptions, CheckProgress, Fault, MAX_RESOLVED_BYTES, arrive, check_arrived,
};
use gitferry_git::protocol::Filter;
use gitferry_git::receive_pack::MAX_EXPANSION;

/// Bytes that resolved objects may have beyond [`MAX_EXPANSION`] times their pack.
const FREE_BYTES: u64 = 1 << 30;
/// Bytes that are written to the temporary file at a time.
const WRITE_BYTES: usize = 256 << 10;

/// Temporary space for a pack that is searched for pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spill {
    /// Directory.
    pub dir: PathBuf,
    /// Most bytes of the pack.
    pub bytes: u64,
}

/// Returns the pointers in the objects of a fetch, one per LFS object. Fetches commits, trees and small blobs, and
/// discards them after the search.
pub fn find_pointers(
    object_source: &mut dyn ObjectSource,
    wanted: &PackRequest,
    format: Format,
    spill: &Spill,
) -> Result<Vec<Pointer>, MirrorError> {
    let filter = Some(Filter { blob_limit: Some(MAX_POINTER_BYTES as u64 + 1), ..Filter::default() });
    let wanted = PackRequest { thin: false, ofs_delta: true, filter, ..wanted.clone() };
    let mut pack = object_source.pack(&wanted).map_err(|error| match error {
        MirrorError::Client(ClientError::Unsupported { server, what }) => MirrorError::LfsUnsupported { server, what },
        error => error,
    })?;
    let dir = tempfile::tempdir_in(&spill.dir)?;
    let file = dir.path().join("pack");
    let index = dir.path().join("index");
    let limits = ArrivalLimits { pack_bytes: spill.bytes, object_bytes: MAX_RESOLVED_BYTES };
    let mut input = ErrorRecorder { input: &mut *pack.bytes, failed: None };
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
        return Err(MirrorError::LfsSearch { kind: gitferry_base::Kind::Refused, reason });
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

fn search_failed(fault: Fault) -> MirrorError {
    MirrorError::LfsSearch { kind: fault.kind(), reason: fault.to_string() }
}

/// Keeps the error of an input, which the consumer reduces to its kind.
struct ErrorRecorder<'i> {
    input: &'i mut dyn BufRead,
    failed: Option<io::Error>,
}

impl BufRead for ErrorRecorder<'_> {
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

impl Read for ErrorRecorder<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}
