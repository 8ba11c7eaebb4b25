//! Asks a server which objects it has: a negotiation that ends before a pack is sent.

use std::collections::HashSet;
use std::io::Write;

use gix::ObjectId;
use gix::bstr::ByteSlice;

use super::answer::{Answer, Line, Lines};
use super::error::{At, ClientError};
use super::fetch::distinct;
use super::upload_pack::UploadPack;
use crate::protocol::{AGENT, FetchRequest, MultiAck, ProtocolError, SidebandWidth, Version, parse_id, write_ids};

/// Haves in one stateless request (version 2, and HTTP): about 600 KB, with an answer of similar size.
pub(super) const HAVES_PER_REQUEST: usize = 8192;
/// Haves before the client reads the answer, where the server answers while it reads (SSH, versions 0 and 1). The
/// answer must fit into the smallest buffer on the path, a pipe; otherwise both sides block.
pub(super) const HAVES_PER_ROUND: usize = 768;
/// Most acknowledgment lines per have; Git sends one.
const LINES_PER_HAVE: usize = 4;
/// Most additional lines of an answer (`NAK`, `ready`).
const MORE_LINES: usize = 64;

impl UploadPack<'_> {
    /// Returns the objects of `haves` that the server has, in their order, and fetches nothing.
    ///
    /// `want` is an object that the server advertises, as the protocol requires one. Objects that the server has but
    /// does not advertise (hidden refs) count as missing.
    pub fn known(&mut self, want: ObjectId, haves: &[ObjectId]) -> Result<Vec<ObjectId>, ClientError> {
        let mut common = HashSet::new();
        let haves = distinct(haves);
        if !haves.is_empty() {
            self.ready()?;
            let at = self.at("asking which objects it has");
            match self.version() {
                Version::V2 => self.known_v2(want, &haves, &mut common, at)?,
                _ => self.known_v0(want, &haves, &mut common, at)?,
            }
        }
        Ok(haves.into_iter().filter(|id| common.contains(id)).collect())
    }

    /// Repeats the request with all unacknowledged haves, in alternating order, until an answer adds none.
    ///
    /// Git does not acknowledge a have that it has already seen as the parent of an earlier have. Each request
    /// acknowledges at least the first common object; the reversed order also acknowledges those whose child came
    /// first.
    fn known_v2(
        &mut self,
        want: ObjectId,
        haves: &[ObjectId],
        common: &mut HashSet<ObjectId>,
        at: At<'_>,
    ) -> Result<(), ClientError> {
        for haves in haves.chunks(HAVES_PER_REQUEST) {
            let mut left = haves.to_vec();
            while !left.is_empty() {
                let before = left.len();
                self.acknowledged(want, &left, common, at)?;
                left.retain(|id| !common.contains(id));
                if left.len() == before {
                    break;
                }
                left.reverse();
            }
        }
        Ok(())
    }

    /// Sends one version 2 request and adds the acknowledged objects to `common`.
    fn acknowledged(
        &mut self,
        want: ObjectId,
        haves: &[ObjectId],
        common: &mut HashSet<ObjectId>,
        at: At<'_>,
    ) -> Result<(), ClientError> {
        self.ready()?;
        let wait_for_done = self.capabilities().command_has("fetch", "wait-for-done");
        let head = self.command_head("fetch");
        let asked = haves.iter().copied().collect();
        let wants = vec![want];
        let haves = haves.to_vec();
        let request = FetchRequest { wants, haves, wait_for_done, ..FetchRequest::default() };
        self.send(at, |out| {
            out.get_mut().write_all(&head)?;
            request.write_v2(out)
        })?;
        let mut answer = Answer::new(self.connection.answer(), at);
        let section = answer.text("acknowledgments")?;
        if section != b"acknowledgments" {
            return Err(at.protocol(ProtocolError::unexpected("acknowledgments", section)));
        }
        // A server that is ready sends the pack at once. To reconnect is cheaper than to read the pack, so the
        // connection does not count as idle then.
        self.idle = read_acknowledgments(&mut answer, &asked, common, at)?;
        Ok(())
    }

    /// Collects `ACK <id> common` lines of versions 0 and 1. (`ACK <id> ready` also names objects that the server
    /// lacks.)
    fn known_v0(
        &mut self,
        want: ObjectId,
        haves: &[ObjectId],
        common: &mut HashSet<ObjectId>,
        at: At<'_>,
    ) -> Result<(), ClientError> {
        if !self.capabilities().has("multi_ack_detailed") {
            return Err(at.unsupported("report which objects it has: it does not advertise `multi_ack_detailed`"));
        }
        let stateless = self.connection.is_stateless();
        let identification = self.client_identification();
        // No pack follows, but some servers (dulwich) require a client that accepts every kind.
        let has = |capability: &str| self.capabilities().has(capability);
        let request = FetchRequest {
            wants: vec![want],
            multi_ack: MultiAck::Detailed,
            thin_pack: has("thin-pack"),
            ofs_delta: has("ofs-delta"),
            sideband: if has("side-band-64k") { SidebandWidth::Large } else { SidebandWidth::None },
            ..FetchRequest::default()
        };
        let per_round = if stateless { HAVES_PER_REQUEST } else { HAVES_PER_ROUND };
        for (round, haves) in haves.chunks(per_round).enumerate() {
            self.send(at, |out| {
                if round == 0 || stateless {
                    request.write_v0(&identification, out)?;
                }
                write_ids(b"have ", haves, out)?;
                out.flush_packet()
            })?;
            let format = self.format();
            let asked = haves.iter().copied().collect();
            read_round(&mut Answer::new(self.connection.answer(), at), at, haves.len(), |id| {
                common.insert(among(parse_id(id, format)?, &asked)?);
                Ok(())
            })?;
        }
        // Over SSH the server still waits for more haves: the next request reconnects.
        self.idle = stateless;
        Ok(())
    }

    /// Capabilities `object-format` and `agent` of the client, each sent only if the server advertises the same.
    pub(super) fn client_identification(&self) -> Vec<String> {
        let format = self.capabilities().value("object-format").map(|_| format!("object-format={}", self.format()));
        format.into_iter().chain(self.capabilities().agent().map(|_| AGENT.into())).collect()
    }
}

