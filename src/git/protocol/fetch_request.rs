//! [`FetchRequest`]: the request of a fetch, as arguments of version 2's `fetch` or as lines of version 0.

use std::io::BufRead;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::hash::Kind as Format;

use super::error::ProtocolError;
use super::filter::Filter;
use super::pkt_line::{Packet, PacketReader};

/// Default limit on the bytes in all lines of a request.
pub const MAX_LINE_BYTES: u64 = 256 << 20;

/// Limits on the size of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Most wanted objects, and most wanted refs.
    pub wants: usize,
    /// Most haves, in one request (version 2) or in all rounds (version 0).
    pub haves: usize,
    /// Most `shallow` lines.
    pub shallow: usize,
    /// Most `deepen-not` lines.
    pub deepen_not: usize,
    /// Most bytes in the names of all wanted and excluded refs.
    pub name_bytes: usize,
    /// Most bytes in all lines, including duplicates and lines that are not kept.
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

/// Optional features of version 2's `fetch`. Arguments of a feature that was not advertised fail the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// True if `want-ref` was advertised.
    pub ref_in_want: bool,
}

/// Want of a request, passed to the server as soon as it has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want<'a> {
    /// Object wanted by id.
    Object(&'a ObjectId),
    /// Ref wanted by name.
    Ref(&'a BStr),
}

/// Depth of a shallow fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deepen {
    /// Number of commits, counted from the wanted ones; [`Deepen::WHOLE`] for the whole history.
    Depth(u32),
    /// Number of commits past the client's current boundary.
    Relative(u32),
    /// Commits by time and reachability.
    Commits {
        /// Time of the oldest commit to send, in seconds since 1970.
        since: Option<i64>,
        /// Refs whose history is excluded, as the user named them.
        not: Vec<BString>,
    },
}

impl Deepen {
    /// Depth of the whole history (Git's `INFINITE_DEPTH`).
    pub const WHOLE: u32 = 0x7fff_ffff;
}

/// Acknowledgement mode for haves in version 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultiAck {
    /// Acknowledges the first common have only.
    #[default]
    None,
    /// `multi_ack`.
    Continue,
    /// `multi_ack_detailed`.
    Detailed,
}

/// Side-band mode of the pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SidebandWidth {
    /// Plain bytes without side-bands.
    #[default]
    None,
    /// `side-band`: packets of up to 1000 bytes.
    Small,
    /// `side-band-64k`: packets of up to 65520 bytes.
    Large,
}

/// Request of a fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchRequest {
    /// Objects wanted by id.
    pub wants: Vec<ObjectId>,
    /// Refs wanted by name (version 2).
    pub want_refs: Vec<BString>,
    /// Objects that the client has (version 2).
    pub haves: Vec<ObjectId>,
    /// Shallow boundary of the client: commits whose parents it lacks.
    pub shallow: Vec<ObjectId>,
    /// Requested depth; `None` to keep the client's boundary.
    pub deepen: Option<Deepen>,
    /// Filter of a partial clone.
    pub filter: Filter,
    /// True if the client has no more haves and expects the pack.
    pub done: bool,
    /// True if deltas may use bases outside the pack.
    pub thin_pack: bool,
    /// True to send no progress messages.
    pub no_progress: bool,
    /// True to include annotated tags whose target is sent.
    pub include_tag: bool,
    /// True if deltas may name their base by distance.
    pub ofs_delta: bool,
    /// True to acknowledge haves only, and never send a pack before `done` (version 2).
    pub wait_for_done: bool,
    /// Side-band mode of the pack; always large in version 2.
    pub sideband: SidebandWidth,
    /// Acknowledgement mode for haves (version 0).
    pub multi_ack: MultiAck,
    /// True if the pack may follow `ready` without `done` (version 0).
    pub no_done: bool,
}

