//! Fetching: one request with `done`, answered by the pack.

use std::collections::HashSet;
use std::io::Write;

use gix::ObjectId;

use super::answer::{Answer, Line, Lines};
use super::error::{At, ClientError};
use super::known::{HAVES_PER_REQUEST, HAVES_PER_ROUND, acknowledgment, acknowledgments, read_round};
use super::pack_input::{PackInput, Told, Wire};
use super::upload_pack::UploadPack;
use crate::protocol::{
    Deepen, FetchRequest, Filter, MultiAck, ProtocolError, SidebandWidth, Version, parse_id, write_ids,
};

/// Most objects that one fetch may ask for.
pub const MAX_WANTS: usize = 1 << 20;
/// Most objects that one fetch tells the server about (fewer in versions 0 and 1): what is beyond may be sent although
/// it is not needed.
pub const MAX_HAVES: usize = 1 << 16;
/// Most lines about where a shallow history ends.
const MAX_SHALLOW_LINES: usize = 1 << 20;

/// What to fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchPack {
    /// Objects wanted, with all that they need; at most [`MAX_WANTS`].
    pub wants: Vec<ObjectId>,
    /// Objects that are there with all that they need; the first ones, at most
    /// [`MAX_HAVES`], are told.
    pub haves: Vec<ObjectId>,
    /// Commits among what is there whose parents are missing.
    pub shallow: Vec<ObjectId>,
    /// Deltas may refer to objects that are there. Without effect where the server does not know it.
    pub thin: bool,
    /// Deltas may name their base by distance. Without effect where the server does not know it.
    pub ofs_delta: bool,
    /// Send tags of what is sent, too. Without effect where the server does not know it.
    pub include_tag: bool,
    /// What to leave out.
    pub filter: Option<Filter>,
    /// How many commits deep to go; whole histories otherwise, and then a shallow repository is an error.
    pub deepen: Option<u32>,
}

