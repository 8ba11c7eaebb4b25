//! Client side of [`FetchRequest`]: writes it in versions 0 and 2.

use std::io::{self, Write};

use gix::ObjectId;

use super::fetch_request::{Deepen, FetchRequest, MultiAck, SidebandWidth};
use super::ls_refs::{HEX_BYTES, hex_of};
use super::pkt_line::PacketWriter;

impl FetchRequest {
    /// Writes the arguments of version 2's `fetch` and the flush packet that ends them.
    pub fn write_v2<W: Write>(&self, out: &mut PacketWriter<W>) -> io::Result<()> {
        for word in self.flags() {
            out.line(word.as_bytes())?;
        }
        if self.wait_for_done {
            out.line(b"wait-for-done")?;
        }
        self.write_wants(b"", out)?;
        for name in &self.want_refs {
            out.parts(&[b"want-ref ", name, b"\n"])?;
        }
        self.write_limits(true, out)?;
        write_ids(b"have ", &self.haves, out)?;
        if self.done {
            out.line(b"done")?;
        }
        out.flush_packet()
    }

    /// Writes the wants of version 0 and the flush packet that ends them, without haves. `named` are capabilities with
    /// values, `object-format=…` and `agent=…`, which clients send only to servers that advertise them.
    pub fn write_v0<W: Write>(&self, named: &[String], out: &mut PacketWriter<W>) -> io::Result<()> {
        let mut words = self.flags();
        words.extend(match self.multi_ack {
            MultiAck::None => None,
            MultiAck::Continue => Some("multi_ack"),
            MultiAck::Detailed => Some("multi_ack_detailed"),
        });
        words.extend(match self.sideband {
            SidebandWidth::None => None,
            SidebandWidth::Small => Some("side-band"),
            SidebandWidth::Large => Some("side-band-64k"),
        });
        words.extend(self.no_done.then_some("no-done"));
        words.extend((!self.filter.is_empty()).then_some("filter"));
        words.extend(matches!(self.deepen, Some(Deepen::Relative(_))).then_some("deepen-relative"));
        let mut capabilities = String::new();
        for word in words.into_iter().chain(named.iter().map(String::as_str)) {
            capabilities.push(' ');
            capabilities.push_str(word);
        }
        self.write_wants(capabilities.as_bytes(), out)?;
        self.write_limits(false, out)?;
        out.flush_packet()
    }

    /// Returns the words that are arguments in version 2 and capabilities in version 0.
    fn flags(&self) -> Vec<&'static str> {
        let all = [
            (self.thin_pack, "thin-pack"),
            (self.no_progress, "no-progress"),
            (self.include_tag, "include-tag"),
            (self.ofs_delta, "ofs-delta"),
        ];
        all.into_iter().filter_map(|(asked, word)| asked.then_some(word)).collect()
    }

    fn write_wants<W: Write>(&self, capabilities: &[u8], out: &mut PacketWriter<W>) -> io::Result<()> {
        let Some((first, rest)) = self.wants.split_first() else { return Ok(()) };
        out.parts(&[b"want ", hex_of(first, &mut [0; HEX_BYTES]), capabilities, b"\n"])?;
        write_ids(b"want ", rest, out)
    }

    fn write_limits<W: Write>(&self, v2: bool, out: &mut PacketWriter<W>) -> io::Result<()> {
        write_ids(b"shallow ", &self.shallow, out)?;
        match &self.deepen {
            Some(Deepen::Depth(count)) => out.line(format!("deepen {count}").as_bytes())?,
            Some(Deepen::Relative(count)) => {
                out.line(format!("deepen {count}").as_bytes())?;
                if v2 {
                    out.line(b"deepen-relative")?;
                }
            }
            Some(Deepen::Commits { since, not }) => {
                if let Some(since) = since {
                    out.line(format!("deepen-since {since}").as_bytes())?;
                }
                for name in not {
                    out.parts(&[b"deepen-not ", name, b"\n"])?;
                }
            }
            None => {}
        }
        if self.filter.is_empty() { Ok(()) } else { out.line(format!("filter {}", self.filter).as_bytes()) }
    }
}