impl FetchRequest {
    /// Reads the arguments of `fetch`, including the flush packet that ends them.
    ///
    /// Calls `admit` for each want as it is read. The callback returns true to keep the want, or fails the request.
    pub fn read_v2<R: BufRead, E: From<ProtocolError>>(
        input: &mut PacketReader<R>,
        format: Format,
        (limits, offers): (&RequestLimits, Offers),
        admit: &mut dyn FnMut(Want<'_>) -> Result<bool, E>,
    ) -> Result<FetchRequest, E> {
        let mut request = FetchRequest { sideband: SidebandWidth::Large, ..FetchRequest::default() };
        let mut pending = Pending::new(limits);
        loop {
            let line = match input.read_required("the end of the request")? {
                Packet::Flush => break,
                packet => packet.line().ok_or_else(|| ProtocolError::unexpected("an argument", b"a special packet"))?,
            };
            pending.count_line(line)?;
            if request.common_line(line, format, &mut pending)? {
                continue;
            }
            match line.split_once_str(" ") {
                Some((b"want", id)) => request.want(parse_id(id, format)?, &pending, admit)?,
                Some((b"have", id)) => push(&mut request.haves, parse_id(id, format)?, "haves", limits.haves)?,
                Some((b"want-ref", name)) if offers.ref_in_want => {
                    if admit(Want::Ref(name.as_bstr()))? {
                        pending.count_name(name)?;
                        push(&mut request.want_refs, name.into(), "wanted refs", limits.wants)?;
                    }
                }
                _ => match line {
                    b"done" => request.done = true,
                    b"wait-for-done" => request.wait_for_done = true,
                    b"deepen-relative" => pending.depth.relative = true,
                    _ if request.flag(line) => {}
                    _ => return Err(ProtocolError::unexpected("an argument of fetch", line).into()),
                },
            }
        }
        request.deepen = pending.depth.finish()?;
        Ok(request)
    }

    /// Reads the wants of version 0, including the flush packet that ends them. The request of a client that wants
    /// nothing has no wants. Calls `admit` as [`FetchRequest::read_v2`] does.
    pub fn read_v0<R: BufRead, E: From<ProtocolError>>(
        input: &mut PacketReader<R>,
        format: Format,
        limits: &RequestLimits,
        admit: &mut dyn FnMut(Want<'_>) -> Result<bool, E>,
    ) -> Result<FetchRequest, E> {
        let mut request = FetchRequest::default();
        let mut pending = Pending::new(limits);
        let mut first = true;
        // The format is advertised in version 0; clients need not repeat it.
        let mut client_format: BString = format.to_string().into();
        loop {
            let line = match input.read()? {
                None if first => break,
                None => return Err(ProtocolError::Truncated("the end of the wants").into()),
                Some(Packet::Flush) => break,
                Some(packet) => packet.line().ok_or_else(|| ProtocolError::unexpected("want", b"a special packet"))?,
            };
            pending.count_line(line)?;
            if request.common_line(line, format, &mut pending)? {
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
                    request.capability(capability, &mut pending.depth);
                }
                if client_format != format.to_string() {
                    return Err(ProtocolError::ObjectFormat { server: format, client: client_format }.into());
                }
            }
            request.want(parse_id(id, format)?, &pending, admit)?;
        }
        request.deepen = pending.depth.finish()?;
        Ok(request)
    }

    fn want<E: From<ProtocolError>>(
        &mut self,
        id: ObjectId,
        pending: &Pending<'_>,
        admit: &mut dyn FnMut(Want<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        if admit(Want::Object(&id))? {
            push(&mut self.wants, id, "wants", pending.limits.wants)?;
        }
        Ok(())
    }

    /// Parses a line that both versions share. Returns false for other lines.
    fn common_line(&mut self, line: &[u8], format: Format, pending: &mut Pending<'_>) -> Result<bool, ProtocolError> {
        let limits = pending.limits;
        let bad = |expected| ProtocolError::unexpected(expected, line);
        match line.split_once_str(" ") {
            Some((b"shallow", id)) => push(&mut self.shallow, parse_id(id, format)?, "shallow lines", limits.shallow)?,
            Some((b"deepen", count)) => {
                let count = decimal(count).and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
                pending.depth.count =
                    Some(count.ok_or_else(|| bad("a positive number behind deepen"))?.min(Deepen::WHOLE));
            }
            Some((b"deepen-since", time)) => {
                pending.depth.since = Some(decimal(time).ok_or_else(|| bad("a time behind deepen-since"))?);
            }
            Some((b"deepen-not", name)) => {
                pending.count_name(name)?;
                push(&mut pending.depth.not, name.into(), "deepen-not lines", limits.deepen_not)?;
            }
            Some((b"filter", spec)) => self.filter = Filter::parse(spec)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Parses a word that is an argument in version 2 and a capability in version 0. Returns false for other words.
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

    /// Parses a capability of version 0. As in Git, unknown ones are ignored.
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

/// Lines of a request that are assembled later, and the bytes counted towards its limits.
struct Pending<'l> {
    limits: &'l RequestLimits,
    name_bytes: usize,
    line_bytes: u64,
    depth: DepthLines,
}

impl<'l> Pending<'l> {
    fn new(limits: &'l RequestLimits) -> Self {
        Pending { limits, name_bytes: 0, line_bytes: 0, depth: DepthLines::default() }
    }

    fn count_line(&mut self, line: &[u8]) -> Result<(), ProtocolError> {
        self.line_bytes += line.len() as u64;
        if self.line_bytes > self.limits.line_bytes {
            let limit = usize::try_from(self.limits.line_bytes).unwrap_or(usize::MAX);
            return Err(ProtocolError::TooMany { what: "bytes in a request", limit });
        }
        Ok(())
    }

    fn count_name(&mut self, name: &[u8]) -> Result<(), ProtocolError> {
        self.name_bytes += name.len();
        if self.name_bytes > self.limits.name_bytes {
            return Err(ProtocolError::TooMany { what: "bytes in names of refs", limit: self.limits.name_bytes });
        }
        Ok(())
    }
}

/// Depth lines of a request; [`DepthLines::finish`] validates their combination.
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

/// Line of a negotiation in version 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaveOrDone {
    /// Object that the client has.
    Have(ObjectId),
    /// End of the haves: the client expects the pack.
    Done,
}

/// Parses a line of a negotiation in version 0.
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

/// Parses a hexadecimal id of the expected format.
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
mod tests;
