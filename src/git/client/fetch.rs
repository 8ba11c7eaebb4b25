//! Fetch: one request that ends with `done`, answered by a pack.

use std::collections::HashSet;
use std::io::Write;

use gix::ObjectId;

use super::answer::{Answer, Line, Lines};
use super::error::{At, ClientError};
use super::haves::{HAVES_PER_REQUEST, HAVES_PER_ROUND, acknowledgment, acknowledgments, distinct, read_round};
use super::pack_input::{PackInput, Preamble, Wire};
use super::upload_pack::UploadPack;
use crate::protocol::{
    Deepen, FetchRequest, Filter, MultiAck, ProtocolError, SidebandWidth, Version, parse_id, write_ids,
};

/// Most wants in one fetch.
pub const MAX_WANTS: usize = 1 << 20;
/// Most haves in one fetch (fewer in protocol versions 0 and 1). The server may send objects again that only later
/// haves would exclude.
pub const MAX_HAVES: usize = 1 << 16;
/// Most `shallow` and `unshallow` lines in one answer.
const MAX_SHALLOW_LINES: usize = 1 << 20;

/// Fetch request, independent of the protocol version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchPack {
    /// Objects to fetch with everything they reach; at most [`MAX_WANTS`].
    pub wants: Vec<ObjectId>,
    /// Objects that the client holds with everything they reach. Only the first [`MAX_HAVES`] are sent.
    pub haves: Vec<ObjectId>,
    /// Shallow commits of the client: their parents are missing.
    pub shallow: Vec<ObjectId>,
    /// Accept a thin pack. Ignored if the server lacks `thin-pack`.
    pub thin: bool,
    /// Accept `OFS_DELTA` entries. Ignored if the server lacks `ofs-delta`.
    pub ofs_delta: bool,
    /// Ask for annotated tags that point at sent objects. Ignored if the server lacks `include-tag`.
    pub include_tag: bool,
    /// Object filter of a partial fetch.
    pub filter: Option<Filter>,
    /// Depth in commits. `None` fetches whole histories and treats a shallow source as an error.
    pub deepen: Option<u32>,
}

