//! What a client asks upload-pack for: the arguments of version 2's `fetch`, and the lines of version 0.

use std::io::BufRead;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::hash::Kind as Format;

use super::error::ProtocolError;
use super::filter::Filter;
use super::pkt_line::{Packet, PacketReader};

/// Most bytes that the lines of one request may have together, unless a server says otherwise.
pub const MAX_LINE_BYTES: u64 = 256 << 20;

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
    /// Bytes that the names of all these refs have together.
    pub name_bytes: usize,
    /// Bytes of all lines together, those included that are repeated or answered at once.
    pub line_bytes: u64,
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits {
            wants: 1 << 20,
            haves: 1 << 18,
            shallow: 1 << 18,
            deepen_not: 1000,
            name_bytes: 1 << 20,
            line_bytes: MAX_LINE_BYTES,
        }
    }
}

/// Parts of version 2's `fetch` that a server may leave out. A client that uses one that was not offered is refused
/// at the first line of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// Wants by the name of a ref.
    pub ref_in_want: bool,
}

/// A want, shown to the server as soon as it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want<'a> {
    /// By id.
    Object(&'a ObjectId),
    /// By the name of a ref.
    Ref(&'a BStr),
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
    ///
    /// `admit` sees each want as it arrives: it fails the request, or says whether the want is to be kept.
    pub fn read_v2<R: BufRead, E: From<ProtocolError>>(
        input: &mut PacketReader<R>,
        format: Format,
        (limits, offers): (&RequestLimits, Offers),
        admit: &mut dyn FnMut(Want<'_>) -> Result<bool, E>,
    ) -> Result<FetchRequest, E> {
        let mut request = FetchRequest { sideband: SidebandWidth::Large, ..FetchRequest::default() };
        let mut room = Room::new(limits);
        loop {
            let line = match input.read_required("the end of the request")? {
                Packet::Flush => break,
                packet => packet.line().ok_or_else(|| ProtocolError::unexpected("an argument", b"a special packet"))?,
            };
            room.line(line)?;
            if request.common_line(line, format, &mut room)? {
                continue;
            }
            match line.split_once_str(" ") {
                Some((b"want", id)) => request.want(parse_id(id, format)?, &room, admit)?,
                Some((b"have", id)) => push(&mut request.haves, parse_id(id, format)?, "haves", limits.haves)?,
                Some((b"want-ref", name)) if offers.ref_in_want => {
                    if admit(Want::Ref(name.as_bstr()))? {
                        room.name(name)?;
                        push(&mut request.want_refs, name.into(), "wanted refs", limits.wants)?;
                    }
                }
                _ => match line {
                    b"done" => request.done = true,
                    b"wait-for-done" => request.wait_for_done = true,
                    b"deepen-relative" => room.depth.relative = true,
                    _ if request.flag(line) => {}
                    _ => return Err(ProtocolError::unexpected("an argument of fetch", line).into()),
                },
            }
        }
        request.deepen = room.depth.finish()?;
        Ok(request)
    }

    /// Reads the wants of version 0 up to and with the flush packet behind them. A client that wants nothing
    /// leaves a request without wants. `admit` as in version 2.
    pub fn read_v0<R: BufRead, E: From<ProtocolError>>(
        input: &mut PacketReader<R>,
        format: Format,
        limits: &RequestLimits,
        admit: &mut dyn FnMut(Want<'_>) -> Result<bool, E>,
    ) -> Result<FetchRequest, E> {
        let mut request = FetchRequest::default();
        let mut room = Room::new(limits);
        let mut first = true;
        // Clients of version 0 are told the format and need not repeat it.
        let mut client_format: BString = format.to_string().into();
        loop {
            let line = match input.read()? {
                None if first => break,
                None => return Err(ProtocolError::Truncated("the end of the wants").into()),
                Some(Packet::Flush) => break,
                Some(packet) => packet.line().ok_or_else(|| ProtocolError::unexpected("want", b"a special packet"))?,
            };
            room.line(line)?;
            if request.common_line(line, format, &mut room)? {
                continue;
            }
            let Some(rest) = line.strip_prefix(b"want ") else {
                return Err(ProtocolError::unexpected("want, shallow, deepen or filter", line).into());
            };
            let (id, capabilities) = rest.split_at_checked(format.len_in_hex()).unwrap_or((rest, b""));
            if std::mem::take(&mut first) {
                for capability in capabilities.fields() {
                    if let Some(name) = capability.strip_prefix(b"object-format=") {
                        client_format = name.into();
                    }
                    request.capability(capability, &mut room.depth);
                }
                if client_format != format.to_string() {
                    return Err(ProtocolError::ObjectFormat { server: format, client: client_format }.into());
                }
            }
            request.want(parse_id(id, format)?, &room, admit)?;
        }
        request.deepen = room.depth.finish()?;
        Ok(request)
    }

    fn want<E: From<ProtocolError>>(
        &mut self,
        id: ObjectId,
        room: &Room<'_>,
        admit: &mut dyn FnMut(Want<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        if admit(Want::Object(&id))? {
            push(&mut self.wants, id, "wants", room.limits.wants)?;
        }
        Ok(())
    }

    /// Lines that both versions have.
    fn common_line(&mut self, line: &[u8], format: Format, room: &mut Room<'_>) -> Result<bool, ProtocolError> {
        let limits = room.limits;
        let bad = |expected| ProtocolError::unexpected(expected, line);
        match line.split_once_str(" ") {
            Some((b"shallow", id)) => push(&mut self.shallow, parse_id(id, format)?, "shallow lines", limits.shallow)?,
            Some((b"deepen", count)) => {
                let count = decimal(count).and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
                room.depth.count =
                    Some(count.ok_or_else(|| bad("a positive number behind deepen"))?.min(Deepen::WHOLE));
            }
            Some((b"deepen-since", time)) => {
                room.depth.since = Some(decimal(time).ok_or_else(|| bad("a time behind deepen-since"))?);
            }
            Some((b"deepen-not", name)) => {
                room.name(name)?;
                push(&mut room.depth.not, name.into(), "deepen-not lines", limits.deepen_not)?;
            }
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

/// Room that is left for a request, and its lines about depth.
struct Room<'l> {
    limits: &'l RequestLimits,
    name_bytes: usize,
    line_bytes: u64,
    depth: DepthLines,
}

impl<'l> Room<'l> {
    fn new(limits: &'l RequestLimits) -> Self {
        Room { limits, name_bytes: 0, line_bytes: 0, depth: DepthLines::default() }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), ProtocolError> {
        self.line_bytes += line.len() as u64;
        match self.line_bytes > self.limits.line_bytes {
            true => Err(ProtocolError::TooMany {
                what: "bytes in a request",
                limit: usize::try_from(self.limits.line_bytes).unwrap_or(usize::MAX),
            }),
            false => Ok(()),
        }
    }

    fn name(&mut self, name: &[u8]) -> Result<(), ProtocolError> {
        self.name_bytes += name.len();
        match self.name_bytes > self.limits.name_bytes {
            true => Err(ProtocolError::TooMany { what: "bytes in names of refs", limit: self.limits.name_bytes }),
            false => Ok(()),
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

    const LIMITS: RequestLimits =
        RequestLimits { wants: 3, haves: 3, shallow: 3, deepen_not: 3, name_bytes: 30, line_bytes: 1000 };

    fn read_v2(lines: &[&str], ref_in_want: bool) -> Result<FetchRequest, String> {
        let packets = packets(lines);
        let mut input = PacketReader::new(&packets[..]);
        FetchRequest::read_v2::<_, ProtocolError>(
            &mut input,
            Format::Sha1,
            (&LIMITS, Offers { ref_in_want }),
            &mut |_| Ok(true),
        )
        .map_err(|e| e.to_string())
    }

    fn v2(lines: &[&str]) -> Result<FetchRequest, String> {
        read_v2(lines, true)
    }

    fn v0(lines: &[&str]) -> Result<FetchRequest, String> {
        let limits = RequestLimits::default();
        let packets = packets(lines);
        let mut input = PacketReader::new(&packets[..]);
        FetchRequest::read_v0::<_, ProtocolError>(&mut input, Format::Sha1, &limits, &mut |_| Ok(true))
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
        assert_eq!(request.filter, Filter { tree_depth: Some(1), ..Filter::default() });
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
    fn names_and_lines_have_a_limit_in_bytes_and_what_was_not_offered_none_at_all() {
        let long = |word: &str| format!("{word} refs/heads/{}", "x".repeat(20));
        for line in [long("want-ref"), long("deepen-not")] {
            assert!(v2(&[&line]).unwrap_err().contains("bytes in names of refs"), "{line}");
        }
        let half = "deepen-not refs/heads/12345678";
        assert!(v2(&[half]).is_ok() && v2(&[half, half]).is_err());
        assert!(v2(&["done"; 300]).unwrap_err().contains("bytes in a request"));
        assert!(read_v2(&["want-ref refs/heads/x"], false).unwrap_err().contains("an argument of fetch"));
    }

    #[test]
    fn wants_are_shown_as_they_arrive_and_only_kept_if_admitted() {
        let (a, b) = (format!("want {A}"), format!("want {B}"));
        let read = |lines: &[&str], fail_at: usize| {
            let (input, mut shown) = (packets(lines), 0);
            FetchRequest::read_v2::<_, ProtocolError>(
                &mut PacketReader::new(&input[..]),
                Format::Sha1,
                (&LIMITS, Offers::default()),
                &mut |_| {
                    shown += 1;
                    if shown == fail_at { Err(ProtocolError::Together("wants")) } else { Ok(shown <= 2) }
                },
            )
            .map_err(|error| error.to_string())
        };
        // The line behind them is never read.
        assert_eq!(read(&[&a, &b, &a, &a, &a, "nonsense"], 3), Err("wants cannot be used together".into()));
        assert_eq!(read(&[&a, &b, &a, &a, &a], 0).unwrap().wants.len(), 2);
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
            let limits = RequestLimits::default();
            let _ = FetchRequest::read_v2::<_, ProtocolError>(
                &mut PacketReader::new(&raw[..]), Format::Sha256, (&limits, Offers::default()), &mut |_| Ok(true),
            );
        }
    }
}
