//! Snapshots: all refs after one change, sorted by name, in the lines of Git's packed-refs format ("packed-refs" in
//! gitrepository-layout(5)), compressed with zstd, written and read as streams.
//!
//! One addition: the line of a symbolic ref has `ref:<target>` in place of the object id.
//!
//! The head records the SHA-256 of its snapshot. A reader has proven the snapshot when it reaches the end, and must not
//! use any of it before.

use std::io::{self, BufRead, BufReader, Read, Write};

use gix::bstr::ByteSlice;
use sha2::{Digest as _, Sha256};

use super::LedgerError;
use super::hash::{HashedRefs, SnapshotHash};
use gitferry_git::refs::{RefName, RefValue};

const HEADER: &[u8] = b"# pack-refs with: sorted \n";
/// Compression level of zstd: refs are mostly random bytes in hex, more effort gains nothing.
const COMPRESSION_LEVEL: i32 = 3;
/// Longest line of a snapshot, in bytes.
const MAX_LINE_BYTES: u64 = 8 * 1024;

/// Writes a snapshot ref by ref.
pub struct SnapshotWriter<W: Write> {
    out: zstd::Encoder<'static, Hashing<W>>,
    refs: HashedRefs,
    count: u64,
}

/// A finished snapshot.
#[derive(Debug)]
pub struct Written<W> {
    /// Sink that holds the snapshot's bytes.
    pub out: W,
    /// SHA-256 of the snapshot's bytes.
    pub sha256: SnapshotHash,
    /// Hash of the refs, without HEAD.
    pub refs: HashedRefs,
    /// Number of refs.
    pub count: u64,
}

impl<W: Write> SnapshotWriter<W> {
    /// Writes the header.
    pub fn new(out: W) -> Result<Self, LedgerError> {
        let mut out = zstd::Encoder::new(Hashing::new(out), COMPRESSION_LEVEL)?;
        out.include_checksum(true)?;
        out.write_all(HEADER)?;
        Ok(SnapshotWriter { out, refs: HashedRefs::default(), count: 0 })
    }

    /// Appends a ref; names must rise.
    pub fn push(&mut self, name: &RefName, value: &RefValue) -> Result<(), LedgerError> {
        self.out.write_all(&value.to_bytes())?;
        self.out.write_all(b" ")?;
        self.out.write_all(name.as_bstr())?;
        self.out.write_all(b"\n")?;
        self.refs.edit(name.as_bstr(), None, Some(value));
        self.count += 1;
        Ok(())
    }

    /// Ends the stream.
    pub fn finish(self) -> Result<Written<W>, LedgerError> {
        let Hashing { inner: out, hasher } = self.out.finish()?;
        Ok(Written { out, sha256: SnapshotHash(hasher.finalize().into()), refs: self.refs, count: self.count })
    }
}

/// Hashes all bytes that pass through.
struct Hashing<T> {
    inner: T,
    hasher: Sha256,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Hashing { inner, hasher: Sha256::new() }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

fn broken(error: std::io::Error) -> LedgerError {
    LedgerError::of_stream("the snapshot of the refs", error)
}

/// Reads a snapshot ref by ref, and proves it at the end.
pub struct SnapshotReader<R: Read> {
    lines: BufReader<zstd::Decoder<'static, BufReader<Hashing<R>>>>,
    expected: SnapshotHash,
    line: Vec<u8>,
    /// Previous name. Names must rise: SHA-256 would find a violation only at the end.
    last: Option<RefName>,
}

impl<R: Read> SnapshotReader<R> {
    /// Reads and checks the header.
    pub fn new(input: R, expected: SnapshotHash) -> Result<Self, LedgerError> {
        let input = zstd::Decoder::new(Hashing::new(input)).map_err(broken)?;
        let mut reader = SnapshotReader { lines: BufReader::new(input), expected, line: Vec::new(), last: None };
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

    /// Reads the bytes after the last ref and compares the hash of all bytes.
    fn prove(&mut self) -> Result<(), LedgerError> {
        let input = self.lines.get_mut().get_mut();
        io::copy(input, &mut io::sink()).map_err(broken)?;
        let found = SnapshotHash(input.get_ref().hasher.clone().finalize().into());
        if found == self.expected {
            return Ok(());
        }
        let expected = self.expected;
        Err(LedgerError::corrupt(format!(
            "the snapshot of the refs has SHA-256 {found}, its head records {expected}: its bytes were altered"
        )))
    }

    /// Returns the next ref, or `None` after the last ref of a snapshot that matches its head.
    pub fn next_ref(&mut self) -> Result<Option<(RefName, RefValue)>, LedgerError> {
        self.read_line()?;
        if self.line.is_empty() {
            self.prove()?;
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
