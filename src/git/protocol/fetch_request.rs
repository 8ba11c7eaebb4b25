//! What a client asks upload-pack for: the arguments of version 2's `fetch`, and the lines of version 0.

use std::io::BufRead;

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::hash::Kind as Format;

use super::error::ProtocolError;
use super::filter::Filter;
use super::pkt_line::{Packet, PacketReader};

/// How much one request may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Wanted objects, and wanted refs.
    pub wants: usize,
    /// Objects that the client has, in one request (version 2) or in all rounds (version 0).
    pub haves: usize,
    /// Commits whose parents the client lacks.
    pub shallow: usize,
    /// Refs whose history is not to be sent.
    pub deepen_not: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits { wants: 1 << 20, haves: 1 << 18, shallow: 1 << 18, deepen_not: 1000 }
    }
}

/// How deep a shallow fetch goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deepen {
    /// So many commits from the wanted ones on; [`Deepen::WHOLE`] for all history.
    Depth(u32),
    /// So many commits more than the client has.
    Relative(u32),
    /// Commits since a time (seconds since 1970), without those that some refs reach.
    Commits {
        /// The time.
        since: Option<i64>,
        /// The refs, as the client's user names them.
        not: Vec<BString>,
    },
}

impl Deepen {
    /// The depth that stands for everything (Git's `INFINITE_DEPTH`).
    pub const WHOLE: u32 = 0x7fff_ffff;
}

/// How a client of version 0 wants its haves acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultiAck {
    /// Only the first one.
    #[default]
    None,
    /// `multi_ack`.
    Continue,
    /// `multi_ack_detailed`.
    Detailed,
}

/// How the pack is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SidebandWidth {
    /// As plain bytes.
    #[default]
    None,
    /// In packets of up to 1000 bytes.
    Small,
    /// In packets of up to 65520 bytes.
    Large,
}

/// A request for objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchRequest {
    /// Objects wanted by id.
    pub wants: Vec<ObjectId>,
    /// Refs wanted by name (version 2).
    pub want_refs: Vec<BString>,
    /// Objects that the client says it has (version 2).
    pub haves: Vec<ObjectId>,
    /// Commits whose parents the client lacks.
    pub shallow: Vec<ObjectId>,
    /// How deep to go.
    pub deepen: Option<Deepen>,
    /// What to leave out.
    pub filter: Filter,
    /// The client has said all it has.
    pub done: bool,
    /// The client understands deltas on objects that are not in the pack.
    pub thin_pack: bool,
    /// The client wants no progress.
    pub no_progress: bool,
    /// The client wants tags of what is sent.
    pub include_tag: bool,
    /// The client understands deltas that name their base by distance.
    pub ofs_delta: bool,
    /// The client only wants its haves acknowledged (version 2).
    pub wait_for_done: bool,
    /// How the pack is sent; always large in version 2.
    pub sideband: SidebandWidth,
    /// How haves are acknowledged (version 0).
    pub multi_ack: MultiAck,
    /// The pack may follow `ready` at once (version 0).
    pub no_done: bool,
}

impl FetchRequest {
    /// Reads the arguments of `fetch` up to and with the flush packet behind them.
    pub fn read_v2<R: BufRead>(
        input: &mut PacketReader<R>,
        format: Format,
        limits: &RequestLimits,
    ) -> Result<FetchRequest, ProtocolError> {
        let mut request = FetchRequest { sideband: SidebandWidth::Large, ..FetchRequest::default() };
        let mut depth = DepthLines::default();
        loop {
            let line = match input.read_required("the end of the request")? {
                Packet::Flush => break,
                packet => packet.line().ok_or_else(|| ProtocolError::unexpected("an argument", b"a special packet"))?,
            };
            if request.common_line(line, format, limits, &mut depth)? {
                continue;
            }
            match line.split_once_str(" ") {
                Some((b"want", id)) => push(&mut request.wants, parse_id(id, format)?, "wants", limits.wants)?,
                Some((b"have", id)) => push(&mut request.haves, parse_id(id, format)?, "haves", limits.haves)?,
                Some((b"want-ref", name)) => push(&mut request.want_refs, name.into(), "wanted refs", limits.wants)?,
                _ => match line {
                    b"done" => request.done = true,
                    b"wait-for-done" => request.wait_for_done = true,
                    b"deepen-relative" => depth.relative = true,
                    _ if request.flag(line) => {}
                    _ => return Err(ProtocolError::unexpected("an argument of fetch", line)),
                },
            }
        }
        request.deepen = depth.finish()?;
        Ok(request)
    }

