//! Sealing changes: edits are spooled, then hashed after their header.

use std::io::Write;

use bytes::Bytes;
use gix::bstr::{BString, ByteSlice};
use sha2::{Digest as _, Sha256};

use super::{
    ChangeError, ChangeHeader, ChangePack, ChangeReader, LfsObject, MAX_INLINE_BYTES, MAX_LFS_OBJECTS, MAX_PACKS,
    RefEdit, clean_actor,
};
use crate::ledger::hash::{ChangeHash, Lattice, RefsDigest};
use gitferry_git::refs::RefValue;

/// Finished bytes of a change.
#[derive(Debug)]
pub struct SealedChange {
    /// Header of the change.
    pub header: ChangeHeader,
    /// SHA-256 of the bytes.
    pub hash: ChangeHash,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of the change.
    pub body: ChangeBody,
    /// Hash of all refs and HEAD after the change.
    pub refs: Lattice,
}

/// Place of a sealed change's bytes until the commit.
#[derive(Debug)]
pub enum ChangeBody {
    /// In memory, at most [`MAX_INLINE_BYTES`].
    Inline(Bytes),
    /// In a temporary file.
    Spooled(tempfile::TempPath),
}

/// Collects ref edits, sorted by name, and seals them into a change. Holds at most [`MAX_INLINE_BYTES`] of them in
/// memory; more go to a temporary file.
#[derive(Debug)]
pub struct EditSpool {
    buffer: Vec<u8>,
    file: Option<tempfile::NamedTempFile>,
    dir: std::path::PathBuf,
    last: BString,
    count: u64,
    /// Sum of the edits.
    effect: Lattice,
}

impl EditSpool {
    /// Creates an empty spool with temporary files in `dir`.
    pub fn new(dir: impl Into<std::path::PathBuf>) -> Self {
        EditSpool {
            buffer: Vec::new(),
            file: None,
            dir: dir.into(),
            last: BString::default(),
            count: 0,
            effect: Lattice::default(),
        }
    }

    /// Appends an edit. Names must rise, and old and new values must differ.
    pub fn push(&mut self, edit: &RefEdit) -> Result<(), ChangeError> {
        let name = edit.name.as_bstr();
        if (self.count > 0 && name <= self.last.as_bstr()) || edit.old == edit.new {
            let reason = format!("the edit of {name} is out of order or changes nothing");
            return Err(ChangeError::Malformed { line: 0, reason });
        }
        push_value(&mut self.buffer, edit.old.as_ref());
        self.buffer.push(b' ');
        push_value(&mut self.buffer, edit.new.as_ref());
        self.buffer.push(b' ');
        self.buffer.extend_from_slice(name);
        self.buffer.push(b'\n');
        self.effect.edit(name, edit.old.as_ref(), edit.new.as_ref());
        self.last = name.to_owned();
        self.count += 1;
        if self.buffer.len() > MAX_INLINE_BYTES {
            self.spill()?;
        }
        Ok(())
    }

    /// Returns the number of edits.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Returns true if there are no edits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn spill(&mut self) -> Result<(), ChangeError> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::NamedTempFile::new_in(&self.dir)?),
        };
        file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Seals the edits under `header`, and fills in `edits` and `digest`. `before` is the hash of all refs and HEAD
    /// before the change.
    pub fn seal(mut self, mut header: ChangeHeader, before: Lattice) -> Result<SealedChange, ChangeError> {
        assert!(
            header.packs.len() <= MAX_PACKS && header.lfs.len() <= MAX_LFS_OBJECTS,
            "change {} keeps the limits of readers: {} packs, {} LFS objects",
            header.seq,
            header.packs.len(),
            header.lfs.len()
        );
        let mut refs = before;
        refs.add(&self.effect);
        if let Some(head) = &header.head {
            refs.edit(b"HEAD", head.old.as_ref(), Some(&head.new));
        }
        header.edits = self.count;
        header.digest = refs.digest();
        header.actor = clean_actor(&header.actor);
        let mut bytes = Vec::new();
        header.write_to(&mut bytes);
        if self.file.is_none() && bytes.len() + self.buffer.len() <= MAX_INLINE_BYTES {
            bytes.append(&mut self.buffer);
            let hash = ChangeHash::of(&bytes);
            let size = bytes.len() as u64;
            debug_assert!(
                ChangeReader::new(&bytes[..])
                    .and_then(ChangeReader::finish)
                    .is_ok_and(|read| (read.1, read.2) == (hash, size)),
                "a sealed change is a valid one: {}",
                String::from_utf8_lossy(&bytes)
            );
            return Ok(SealedChange { header, hash, size, body: ChangeBody::Inline(bytes.into()), refs });
        }
        self.spill()?;
        let mut out = HashingWriter::new(tempfile::NamedTempFile::new_in(&self.dir)?);
        out.write_all(&bytes)?;
        if let Some(mut edits) = self.file.take() {
            use std::io::Seek;
            edits.flush()?;
            edits.seek(std::io::SeekFrom::Start(0))?;
            std::io::copy(&mut edits, &mut out)?;
        }
        let (file, hash, size) = out.finish()?;
        Ok(SealedChange { header, hash, size, body: ChangeBody::Spooled(file.into_temp_path()), refs })
    }
}