impl UploadPack<'_> {
    /// Fetches in one round and returns at the start of the pack. Memory is independent of the pack size.
    ///
    /// On a stateful connection in version 2, reading the pack to its end leaves the connection ready for the next
    /// request; versions 0 and 1 reconnect for it.
    pub fn fetch(&mut self, fetch: &FetchPack) -> Result<PackInput<'_>, ClientError> {
        self.ready()?;
        let at = self.at("fetching");
        let mut request = self.fetch_request(fetch, at)?;
        let mut common = HashSet::new();
        match self.version() {
            Version::V2 => self.send_v2(&request, at)?,
            _ => {
                let haves = std::mem::take(&mut request.haves);
                self.send_v0(&request, &haves, &mut common, at)?;
            }
        }
        let format = self.format();
        let version = self.version();
        let reusable = version == Version::V2 || self.connection.is_stateless();
        let shallow_allowed = fetch.deepen.is_some();
        let acknowledgments = acknowledgments(fetch.haves.len());
        let mut answer = Answer::new(self.connection.answer(), at);
        let mut shallow = Vec::new();
        match version {
            Version::V2 => read_sections(&mut answer, acknowledgments, format, &mut shallow, at)?,
            _ => read_v0(&mut answer, acknowledgments, &request, format, (&mut shallow, &mut common), at)?,
        }
        let known: HashSet<&ObjectId> = fetch.shallow.iter().collect();
        shallow.retain(|id| !known.contains(id));
        if let Some(commit) = shallow.first().copied().filter(|_| !shallow_allowed) {
            return Err(ClientError::Shallow { server: at.server.into(), commit });
        }
        let wire = match (version, request.sideband) {
            (Version::V2, _) | (_, SidebandWidth::Large | SidebandWidth::Small) => Wire::bands(answer.into_inner()),
            (_, SidebandWidth::None) => Wire::Plain(answer.into_inner()),
        };
        let preamble = Preamble { shallow, common: (request.multi_ack == MultiAck::Detailed).then_some(common) };
        PackInput::open(wire, format, preamble, at, reusable.then_some(&mut self.idle))
    }

    fn fetch_request(&self, fetch: &FetchPack, at: At<'_>) -> Result<FetchRequest, ClientError> {
        let filter = fetch.filter.clone().unwrap_or_default();
        self.check_supported(fetch, &filter, at)?;
        let wants = distinct(&fetch.wants);
        if wants.is_empty() {
            return Err(at.unsupported("answer a fetch without wants"));
        }
        if wants.len() > MAX_WANTS {
            return Err(at.protocol(ProtocolError::TooMany { what: "wants", limit: MAX_WANTS }));
        }
        let multi_ack = self.multi_ack();
        let mut haves = distinct(&fetch.haves);
        haves.truncate(self.max_haves(multi_ack, fetch.deepen.is_some()));
        let has = |capability: &str| self.version() == Version::V2 || self.capabilities().has(capability);
        Ok(FetchRequest {
            wants,
            haves,
            shallow: distinct(&fetch.shallow),
            deepen: fetch.deepen.map(Deepen::Depth),
            filter,
            done: true,
            thin_pack: fetch.thin && has("thin-pack"),
            no_progress: has("no-progress"),
            include_tag: fetch.include_tag && has("include-tag"),
            ofs_delta: fetch.ofs_delta && has("ofs-delta"),
            sideband: if has("side-band-64k") {
                SidebandWidth::Large
            } else if has("side-band") {
                SidebandWidth::Small
            } else {
                SidebandWidth::None
            },
            multi_ack,
            ..FetchRequest::default()
        })
    }

    /// Fails if the source is shallow and whole histories are asked for, or if the server lacks a capability that the
    /// fetch cannot do without.
    fn check_supported(&self, fetch: &FetchPack, filter: &Filter, at: At<'_>) -> Result<(), ClientError> {
        if fetch.deepen.is_none() {
            self.check_whole()?;
        }
        if !filter.is_empty() && !self.capabilities().fetch_has("filter") {
            return Err(at.unsupported("filter objects: it does not advertise `filter`"));
        }
        if (fetch.deepen.is_some() || !fetch.shallow.is_empty()) && !self.capabilities().fetch_has("shallow") {
            return Err(at.unsupported("fetch shallow histories: it does not advertise `shallow`"));
        }
        Ok(())
    }

    /// Most informative mode of acknowledgment that the server offers. Version 2 has a single one.
    fn multi_ack(&self) -> MultiAck {
        if self.version() == Version::V2 {
            MultiAck::None
        } else if self.capabilities().has("multi_ack_detailed") {
            MultiAck::Detailed
        } else if self.capabilities().has("multi_ack") {
            MultiAck::Continue
        } else {
            MultiAck::None
        }
    }

    /// Most haves of a request. `deepens` is true if the request asks for a depth.
    fn max_haves(&self, multi_ack: MultiAck, deepens: bool) -> usize {
        if self.version() == Version::V2 {
            MAX_HAVES
        } else if multi_ack == MultiAck::None {
            // Without multi_ack a server acknowledges only some haves, so the number of answers is unpredictable.
            1
        } else if self.connection.is_stateless() {
            // The server answers while it reads the request: a request that exceeds the buffers deadlocks both sides.
            HAVES_PER_REQUEST
        } else if deepens {
            HAVES_PER_ROUND
        } else {
            MAX_HAVES
        }
    }

    fn send_v2(&mut self, request: &FetchRequest, at: At<'_>) -> Result<(), ClientError> {
        let head = self.command_head("fetch");
        self.send(at, |out| {
            out.get_mut().write_all(&head)?;
            request.write_v2(out)
        })
    }

    /// Sends haves in rounds on a stateful connection, until all are sent or the server answers `ready`.
    fn send_v0(
        &mut self,
        request: &FetchRequest,
        haves: &[ObjectId],
        common: &mut HashSet<ObjectId>,
        at: At<'_>,
    ) -> Result<(), ClientError> {
        let identification = self.client_identification();
        let format = self.format();
        let mut wants = Some(request);
        let mut haves = haves.chunks(HAVES_PER_ROUND).peekable();
        while request.deepen.is_none()
            && !self.connection.is_stateless()
            && haves.len() > 1
            && let Some(round) = haves.next()
        {
            self.send(at, |out| {
                wants.take().map_or(Ok(()), |request| request.write_v0(&identification, out))?;
                write_ids(b"have ", round, out)?;
                out.flush_packet()
            })?;
            let mut add = |id: &[u8]| parse_id(id, format).map(|id| _ = common.insert(id));
            if read_round(&mut Answer::new(self.connection.answer(), at), at, round.len(), &mut add)? {
                haves = [].chunks(HAVES_PER_ROUND).peekable();
            }
        }
        self.send(at, |out| {
            wants.take().map_or(Ok(()), |request| request.write_v0(&identification, out))?;
            haves.try_for_each(|round| write_ids(b"have ", round, out))?;
            out.line(b"done")?;
            out.flush()
        })
    }
}

