//! Snapshots: all refs after one change, sorted by name, in the lines of Git's packed-refs format
//! (gitformat: "packed-refs" in gitrepository-layout(5)), compressed with zstd, read and written as streams.
//!
//! One addition: a symbolic ref's line has `ref:<target>` where others have an object id.

use std::io::{BufRead, BufReader, Read, Write};

use gix::bstr::ByteSlice;

use super::LedgerError;
use super::hash::RefsDigest;
use crate::git::refs::{RefName, RefValue};

const HEADER: &[u8] = b"# pack-refs with: sorted \n";
/// zstd's level: refs are mostly random bytes in hex, more effort gains nothing.
const COMPRESSION_LEVEL: i32 = 3;
/// No line of a snapshot is longer.
const MAX_LINE_BYTES: u64 = 8 * 1024;

/// Writes a snapshot ref by ref.
pub struct SnapshotWriter<W: Write> {
    out: zstd::Encoder<'static, W>,
    digest: RefsDigest,
    count: u64,
}

impl<W: Write> SnapshotWriter<W> {
    /// Starts with the header.
    pub fn new(out: W) -> Result<Self, LedgerError> {
        let mut out = zstd::Encoder::new(out, COMPRESSION_LEVEL)?;
        out.include_checksum(true)?;
        out.write_all(HEADER)?;
        Ok(SnapshotWriter { out, digest: RefsDigest::ZERO, count: 0 })
    }

    /// Adds the next ref; names come in rising order.
    pub fn push(&mut self, name: &RefName, value: &RefValue) -> Result<(), LedgerError> {
        self.out.write_all(&value.to_bytes())?;
        self.out.write_all(b" ")?;
        self.out.write_all(name.as_bstr())?;
        self.out.write_all(b"\n")?;
        self.digest.toggle(name.as_bstr(), value);
        self.count += 1;
        Ok(())
    }

    /// Ends the stream; tells the digest of the refs written (HEAD is not among them) and their number.
    pub fn finish(self) -> Result<(W, RefsDigest, u64), LedgerError> {
        Ok((self.out.finish()?, self.digest, self.count))
    }
}

fn broken(error: std::io::Error) -> LedgerError {
    LedgerError::of_stream("the snapshot of the refs", error)
}

/// Reads a snapshot ref by ref.
pub struct SnapshotReader<R: Read> {
    lines: BufReader<zstd::Decoder<'static, BufReader<R>>>,
    line: Vec<u8>,
    /// The name before: they rise, or zstd's checksum at the end would only tell later that they do not.
    last: Option<RefName>,
}

impl<R: Read> SnapshotReader<R> {
    /// Checks the header.
    pub fn new(input: R) -> Result<Self, LedgerError> {
        let input = zstd::Decoder::new(input).map_err(broken)?;
        let mut reader = SnapshotReader { lines: BufReader::new(input), line: Vec::new(), last: None };
        reader.read_line()?;
        if reader.line != HEADER {
            return Err(LedgerError::corrupt("the snapshot of the refs has no valid header"));
        }
        Ok(reader)
    }

    fn read_line(&mut self) -> Result<(), LedgerError> {
        self.line.clear();
        (&mut self.lines).take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line).map_err(broken)?;
        Ok(())
    }

    /// The next ref, or `None` behind the last.
    pub fn next_ref(&mut self) -> Result<Option<(RefName, RefValue)>, LedgerError> {
        self.read_line()?;
        if self.line.is_empty() {
            return Ok(None);
        }
        let parsed = self
            .line
            .strip_suffix(b"\n")
            .and_then(|line| line.split_once_str(b" "))
            .and_then(|(value, name)| Some((RefName::new(name.as_bstr()).ok()?, RefValue::parse(value).ok()?)));
        let Some((name, value)) = parsed.filter(|(name, _)| self.last.as_ref().is_none_or(|last| last < name)) else {
            return Err(LedgerError::corrupt("the snapshot of the refs has a line that is no ref or out of order"));
        };
        self.last = Some(name.clone());
        Ok(Some((name, value)))
    }
}