/// Limit of acknowledgment lines for a number of haves.
pub(super) fn acknowledgments(haves: usize) -> Lines {
    Lines::new("acknowledgments", haves.saturating_mul(LINES_PER_HAVE).saturating_add(MORE_LINES))
}

/// Returns an acknowledged id, or an error if it is not one of the haves in `asked`.
fn among(id: ObjectId, asked: &HashSet<ObjectId>) -> Result<ObjectId, ProtocolError> {
    let unasked = || ProtocolError::unexpected("an id that was asked about", id.to_hex().to_string().as_bytes());
    asked.contains(&id).then_some(id).ok_or_else(unasked)
}

/// Reads the acknowledgments section. Returns true if the answer ends with it.
fn read_acknowledgments(
    answer: &mut Answer<'_>,
    asked: &HashSet<ObjectId>,
    common: &mut HashSet<ObjectId>,
    at: At<'_>,
) -> Result<bool, ClientError> {
    let mut lines = acknowledgments(asked.len());
    loop {
        lines.count(at)?;
        match answer.line("the end of the acknowledgments")? {
            Line::Flush => return Ok(true),
            Line::Delimiter => return Ok(false),
            Line::Text(b"NAK" | b"ready") => {}
            Line::Text(line) => {
                let (id, _) = acknowledgment(line, at)?;
                let id = ObjectId::from_hex(id).map_err(|_| ProtocolError::unexpected("ACK <id>", line));
                common.insert(id.and_then(|id| among(id, asked)).map_err(|error| at.protocol(error))?);
            }
        }
    }
}

/// Reads the answer to a round of `haves` haves in version 0 or 1, up to its `NAK`, and passes each common id to
/// `common`.
///
/// Returns true if the server is `ready` to send a pack.
pub(super) fn read_round(
    answer: &mut Answer<'_>,
    at: At<'_>,
    haves: usize,
    mut common: impl FnMut(&[u8]) -> Result<(), ProtocolError>,
) -> Result<bool, ClientError> {
    let mut ready = false;
    let mut lines = acknowledgments(haves);
    loop {
        lines.count(at)?;
        let line = answer.text("the last acknowledgment")?;
        if line == b"NAK" {
            return Ok(ready);
        }
        match acknowledgment(line, at)? {
            (id, b"common") => common(id).map_err(|error| at.protocol(error))?,
            (_, status) => ready |= status == b"ready",
        }
    }
}

/// Splits `ACK <id> [<status>]` into id and status.
pub(super) fn acknowledgment<'l>(line: &'l [u8], at: At<'_>) -> Result<(&'l [u8], &'l [u8]), ClientError> {
    let fields = line.strip_prefix(b"ACK ");
    let fields = fields.ok_or_else(|| at.protocol(ProtocolError::unexpected("ACK <id> or NAK", line)))?;
    Ok(fields.split_once_str(" ").unwrap_or((fields, b"")))
}
