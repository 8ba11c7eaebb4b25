//! Strict, streaming reader of changes: equal changes have equal bytes.

use std::io::BufRead;

use gix::bstr::{BString, ByteSlice};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{ChangeError, ChangeHeader, ChangePack, HeadEdit, LfsObject, MAX_LFS_OBJECTS, MAX_PACKS, RefEdit};
use crate::ledger::hash::{ChangeHash, RefsDigest};
use crate::ledger::metadata::{MAX_TAG_EDITS, MetadataEdit};
use gitferry_git::refs::{RefName, RefValue};

/// Longest line of a change, in bytes (ref names end at 1,024 bytes, symbolic values double that).
const MAX_LINE_BYTES: usize = 8 * 1024;

/// Reads a change as a stream: the header, then each edit, then the hash.
pub struct ChangeReader<R> {
    lines: Lines<R>,
    header: ChangeHeader,
    left: u64,
    last: BString,
}

impl<R: BufRead> ChangeReader<R> {
    /// Reads the header.
    pub fn new(input: R) -> Result<Self, ChangeError> {
        let mut lines =
            Lines { input, hasher: Sha256::new(), buffer: Vec::new(), number: 0, size: 0, read: Vec::new() };
        let header = read_header(&mut lines)?;
        check_spelling(&header, &std::mem::take(&mut lines.read))?;
        Ok(ChangeReader { left: header.edits, lines, header, last: BString::default() })
    }

    /// Returns the header.
    pub fn header(&self) -> &ChangeHeader {
        &self.header
    }

    /// Returns the next edit, or `None` after the last.
    pub fn next_edit(&mut self) -> Result<Option<RefEdit>, ChangeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let line = self.lines.next()?;
        let mut fields = line.splitn(3, |b| *b == b' ');
        let old = fields.next();
        let new = fields.next();
        let name = fields.next();
        let parsed = (|| {
            let old = parse_value(old?)?;
            let new = parse_value(new?)?;
            let name = RefName::new(name?.as_bstr()).ok()?;
            (old != new).then_some(RefEdit { name, old, new })
        })();
        let Some(edit) = parsed else { return Err(self.lines.malformed("not an edit")) };
        if !self.last.is_empty() && edit.name.as_bstr() <= self.last.as_bstr() {
            return Err(self.lines.malformed("the edits are not sorted by name"));
        }
        self.last = edit.name.as_bstr().to_owned();
        Ok(Some(edit))
    }

    /// Reads remaining edits, checks that nothing follows, and returns header, hash and size in bytes.
    pub fn finish(mut self) -> Result<(ChangeHeader, ChangeHash, u64), ChangeError> {
        while self.next_edit()?.is_some() {}
        if !self.lines.input.fill_buf()?.is_empty() {
            return Err(self.lines.malformed("bytes follow the last edit"));
        }
        Ok((self.header, ChangeHash(self.lines.hasher.finalize().into()), self.lines.size))
    }
}

struct Lines<R> {
    input: R,
    hasher: Sha256,
    buffer: Vec<u8>,
    number: u64,
    size: u64,
    /// Exact lines of the header, until it is complete.
    read: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Reads the next line of the header, without the newline.
    fn next_of_header(&mut self) -> Result<&[u8], ChangeError> {
        self.next()?;
        self.read.extend_from_slice(&self.buffer);
        Ok(&self.buffer[..self.buffer.len() - 1])
    }

    /// Reads the next line, without the newline.
    fn next(&mut self) -> Result<&[u8], ChangeError> {
        self.number += 1;
        self.buffer.clear();
        let mut limited = std::io::Read::take(&mut self.input, MAX_LINE_BYTES as u64);
        limited.read_until(b'\n', &mut self.buffer)?;
        if self.buffer.last() != Some(&b'\n') {
            return Err(self.malformed("it is cut off or too long"));
        }
        self.hasher.update(&self.buffer);
        self.size += self.buffer.len() as u64;
        Ok(&self.buffer[..self.buffer.len() - 1])
    }

    fn malformed(&self, reason: impl Into<String>) -> ChangeError {
        ChangeError::Malformed { line: self.number, reason: reason.into() }
    }
}

