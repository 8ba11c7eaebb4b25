//! The `ls-refs` command of version 2 (gitprotocol-v2).

use std::io::{self, BufRead, Write};

use gix::ObjectId;
use gix::bstr::{BStr, BString};

use super::error::ProtocolError;
use super::pkt_line::{Packet, PacketReader, PacketWriter};
use crate::refs::RefValue;
use crate::view::{PeeledTags, View};

/// Most prefixes in a request. As in Git, a request with more lists all refs: clients filter the answer anyway.
pub const MAX_REF_PREFIXES: usize = 65536;
/// Most bytes in all prefixes of a request. A request with more lists all refs.
const MAX_PREFIX_BYTES: usize = 8 << 20;
/// Hexadecimal digits of the longest id.
pub(crate) const HEX_BYTES: usize = 64;

/// Arguments of `ls-refs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LsRefs {
    /// True to include the peeled targets of tags.
    pub peel: bool,
    /// True to include the targets of symbolic refs.
    pub symrefs: bool,
    /// True to list an unborn `HEAD`.
    pub unborn: bool,
    /// Prefixes of the refs to list, sorted, none a prefix of another. Empty lists all refs.
    pub prefixes: Vec<BString>,
}

/// Collects and normalises the prefixes of a request.
#[derive(Default)]
struct Prefixes {
    list: Vec<BString>,
    bytes: usize,
    /// True once a limit is exceeded: all refs are listed.
    all: bool,
}

impl Prefixes {
    fn add(&mut self, prefix: &[u8]) {
        self.bytes += prefix.len();
        self.all |= self.list.len() >= MAX_REF_PREFIXES || self.bytes > MAX_PREFIX_BYTES;
        if !self.all {
            self.list.push(prefix.into());
        }
    }

    fn finish(mut self) -> Vec<BString> {
        if self.all {
            return Vec::new();
        }
        self.list.sort();
        // In a sorted list, names that a prefix covers follow it directly.
        self.list.dedup_by(|next, kept| next.starts_with(kept));
        self.list
    }
}

impl LsRefs {
    /// Reads the arguments, including the flush packet that ends them.
    pub fn read<R: BufRead>(input: &mut PacketReader<R>) -> Result<LsRefs, ProtocolError> {
        let mut request = LsRefs::default();
        let mut prefixes = Prefixes::default();
        loop {
            let line = match input.read_required("the end of the request")? {
                Packet::Flush => break,
                packet => packet.line().ok_or_else(|| ProtocolError::unexpected("an argument", b"a special packet"))?,
            };
            match line {
                b"peel" => request.peel = true,
                b"symrefs" => request.symrefs = true,
                b"unborn" => request.unborn = true,
                _ => {
                    let prefix = line.strip_prefix(b"ref-prefix ");
                    prefixes.add(prefix.ok_or_else(|| ProtocolError::unexpected("an argument of ls-refs", line))?);
                }
            }
        }
        request.prefixes = prefixes.finish();
        Ok(request)
    }

    /// Creates a request for `HEAD` and the refs with one of the prefixes; for all refs if there is none. The answer
    /// includes targets of symbolic refs.
    pub fn of(prefixes: &[&[u8]]) -> LsRefs {
        let mut all = Prefixes::default();
        prefixes.iter().for_each(|prefix| all.add(prefix));
        if !prefixes.is_empty() {
            all.add(b"HEAD");
        }
        LsRefs { peel: false, symrefs: true, unborn: false, prefixes: all.finish() }
    }

    /// Writes the arguments and the flush packet that ends them.
    pub fn write<W: Write>(&self, out: &mut PacketWriter<W>) -> io::Result<()> {
        for (asked, word) in [(self.peel, "peel"), (self.symrefs, "symrefs"), (self.unborn, "unborn")] {
            if asked {
                out.line(word.as_bytes())?;
            }
        }
        for prefix in &self.prefixes {
            out.parts(&[b"ref-prefix ", prefix, b"\n"])?;
        }
        out.flush_packet()
    }

    /// Returns true if the request lists a ref of this name.
    pub(crate) fn includes(&self, name: &BStr) -> bool {
        let before = self.prefixes.partition_point(|prefix| *prefix <= name);
        self.prefixes.is_empty() || before.checked_sub(1).is_some_and(|at| name.starts_with(&self.prefixes[at]))
    }

    /// Writes the answer. With `peel`, `peeled` must not be `None`.
    pub fn answer(&self, view: &View, peeled: Option<&PeeledTags>, out: &mut dyn Write) -> io::Result<()> {
        debug_assert!(!self.peel || peeled.is_some(), "an answer with `peel` needs the peeled tags");
        let mut out = PacketWriter::new(out);
        if self.includes("HEAD".into()) {
            self.head(view, &mut out)?;
        }
        if self.prefixes.is_empty() {
            self.rows(view, peeled, 0..view.refs.len(), &mut out)?;
        }
        for prefix in &self.prefixes {
            self.rows(view, peeled, view.refs.with_prefix(prefix), &mut out)?;
        }
        out.flush_packet()
    }