/// Writes a line for each id.
pub(crate) fn write_ids<W: Write>(word: &[u8], ids: &[ObjectId], out: &mut PacketWriter<W>) -> io::Result<()> {
    let mut digits = [0; HEX_BYTES];
    ids.iter().try_for_each(|id| out.parts(&[word, hex_of(id, &mut digits), b"\n"]))
}

#[cfg(test)]
mod tests {
    use super::super::{Filter, Offers, PacketReader, ProtocolError, RequestLimits};
    use super::*;
    use gix::hash::Kind as Format;
    use proptest::prelude::*;

    fn ids(format: Format) -> impl Strategy<Value = Vec<ObjectId>> {
        let id = proptest::collection::vec(any::<u8>(), format.len_in_bytes());
        proptest::collection::vec(id.prop_map(|bytes| ObjectId::from_bytes_or_panic(&bytes)), 0..5)
    }

    fn deepen() -> impl Strategy<Value = Option<Deepen>> {
        let not = proptest::collection::vec("[a-z]{1,5}".prop_map(Into::into), 1..3);
        proptest::option::of(prop_oneof![
            (1..Deepen::WHOLE).prop_map(Deepen::Depth),
            (1..Deepen::WHOLE).prop_map(Deepen::Relative),
            (proptest::option::of(0..i64::MAX), not).prop_map(|(since, not)| Deepen::Commits { since, not }),
        ])
    }

    fn request(format: Format) -> impl Strategy<Value = FetchRequest> {
        let lists = (ids(format), ids(format), ids(format), deepen());
        let filter = (any::<Option<u64>>(), any::<Option<u32>>());
        (lists, filter, any::<[bool; 7]>()).prop_map(move |((mut wants, haves, shallow, deepen), filter, flags)| {
            let [done, thin_pack, no_progress, include_tag, ofs_delta, wait_for_done, no_done] = flags;
            wants.push(ObjectId::from_bytes_or_panic(&vec![7; format.len_in_bytes()]));
            let filter = Filter { blob_limit: filter.0, tree_depth: filter.1, ..Filter::default() };
            let (sideband, multi_ack) = (SidebandWidth::Large, MultiAck::None);
            let want_refs = vec!["refs/heads/x".into()];
            FetchRequest {
                wants,
                want_refs,
                haves,
                shallow,
                deepen,
                filter,
                done,
                thin_pack,
                no_progress,
                include_tag,
                ofs_delta,
                wait_for_done,
                sideband,
                multi_ack,
                no_done,
            }
        })
    }

    proptest! {
        #[test]
        fn version_2_is_read_as_it_was_written(request in request(Format::Sha1)) {
            let request = FetchRequest { no_done: false, ..request };
            let mut bytes = Vec::new();
            request.write_v2(&mut PacketWriter::new(&mut bytes)).unwrap();
            let limits = (&RequestLimits::default(), Offers { ref_in_want: true });
            let mut input = PacketReader::new(&bytes[..]);
            let read = FetchRequest::read_v2::<_, ProtocolError>(&mut input, Format::Sha1, limits, &mut |_| Ok(true));
            prop_assert_eq!(read.unwrap(), request);
        }

        #[test]
        fn version_0_is_read_as_it_was_written(request in request(Format::Sha1), small in any::<bool>(), detailed in any::<bool>()) {
            let request = FetchRequest {
                want_refs: Vec::new(), haves: Vec::new(), done: false, wait_for_done: false,
                sideband: if small { SidebandWidth::Small } else { SidebandWidth::Large },
                multi_ack: if detailed { MultiAck::Detailed } else { MultiAck::Continue },
                ..request
            };
            let mut bytes = Vec::new();
            request.write_v0(&["object-format=sha1".into()], &mut PacketWriter::new(&mut bytes)).unwrap();
            let limits = RequestLimits::default();
            let mut input = PacketReader::new(&bytes[..]);
            let read = FetchRequest::read_v0::<_, ProtocolError>(&mut input, Format::Sha1, &limits, &mut |_| Ok(true));
            prop_assert_eq!(read.unwrap(), request);
        }
    }
}
