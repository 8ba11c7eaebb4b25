//! Ref advertisement of versions 0 and 1, sent as soon as a client connects (gitprotocol-pack, "Reference Discovery").

use std::io::{self, Write};

use gix::ObjectId;
use gix::bstr::BStr;

use super::capabilities::{AGENT, Service, Version};
use super::ls_refs::{HEX_BYTES, hex_of};
use super::pkt_line::PacketWriter;
use crate::refs::RefValue;
use crate::view::{PeeledTags, View};

/// Options of a ref advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdvertisedRefs<'a> {
    /// True to start with `HEAD`, unless it is unborn.
    pub head: bool,
    /// Peeled tags, advertised as `<name>^{}`; `None` to omit them.
    pub peeled: Option<&'a PeeledTags>,
    /// True to advertise `filter`: partial clones.
    pub filter: bool,
}

/// Writes the line that precedes an advertisement over HTTP.
pub fn announce_service(service: Service, out: &mut dyn Write) -> io::Result<()> {
    let mut out = PacketWriter::new(out);
    out.line(format!("# service={}", service.name()).as_bytes())?;
    out.flush_packet()
}

/// Writes a ref advertisement. `capabilities` are separated by spaces.
///
/// Appends `symref`, `filter`, `object-format` and `agent` in the order of Git: libgit2 reads past the end of an
/// `object-format` in last place.
pub fn advertise_refs(
    view: &View,
    version: Version,
    which: AdvertisedRefs<'_>,
    capabilities: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut out = PacketWriter::new(out);
    if version == Version::V1 {
        out.line(b"version 1")?;
    }
    let mut all = capabilities.to_owned().into_bytes();
    let head = which.head.then(|| view.head_object()).flatten();
    if let (RefValue::Symbolic(target), Some(_)) = (&view.head, head) {
        all.extend_from_slice(b" symref=HEAD:");
        all.extend_from_slice(target);
    }
    let filter = if which.filter { " filter" } else { "" };
    all.extend_from_slice(format!("{filter} object-format={} {AGENT}", view.format).as_bytes());
    let mut advertisement = Advertisement { out, capabilities: Some(all) };
    if let Some(id) = head {
        advertisement.line(&id, b"HEAD".into(), b"")?;
        if let Some(peeled) = which.peeled.and_then(|_| view.head_peeled()) {
            advertisement.line(&peeled, b"HEAD".into(), b"^{}")?;
        }
    }
    for entry in view.refs.iter() {
        let Some(id) = view.refs.object(&entry) else { continue };
        advertisement.line(&id, entry.name, b"")?;
        if let Some(peeled) = which.peeled.and_then(|peeled| peeled.get(entry.row)) {
            advertisement.line(&peeled, entry.name, b"^{}")?;
        }
    }
    if advertisement.capabilities.is_some() {
        advertisement.line(&ObjectId::null(view.format), b"capabilities".into(), b"^{}")?;
    }
    advertisement.out.flush_packet()
}

struct Advertisement<W> {
    out: PacketWriter<W>,
    /// Capabilities to append to the first line; `None` afterwards.
    capabilities: Option<Vec<u8>>,
}

impl<W: Write> Advertisement<W> {
    fn line(&mut self, id: &ObjectId, name: &BStr, suffix: &[u8]) -> io::Result<()> {
        let mut digits = [0; HEX_BYTES];
        let id = hex_of(id, &mut digits);
        match self.capabilities.take() {
            Some(all) => self.out.parts(&[id, b" ", name, suffix, b"\0", &all, b"\n"]),
            None => self.out.parts(&[id, b" ", name, suffix, b"\n"]),
        }
    }
}