    /// Reads the wants of version 0 up to and with the flush packet behind them. A client that wants nothing
    /// leaves a request without wants.
    pub fn read_v0<R: BufRead>(
        input: &mut PacketReader<R>,
        format: Format,
        limits: &RequestLimits,
    ) -> Result<FetchRequest, ProtocolError> {
        let mut request = FetchRequest::default();
        let mut depth = DepthLines::default();
        // Clients of version 0 are told the format and need not repeat it.
        let mut client_format: BString = format.to_string().into();
        loop {
            let line = match input.read()? {
                None if request.wants.is_empty() => break,
                None => return Err(ProtocolError::Truncated("the end of the wants")),
                Some(Packet::Flush) => break,
                Some(packet) => packet.line().ok_or_else(|| ProtocolError::unexpected("want", b"a special packet"))?,
            };
            if request.common_line(line, format, limits, &mut depth)? {
                continue;
            }
            let Some(rest) = line.strip_prefix(b"want ") else {
                return Err(ProtocolError::unexpected("want, shallow, deepen or filter", line));
            };
            let (id, capabilities) = rest.split_at_checked(format.len_in_hex()).unwrap_or((rest, b""));
            if request.wants.is_empty() {
                for capability in capabilities.fields() {
                    if let Some(name) = capability.strip_prefix(b"object-format=") {
                        client_format = name.into();
                    }
                    request.capability(capability, &mut depth);
                }
            }
            push(&mut request.wants, parse_id(id, format)?, "wants", limits.wants)?;
        }
        if !request.wants.is_empty() && client_format != format.to_string() {
            return Err(ProtocolError::ObjectFormat { server: format, client: client_format });
        }
        request.deepen = depth.finish()?;
        Ok(request)
    }

    /// Lines that both versions have.
    fn common_line(
        &mut self,
        line: &[u8],
        format: Format,
        limits: &RequestLimits,
        depth: &mut DepthLines,
    ) -> Result<bool, ProtocolError> {
        let bad = |expected| ProtocolError::unexpected(expected, line);
        match line.split_once_str(" ") {
            Some((b"shallow", id)) => push(&mut self.shallow, parse_id(id, format)?, "shallow lines", limits.shallow)?,
            Some((b"deepen", count)) => {
                let count = decimal(count).and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
                depth.count = Some(count.ok_or_else(|| bad("a positive number behind deepen"))?.min(Deepen::WHOLE));
            }
            Some((b"deepen-since", time)) => {
                depth.since = Some(decimal(time).ok_or_else(|| bad("a time behind deepen-since"))?);
            }
            Some((b"deepen-not", name)) => push(&mut depth.not, name.into(), "deepen-not lines", limits.deepen_not)?,
            Some((b"filter", spec)) => self.filter = Filter::parse(spec)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Words that are arguments in version 2 and capabilities in version 0.
    fn flag(&mut self, word: &[u8]) -> bool {
        match word {
            b"thin-pack" => self.thin_pack = true,
            b"no-progress" => self.no_progress = true,
            b"include-tag" => self.include_tag = true,
            b"ofs-delta" => self.ofs_delta = true,
            _ => return false,
        }
        true
    }

    /// Capabilities of version 0; Git, too, passes over those that it does not know.
    fn capability(&mut self, word: &[u8], depth: &mut DepthLines) {
        match word {
            b"multi_ack_detailed" => self.multi_ack = MultiAck::Detailed,
            b"multi_ack" if self.multi_ack == MultiAck::None => self.multi_ack = MultiAck::Continue,
            b"side-band-64k" => self.sideband = SidebandWidth::Large,
            b"side-band" if self.sideband == SidebandWidth::None => self.sideband = SidebandWidth::Small,
            b"no-done" => self.no_done = true,
            b"deepen-relative" => depth.relative = true,
            _ => {
                self.flag(word);
            }
        }
    }
}

/// Lines about depth, before it is known which of them there are.
#[derive(Default)]
struct DepthLines {
    count: Option<u32>,
    relative: bool,
    since: Option<i64>,
    not: Vec<BString>,
}

impl DepthLines {
    fn finish(self) -> Result<Option<Deepen>, ProtocolError> {
        let by_commits = self.since.is_some() || !self.not.is_empty();
        match self.count {
            Some(_) if by_commits => Err(ProtocolError::Together("deepen and deepen-since (or deepen-not)")),
            Some(count) if self.relative => Ok(Some(Deepen::Relative(count))),
            Some(count) => Ok(Some(Deepen::Depth(count))),
            None if by_commits => Ok(Some(Deepen::Commits { since: self.since, not: self.not })),
            None => Ok(None),
        }
    }
}

/// A line of version 0's negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaveOrDone {
    /// The client has an object.
    Have(ObjectId),
    /// The client has said all it has.
    Done,
}

/// Reads a line of version 0's negotiation.
pub fn have_or_done(line: &[u8], format: Format) -> Result<HaveOrDone, ProtocolError> {
    match line.strip_prefix(b"have ") {
        Some(id) => parse_id(id, format).map(HaveOrDone::Have),
        None if line == b"done" => Ok(HaveOrDone::Done),
        None => Err(ProtocolError::unexpected("have or done", line)),
    }
}

fn push<T>(list: &mut Vec<T>, item: T, what: &'static str, limit: usize) -> Result<(), ProtocolError> {
    if list.len() >= limit {
        return Err(ProtocolError::TooMany { what, limit });
    }
    list.push(item);
    Ok(())
}

/// An id in hexadecimal, of the right format.
pub(crate) fn parse_id(hex: &[u8], format: Format) -> Result<ObjectId, ProtocolError> {
    let id = ObjectId::from_hex(hex).ok().filter(|id| id.kind() == format);
    id.ok_or_else(|| ProtocolError::unexpected("an object id", hex))
}

fn decimal(text: &[u8]) -> Option<i64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::PacketWriter;
    use super::*;
    use proptest::prelude::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";