/// Reads the sections of a version 2 answer up to `packfile`.
fn read_sections(
    answer: &mut Answer<'_>,
    mut acknowledgments: Lines,
    format: gix::hash::Kind,
    shallow: &mut Vec<ObjectId>,
    at: At<'_>,
) -> Result<(), ClientError> {
    let mut shallow_lines = Lines::new("shallow commits", MAX_SHALLOW_LINES);
    loop {
        match answer.text("the pack")? {
            b"packfile" => return Ok(()),
            // Requests hold no `want-ref`, so a `wanted-refs` section carries nothing of use.
            b"acknowledgments" | b"wanted-refs" => {
                acknowledgments.count(at)?;
                while let Line::Text(_) = section_line(answer, at)? {
                    acknowledgments.count(at)?;
                }
            }
            b"shallow-info" => {
                shallow_lines.count(at)?;
                while let Line::Text(line) = section_line(answer, at)? {
                    shallow_lines.count(at)?;
                    shallow_line(line, format, shallow).map_err(|error| at.protocol(error))?;
                }
            }
            other => return Err(at.protocol(ProtocolError::unexpected("a section of the answer", other))),
        }
    }
}

/// Reads a line of a section that is not the last one of the answer.
fn section_line<'l>(answer: &'l mut Answer<'_>, at: At<'_>) -> Result<Line<'l>, ClientError> {
    match answer.line("the pack")? {
        Line::Flush => Err(at.protocol(ProtocolError::unexpected("the pack", b"flush"))),
        line => Ok(line),
    }
}

/// Reads the part of a version 0 or 1 answer before the pack: shallow lines if `deepen` was sent, then
/// acknowledgments.
fn read_v0(
    answer: &mut Answer<'_>,
    mut acknowledgments: Lines,
    request: &FetchRequest,
    format: gix::hash::Kind,
    (shallow, common): (&mut Vec<ObjectId>, &mut HashSet<ObjectId>),
    at: At<'_>,
) -> Result<(), ClientError> {
    if request.deepen.is_some() {
        let mut shallow_lines = Lines::new("shallow commits", MAX_SHALLOW_LINES);
        while let Line::Text(line) = answer.line("the end of the shallow commits")? {
            shallow_lines.count(at)?;
            shallow_line(line, format, shallow).map_err(|error| at.protocol(error))?;
        }
    }
    loop {
        acknowledgments.count(at)?;
        let line = answer.text("ACK or NAK")?;
        if line == b"NAK" {
            return Ok(());
        }
        match acknowledgment(line, at)? {
            // The last acknowledgment has no status.
            (_, b"") => return Ok(()),
            (id, b"common") => _ = common.insert(parse_id(id, format).map_err(|error| at.protocol(error))?),
            _ => {}
        }
    }
}

/// Parses `shallow <id>` into `all`. `unshallow <id>` only repeats commits that the client sent and is checked alone.
fn shallow_line(line: &[u8], format: gix::hash::Kind, all: &mut Vec<ObjectId>) -> Result<(), ProtocolError> {
    if let Some(id) = line.strip_prefix(b"unshallow ") {
        return parse_id(id, format).map(|_| ());
    }
    let id = line.strip_prefix(b"shallow ").ok_or_else(|| ProtocolError::unexpected("shallow <id>", line))?;
    all.push(parse_id(id, format)?);
    Ok(())
}
