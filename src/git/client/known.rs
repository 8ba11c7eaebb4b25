//! Which objects a server has, without fetching anything: negotiation that is broken off.

use std::collections::HashSet;
use std::io::Write;

use gix::ObjectId;
use gix::bstr::ByteSlice;

use super::answer::{Answer, Line, Lines};
use super::error::{At, ClientError};
use super::fetch::distinct;
use super::upload_pack::UploadPack;
use crate::protocol::{AGENT, FetchRequest, MultiAck, ProtocolError, SidebandWidth, Version, parse_id, write_ids};

/// Haves in one request that stands for itself (version 2, and HTTP): some 600 KB with answers of that size.
pub(super) const HAVES_PER_REQUEST: usize = 8192;
/// Haves before the answer is awaited where the server answers while it reads (SSH, versions 0 and 1): what it answers
/// has to fit into the smallest buffer on the way, a pipe, or both sides would wait for each other.
pub(super) const HAVES_PER_ROUND: usize = 768;
/// Lines that a server may say to one have: Git says one.
const LINES_PER_HAVE: usize = 4;
/// Lines that it may say beside those: `NAK`, `ready`.
const MORE_LINES: usize = 64;

impl UploadPack<'_> {
    /// Which of `haves` the server has, in their order; nothing is fetched. `want` is an object that it has: without
    /// one it is not to be asked. Objects that it has but does not show count as not there.
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

    /// Git does not acknowledge an object that it has heard of as the parent of one before, so what is not
    /// acknowledged is asked about again, until nothing more is. Each request acknowledges at least the first object
    /// that is there; in the other order also all those whose child came first.
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

    /// One request of version 2, whose acknowledgments join `common`.
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
        let (wants, haves) = (vec![want], haves.to_vec());
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
        // Where it has heard enough it sends the pack at once, for which a new connection is cheaper than to read it:
        // then this one is not idle.
        self.idle = read_acknowledgments(&mut answer, &asked, common, at)?;
        Ok(())
    }

    /// Versions 0 and 1: every have is acknowledged where it is `common`. (`ready` is said of objects that the server
    /// does not have, too.)
    fn known_v0(
        &mut self,
        want: ObjectId,
        haves: &[ObjectId],
        common: &mut HashSet<ObjectId>,
        at: At<'_>,
    ) -> Result<(), ClientError> {
        if !self.capabilities().has("multi_ack_detailed") {
            return Err(at.unsupported("tell which objects it has: it lacks multi_ack_detailed"));
        }
        let stateless = self.connection.is_stateless();
        let named = self.named();
        // No pack comes, but some servers (dulwich) insist on a client that could read any.
        let has = |word: &str| self.capabilities().has(word);
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
                    request.write_v0(&named, out)?;
                }
                write_ids(b"have ", haves, out)?;
                out.flush_packet()
            })?;
            let (format, asked) = (self.format(), haves.iter().copied().collect());
            read_round(&mut Answer::new(self.connection.answer(), at), at, haves.len(), |id| {
                common.insert(among(parse_id(id, format)?, &asked)?);
                Ok(())
            })?;
        }
        // Over SSH the server still waits for more haves: the next request connects anew.
        self.idle = stateless;
        Ok(())
    }

    /// What a client names where the server has named its own.
    pub(super) fn named(&self) -> Vec<String> {
        let format = self.capabilities().value("object-format").map(|_| format!("object-format={}", self.format()));
        format.into_iter().chain(self.capabilities().agent().map(|_| AGENT.into())).collect()
    }
}

/// How many lines of acknowledgments there may be after so many haves.
pub(super) fn acknowledgments(haves: usize) -> Lines {
    Lines::new("acknowledgments", haves.saturating_mul(LINES_PER_HAVE).saturating_add(MORE_LINES))
}

/// An id that is acknowledged, which has to be one that was `asked` about.
fn among(id: ObjectId, asked: &HashSet<ObjectId>) -> Result<ObjectId, ProtocolError> {
    let unasked = || ProtocolError::unexpected("an id that was asked about", id.to_hex().to_string().as_bytes());
    asked.contains(&id).then_some(id).ok_or_else(unasked)
}

/// Reads a section of acknowledgments; whether the answer ends with it.
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

/// Reads the answers to a round of so many haves of versions 0 and 1, up to the `NAK` that ends it, and tells of ids that
/// are common.
/// Whether the server has heard enough.
pub(super) fn read_round(
    answer: &mut Answer<'_>,
    at: At<'_>,
    haves: usize,
    mut common: impl FnMut(&[u8]) -> Result<(), ProtocolError>,
) -> Result<bool, ClientError> {
    let (mut ready, mut lines) = (false, acknowledgments(haves));
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

/// `ACK <id> [<status>]`
pub(super) fn acknowledgment<'l>(line: &'l [u8], at: At<'_>) -> Result<(&'l [u8], &'l [u8]), ClientError> {
    let words = line.strip_prefix(b"ACK ");
    let words = words.ok_or_else(|| at.protocol(ProtocolError::unexpected("ACK <id> or NAK", line)))?;
    Ok(words.split_once_str(" ").unwrap_or((words, b"")))
}