    fn packets(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = PacketWriter::new(&mut out);
        lines.iter().for_each(|line| writer.line(line.as_bytes()).unwrap());
        writer.flush_packet().unwrap();
        out
    }

    fn v2(lines: &[&str]) -> Result<FetchRequest, String> {
        let limits = RequestLimits { wants: 3, haves: 3, shallow: 3, deepen_not: 3 };
        FetchRequest::read_v2(&mut PacketReader::new(&packets(lines)[..]), Format::Sha1, &limits)
            .map_err(|e| e.to_string())
    }

    fn v0(lines: &[&str]) -> Result<FetchRequest, String> {
        let limits = RequestLimits::default();
        FetchRequest::read_v0(&mut PacketReader::new(&packets(lines)[..]), Format::Sha1, &limits)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn every_argument_of_version_2() {
        let (want, have, shallow) = (format!("want {A}"), format!("have {B}"), format!("shallow {B}"));
        let request = v2(&[
            &want,
            "want-ref refs/heads/x",
            &have,
            &shallow,
            "deepen 3",
            "deepen-relative",
            "done",
            "thin-pack",
            "no-progress",
            "include-tag",
            "ofs-delta",
            "wait-for-done",
            "filter tree:1",
        ])
        .unwrap();
        let id = |hex: &str| ObjectId::from_hex(hex.as_bytes()).unwrap();
        assert_eq!(
            (&request.wants[..], &request.haves[..], &request.shallow[..]),
            (&[id(A)][..], &[id(B)][..], &[id(B)][..])
        );
        assert_eq!(request.want_refs, ["refs/heads/x"]);
        assert_eq!(request.deepen, Some(Deepen::Relative(3)));
        assert_eq!(request.filter, Filter { blob_limit: None, tree_depth: Some(1) });
        assert!(request.done && request.thin_pack && request.no_progress && request.include_tag);
        assert!(request.ofs_delta && request.wait_for_done);
        let by_time = v2(&["deepen-since 100", "deepen-not v1", "deepen-not v2"]).unwrap();
        let not = vec!["v1".into(), "v2".into()];
        assert_eq!(by_time.deepen, Some(Deepen::Commits { since: Some(100), not }));
    }

    #[test]
    fn what_version_2_refuses() {
        let (want, short, null) =
            (format!("want {A}"), format!("want {}", &A[1..]), format!("want {}", "g".repeat(40)));
        for lines in [
            &[&*want; 4][..],
            &[&short],
            &[&null],
            &["deepen 0"],
            &["deepen -1"],
            &["deepen x"],
            &["packfile-uris https"],
            &["sideband-all"],
            &["deepen 1", "deepen-since 5"],
            &["deepen-since"],
            &["filter nonsense"],
            &["whatever"],
        ] {
            assert!(v2(lines).is_err(), "{lines:?}");
        }
        assert!(v2(&[want.as_str(); 4]).unwrap_err().contains("at most 3"));
    }

    #[test]
    fn the_first_want_of_version_0_carries_capabilities() {
        let first =
            format!("want {A} multi_ack_detailed multi_ack side-band side-band-64k thin-pack ofs-delta agent=git/2 x");
        let second = format!("want {B} no-progress");
        let request = v0(&[&first, &second, "deepen 2147483647"]).unwrap();
        assert_eq!((request.wants.len(), request.multi_ack), (2, MultiAck::Detailed));
        assert_eq!((request.sideband, request.deepen), (SidebandWidth::Large, Some(Deepen::Depth(Deepen::WHOLE))));
        assert!(request.thin_pack && request.ofs_delta && !request.no_progress);
        assert!(v0(&[]).unwrap().wants.is_empty());
        assert!(v0(&[&format!("want {A} object-format=sha256")]).is_err());
        assert!(v0(&["have x"]).is_err());
        assert_eq!(have_or_done(b"done", Format::Sha1).unwrap(), HaveOrDone::Done);
        assert!(have_or_done(b"have 12", Format::Sha1).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(lines in proptest::collection::vec("(want |have |deepen |filter |shallow |)[ -~]{0,60}", 0..8)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let _ = v2(&lines);
            let _ = v0(&lines);
            let mut raw = packets(&lines);
            raw.truncate(raw.len() / 2);
            let _ = FetchRequest::read_v2(&mut PacketReader::new(&raw[..]), Format::Sha256, &RequestLimits::default());
        }
    }
}