/// Refuses other spellings of numbers and hashes (`07`, `+7`, upper case) than the one that gitferry writes.
fn check_spelling(header: &ChangeHeader, read: &[u8]) -> Result<(), ChangeError> {
    let mut written = Vec::with_capacity(read.len());
    header.write_to(&mut written);
    if written == read {
        return Ok(());
    }
    let same = written.iter().zip(read).take_while(|(a, b)| a == b).filter(|(a, _)| **a == b'\n').count();
    let reason = "it is not spelled as gitferry writes it".into();
    Err(ChangeError::Malformed { line: same as u64 + 1, reason })
}

/// Parses a value; `Some(None)` is the absent value `-`.
#[allow(clippy::option_option)]
fn parse_value(text: &[u8]) -> Option<Option<RefValue>> {
    match text {
        b"-" => Some(None),
        _ => RefValue::parse(text).ok().map(Some),
    }
}

/// Reads the header's lines in their fixed order, so that equal changes have equal bytes.
fn read_header<R: BufRead>(lines: &mut Lines<R>) -> Result<ChangeHeader, ChangeError> {
    let mut fields = Fields { current: split_line(lines)?, lines };
    let version = fields.required("gitferry-change")?;
    if !matches!(version.as_str(), "1" | "2" | "3") {
        let reason = format!("version {version} is not known: a newer gitferry wrote it, update this one first");
        return Err(fields.bad_value(reason));
    }
    let epoch = fields.required("epoch")?;
    let Some((number, region)) = epoch.split_once(' ') else { return Err(fields.bad_value("not an epoch")) };
    let number = number.to_owned();
    let region = region.to_owned();
    let mut header = ChangeHeader {
        epoch: fields.number(&number)?,
        region,
        seq: fields.required_number("seq")?,
        prev: fields.required_parsed("prev")?,
        time: {
            let millis = fields.required_parsed("time")?;
            Timestamp::from_millisecond(millis).map_err(|e| fields.bad_value(e.to_string()))?
        },
        actor: fields.required("actor")?,
        name: fields.optional("name")?,
        format: fields.optional_parsed("format")?,
        state: fields.optional_parsed("state")?,
        head: None,
        metadata: MetadataEdit::default(),
        packs: Vec::new(),
        lfs: Vec::new(),
        digest: RefsDigest::default(),
        edits: 0,
    };
    if let Some(bytes) = fields.optional_bytes("head")? {
        header.head = Some(parse_head(&bytes).ok_or_else(|| fields.bad_value("not a HEAD edit"))?);
    }
    if version == "3" {
        header.metadata = read_metadata(&mut fields)?;
    }
    while let Some(text) = fields.optional("pack")? {
        if header.packs.len() == MAX_PACKS {
            return Err(fields.bad_value(format!("it brings more than {MAX_PACKS} packs")));
        }
        header.packs.push(parse_pack(&text).ok_or_else(|| fields.bad_value("not a pack"))?);
    }
    while let Some(text) = fields.optional("lfs")? {
        if header.lfs.len() == MAX_LFS_OBJECTS {
            return Err(fields.bad_value(format!("it names more than {MAX_LFS_OBJECTS} LFS objects")));
        }
        let object = parse_lfs(&text).ok_or_else(|| fields.bad_value("not an LFS object"))?;
        if header.lfs.last().is_some_and(|last| last.oid >= object.oid) {
            return Err(fields.bad_value("the LFS objects are not sorted by id"));
        }
        header.lfs.push(object);
    }
    header.digest = fields.required_parsed("digest")?;
    let edits = fields.take_last("edits")?;
    header.edits = edits.parse().map_err(|_| lines.malformed("not a number of edits"))?;
    Ok(header)
}

/// Reads the lines of metadata. Spelling and order are checked with those of the whole header.
fn read_metadata<R: BufRead>(fields: &mut Fields<'_, R>) -> Result<MetadataEdit, ChangeError> {
    let mut edit = MetadataEdit::default();
    if let Some(text) = fields.optional("description")? {
        let description = serde_json::from_str(&text);
        edit.description = Some(description.map_err(|_| fields.bad_value("not a text in JSON"))?);
    }
    while let Some(text) = fields.optional("tag")? {
        let (key, value) = parse_tag(&text).ok_or_else(|| fields.bad_value("not a tag"))?;
        if edit.tags.len() == MAX_TAG_EDITS {
            return Err(fields.bad_value(format!("it edits more than {MAX_TAG_EDITS} tags")));
        }
        edit.tags.insert(key, value);
    }
    edit.check().map_err(|reason| fields.bad_value(reason))?;
    Ok(edit)
}

