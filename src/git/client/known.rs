//! Asks a server which objects it has: a negotiation that ends before a pack is sent.

use std::collections::HashSet;
use std::io::Write;

use gix::ObjectId;

use super::answer::{Answer, Line};
use super::error::{At, ClientError};
use super::haves::{HAVES_PER_REQUEST, HAVES_PER_ROUND, acknowledgment, acknowledgments, distinct, read_round};
use super::upload_pack::UploadPack;
use crate::protocol::{FetchRequest, MultiAck, ProtocolError, SidebandWidth, Version, parse_id, write_ids};

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