struct HashingWriter {
    out: std::io::BufWriter<tempfile::NamedTempFile>,
    hasher: Sha256,
    size: u64,
}

impl HashingWriter {
    fn new(file: tempfile::NamedTempFile) -> Self {
        HashingWriter { out: std::io::BufWriter::new(file), hasher: Sha256::new(), size: 0 }
    }

    fn finish(self) -> std::io::Result<(tempfile::NamedTempFile, ChangeHash, u64)> {
        let file = self.out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok((file, ChangeHash(self.hasher.finalize().into()), self.size))
    }
}

impl Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

impl ChangeHeader {
    /// Writes all lines before the first edit.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        let mut line = |key: &str, value: String| out.extend_from_slice(format!("{key} {value}\n").as_bytes());
        let format = match self.digest {
            RefsDigest::Xor(_) => 1,
            RefsDigest::Lattice(_) if self.metadata.is_empty() => 2,
            RefsDigest::Lattice(_) => 3,
        };
        line("gitferry-change", format.to_string());
        line("epoch", format!("{} {}", self.epoch, self.region));
        line("seq", self.seq.to_string());
        line("prev", self.prev.to_string());
        line("time", self.time.as_millisecond().to_string());
        line("actor", self.actor.clone());
        if let Some(name) = &self.name {
            line("name", name.clone());
        }
        if let Some(format) = self.format {
            line("format", format.to_string());
        }
        if let Some(state) = self.state {
            line("state", state.to_string());
        }
        if let Some(head) = &self.head {
            out.extend_from_slice(b"head ");
            push_value(out, head.old.as_ref());
            out.push(b' ');
            push_value(out, Some(&head.new));
            out.push(b'\n');
        }
        if let Some(description) = &self.metadata.description {
            out.extend_from_slice(format!("description {}\n", json_text(description)).as_bytes());
        }
        for (key, value) in &self.metadata.tags {
            let value = value.as_deref().map_or_else(|| "-".to_owned(), json_text);
            out.extend_from_slice(format!("tag {} {value}\n", json_text(key)).as_bytes());
        }
        for pack in &self.packs {
            let closed = if pack.closed { "closed" } else { "open" };
            let ChangePack { id, bytes, objects, crc64, index_bytes, index_crc64, .. } = pack;
            let text = format!("pack {id} {bytes} {objects} {crc64} {index_bytes} {index_crc64} {closed}\n");
            out.extend_from_slice(text.as_bytes());
        }
        for LfsObject { oid, size, crc64 } in &self.lfs {
            out.extend_from_slice(format!("lfs {oid} {size} {crc64}\n").as_bytes());
        }
        out.extend_from_slice(format!("digest {}\nedits {}\n", self.digest, self.edits).as_bytes());
    }
}

/// A text as JSON, in which no line ends.
fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn push_value(out: &mut Vec<u8>, value: Option<&RefValue>) {
    match value {
        None => out.push(b'-'),
        Some(value) => out.extend_from_slice(&value.to_bytes()),
    }
}