fn parse_tag(text: &str) -> Option<(String, Option<String>)> {
    let mut keys = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let key = keys.next()?.ok()?;
    let value = text.get(keys.byte_offset()..)?.strip_prefix(' ')?;
    let value = if value == "-" { None } else { Some(serde_json::from_str(value).ok()?) };
    Some((key, value))
}

fn parse_head(bytes: &[u8]) -> Option<HeadEdit> {
    let (old, new) = bytes.split_once_str(b" ")?;
    Some(HeadEdit { old: parse_value(old)?, new: parse_value(new)?? })
}

fn parse_pack(text: &str) -> Option<ChangePack> {
    let mut fields = text.split(' ');
    let pack = ChangePack {
        id: gix::ObjectId::from_hex(fields.next()?.as_bytes()).ok()?,
        bytes: fields.next()?.parse().ok()?,
        objects: fields.next()?.parse().ok()?,
        crc64: fields.next()?.parse().ok()?,
        index_bytes: fields.next()?.parse().ok()?,
        index_crc64: fields.next()?.parse().ok()?,
        closed: match fields.next()? {
            "closed" => true,
            "open" => false,
            _ => return None,
        },
    };
    fields.next().is_none().then_some(pack)
}

fn parse_lfs(text: &str) -> Option<LfsObject> {
    let mut fields = text.split(' ');
    let object = LfsObject {
        oid: fields.next()?.parse().ok()?,
        size: fields.next()?.parse().ok()?,
        crc64: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(object)
}

fn split_line<R: BufRead>(lines: &mut Lines<R>) -> Result<(String, Vec<u8>), ChangeError> {
    let line = lines.next_of_header()?;
    let Some((key, value)) = line.split_once_str(b" ") else { return Err(lines.malformed("it has no value")) };
    let key = key.to_str_lossy().into_owned();
    let value = value.to_vec();
    Ok((key, value))
}

/// Lines of the header, with one line of lookahead.
struct Fields<'a, R> {
    current: (String, Vec<u8>),
    lines: &'a mut Lines<R>,
}

impl<R: BufRead> Fields<'_, R> {
    fn optional_bytes(&mut self, key: &str) -> Result<Option<Vec<u8>>, ChangeError> {
        if self.current.0 != key {
            return Ok(None);
        }
        let next = split_line(self.lines)?;
        Ok(Some(std::mem::replace(&mut self.current, next).1))
    }

    /// Reports a bad value, which is in the line before the lookahead.
    fn bad_value(&self, reason: impl Into<String>) -> ChangeError {
        ChangeError::Malformed { line: self.lines.number.saturating_sub(1), reason: reason.into() }
    }

    fn text(&self, bytes: Vec<u8>) -> Result<String, ChangeError> {
        String::from_utf8(bytes).map_err(|_| self.bad_value("it is not UTF-8"))
    }

    fn optional(&mut self, key: &str) -> Result<Option<String>, ChangeError> {
        self.optional_bytes(key)?.map(|bytes| self.text(bytes)).transpose()
    }

    fn required(&mut self, key: &str) -> Result<String, ChangeError> {
        self.optional(key)?.ok_or_else(|| self.lines.malformed(format!("expected `{key}`")))
    }

    /// Takes the last line of the header. Nothing is read ahead of it, because edits follow.
    fn take_last(self, key: &str) -> Result<String, ChangeError> {
        if self.current.0 != key {
            return Err(self.lines.malformed(format!("expected `{key}`")));
        }
        String::from_utf8(self.current.1).map_err(|_| self.lines.malformed("it is not UTF-8"))
    }

    fn number(&self, text: &str) -> Result<u64, ChangeError> {
        text.parse().map_err(|_| self.bad_value("not a number"))
    }

    fn required_number(&mut self, key: &str) -> Result<u64, ChangeError> {
        let text = self.required(key)?;
        self.number(&text)
    }

    fn required_parsed<T: std::str::FromStr>(&mut self, key: &str) -> Result<T, ChangeError> {
        let text = self.required(key)?;
        text.parse().map_err(|_| self.bad_value(format!("`{text}` is not a valid {key}")))
    }

    fn optional_parsed<T: std::str::FromStr>(&mut self, key: &str) -> Result<Option<T>, ChangeError> {
        let Some(text) = self.optional(key)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.bad_value(format!("`{text}` is not a valid {key}")))
    }
}