    fn head<W: Write>(&self, view: &View, out: &mut PacketWriter<W>) -> io::Result<()> {
        let target = match &view.head {
            RefValue::Symbolic(target) => Some(target.as_bstr()),
            RefValue::Object(_) => None,
        };
        match (view.head_object(), target) {
            (Some(id), target) => {
                let peeled = if self.peel { view.head_peeled() } else { None };
                self.line(&id, "HEAD".into(), target, peeled, out)
            }
            (None, Some(target)) if self.unborn && self.symrefs => {
                out.parts(&[b"unborn HEAD symref-target:", target, b"\n"])
            }
            (None, Some(_)) if self.unborn => out.parts(&[b"unborn HEAD\n"]),
            _ => Ok(()),
        }
    }

    fn rows<W: Write>(
        &self,
        view: &View,
        peeled: Option<&PeeledTags>,
        rows: std::ops::Range<usize>,
        out: &mut PacketWriter<W>,
    ) -> io::Result<()> {
        let mut tags = peeled.filter(|_| self.peel).map(|peeled| peeled.from(rows.start).peekable());
        for row in rows {
            let Some(entry) = view.refs.get(row) else { continue };
            let Some(id) = view.refs.object(&entry) else { continue };
            let peeled = tags.as_mut().and_then(|tags| tags.next_if(|(at, _)| *at == row)).map(|(_, id)| id);
            self.line(&id, entry.name, view.refs.symbolic_target(row), peeled, out)?;
        }
        Ok(())
    }

    fn line<W: Write>(
        &self,
        id: &ObjectId,
        name: &BStr,
        target: Option<&BStr>,
        peeled: Option<ObjectId>,
        out: &mut PacketWriter<W>,
    ) -> io::Result<()> {
        let mut digits = [0; HEX_BYTES];
        let mut peeled_digits = [0; HEX_BYTES];
        let target = target.filter(|_| self.symrefs);
        let peeled = peeled.as_ref().map_or(&b""[..], |id| hex_of(id, &mut peeled_digits));
        out.parts(&[
            hex_of(id, &mut digits),
            b" ",
            name,
            if target.is_some() { b" symref-target:" } else { b"" },
            target.unwrap_or_default(),
            if peeled.is_empty() { b"" } else { b" peeled:" },
            peeled,
            b"\n",
        ])
    }
}

/// Writes the hexadecimal digits of an id to `buffer` and returns them.
pub(crate) fn hex_of<'b>(id: &ObjectId, buffer: &'b mut [u8; HEX_BYTES]) -> &'b [u8] {
    let digits = &mut buffer[..id.kind().len_in_hex()];
    let encoded = hex::encode_to_slice(id.as_bytes(), digits);
    assert!(encoded.is_ok(), "an id has two digits a byte");
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(lines: &[Vec<u8>], end: usize) -> Result<LsRefs, ProtocolError> {
        let mut bytes = Vec::new();
        let mut out = PacketWriter::new(&mut bytes);
        lines.iter().for_each(|line| out.data(line).unwrap());
        out.flush_packet().unwrap();
        bytes.truncate(bytes.len().saturating_sub(end));
        LsRefs::read(&mut PacketReader::new(&bytes[..]))
    }

    proptest! {
        #[test]
        fn arbitrary_arguments_never_panic(
            lines in proptest::collection::vec(prop_oneof![
                "(peel|symrefs|unborn|ref-prefix )[ -~\\n]{0,20}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..50),
            ], 0..8),
            end in 0..60usize,
        ) {
            let _ = request(&lines, end);
        }

        /// Overlapping prefixes include every name that starts with one of them.
        #[test]
        fn prefixes_take_what_begins_with_one(
            prefixes in proptest::collection::vec("[ab/]{0,4}", 1..8),
            name in "[ab/]{0,6}",
        ) {
            let lines: Vec<Vec<u8>> = prefixes.iter().map(|prefix| format!("ref-prefix {prefix}\n").into()).collect();
            let request = request(&lines, 0).unwrap();
            let given: Vec<&[u8]> = prefixes.iter().map(|prefix| prefix.as_bytes()).collect();
            let mut written = Vec::new();
            LsRefs::of(&given).write(&mut PacketWriter::new(&mut written)).unwrap();
            let read = LsRefs::read(&mut PacketReader::new(&written[..])).unwrap();
            prop_assert_eq!(&read, &LsRefs::of(&given));
            prop_assert!(read.includes("HEAD".into()));
            prop_assert_eq!(read.includes(name.as_str().into()), request.includes(name.as_str().into()));
            let expected = prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
            prop_assert_eq!(request.includes(name.as_str().into()), expected);
        }
    }
}