impl UploadPack<'_> {
    /// Fetches in one round, and returns when the pack begins. Memory does not depend on its size.
    ///
    /// Over a connection with state, reading it to its end leaves the conversation ready for the next request in
    /// version 2; in all other cases the next one connects anew.
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
        let (format, reusable) = (self.format(), self.version() == Version::V2 || self.connection.is_stateless());
        let (version, shallow_allowed) = (self.version(), fetch.deepen.is_some());
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
        let told = Told { shallow, common: (request.multi_ack == MultiAck::Detailed).then_some(common) };
        PackInput::open(wire, format, told, at, reusable.then_some(&mut self.idle))
    }

    fn fetch_request(&self, fetch: &FetchPack, at: At<'_>) -> Result<FetchRequest, ClientError> {
        let v2 = self.version() == Version::V2;
        let has = |word: &str| v2 || self.capabilities().has(word);
        if fetch.deepen.is_none() {
            self.check_whole()?;
        }
        let filter = fetch.filter.clone().unwrap_or_default();
        if !filter.is_empty() && !self.capabilities().fetch_has("filter") {
            return Err(at.unsupported("leave objects out: it lacks filter"));
        }
        if (fetch.deepen.is_some() || !fetch.shallow.is_empty()) && !self.capabilities().fetch_has("shallow") {
            return Err(at.unsupported("fetch parts of a history: it lacks shallow"));
        }
        let wants = distinct(&fetch.wants);
        if wants.is_empty() {
            return Err(at.unsupported("send a pack of nothing"));
        }
        if wants.len() > MAX_WANTS {
            return Err(at.protocol(ProtocolError::TooMany { what: "wants", limit: MAX_WANTS }));
        }
        let multi_ack = match () {
            () if v2 => MultiAck::None,
            () if has("multi_ack_detailed") => MultiAck::Detailed,
            () if has("multi_ack") => MultiAck::Continue,
            () => MultiAck::None,
        };
        let mut haves = distinct(&fetch.haves);
        haves.truncate(match () {
            () if v2 => MAX_HAVES,
            // Without it a server answers to some of the haves, and it cannot be told how many answers there will be.
            () if multi_ack == MultiAck::None => 1,
            // A server answers while it reads: when neither side reads any more, both wait for ever.
            () if self.connection.is_stateless() => HAVES_PER_REQUEST,
            () if fetch.deepen.is_some() => HAVES_PER_ROUND,
            () => MAX_HAVES,
        });
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
            sideband: match () {
                () if has("side-band-64k") => SidebandWidth::Large,
                () if has("side-band") => SidebandWidth::Small,
                () => SidebandWidth::None,
            },
            multi_ack,
            ..FetchRequest::default()
        })
    }

    fn send_v2(&mut self, request: &FetchRequest, at: At<'_>) -> Result<(), ClientError> {
        let head = self.command_head("fetch");
        self.send(at, |out| {
            out.get_mut().write_all(&head)?;
            request.write_v2(out)
        })
    }

    /// Over a connection with state the haves go in rounds, until all are told or the server has heard enough.
    fn send_v0(
        &mut self,
        request: &FetchRequest,
        haves: &[ObjectId],
        common: &mut HashSet<ObjectId>,
        at: At<'_>,
    ) -> Result<(), ClientError> {
        let (named, format) = (self.named(), self.format());
        let mut wants = Some(request);
        let mut haves = haves.chunks(HAVES_PER_ROUND).peekable();
        while request.deepen.is_none() && !self.connection.is_stateless() && haves.len() > 1 {
            let round = haves.next().unwrap_or_default();
            self.send(at, |out| {
                wants.take().map_or(Ok(()), |request| request.write_v0(&named, out))?;
                write_ids(b"have ", round, out)?;
                out.flush_packet()
            })?;
            let mut add = |id: &[u8]| parse_id(id, format).map(|id| _ = common.insert(id));
            if read_round(&mut Answer::new(self.connection.answer(), at), at, round.len(), &mut add)? {
                haves = [].chunks(HAVES_PER_ROUND).peekable();
            }
        }
        self.send(at, |out| {
            wants.take().map_or(Ok(()), |request| request.write_v0(&named, out))?;
            haves.try_for_each(|round| write_ids(b"have ", round, out))?;
            out.line(b"done")?;
            out.flush()
        })
    }
}

/// Version 2: sections up to the pack.
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
            // No ref is wanted by its name, so that there is nothing to say of one.
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

/// A line of a section that others follow.
fn section_line<'l>(answer: &'l mut Answer<'_>, at: At<'_>) -> Result<Line<'l>, ClientError> {
    match answer.line("the pack")? {
        Line::Flush => Err(at.protocol(ProtocolError::unexpected("the pack", b"flush"))),
        line => Ok(line),
    }
}

/// Versions 0 and 1: where a shallow history ends, if that was asked, and the objects that both sides have.
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
            // Acknowledgments with a status are not the last one.
            (_, b"") => return Ok(()),
            (id, b"common") => _ = common.insert(parse_id(id, format).map_err(|error| at.protocol(error))?),
            _ => {}
        }
    }
}

/// `shallow <id>` or `unshallow <id>`: the second only tells of commits that the client named.
fn shallow_line(line: &[u8], format: gix::hash::Kind, all: &mut Vec<ObjectId>) -> Result<(), ProtocolError> {
    if let Some(id) = line.strip_prefix(b"unshallow ") {
        return parse_id(id, format).map(|_| ());
    }
    let id = line.strip_prefix(b"shallow ").ok_or_else(|| ProtocolError::unexpected("shallow <id>", line))?;
    all.push(parse_id(id, format)?);
    Ok(())
}

/// Each id once, in the order of their first places.
pub(super) fn distinct(ids: &[ObjectId]) -> Vec<ObjectId> {
    let mut seen = HashSet::with_capacity(ids.len());
    ids.iter().copied().filter(|id| seen.insert(*id)).collect()
}
