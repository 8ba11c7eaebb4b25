//! Haves of a request and their acknowledgments, in every version of the protocol.

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::ByteSlice;

use super::answer::{Answer, Lines};
use super::error::{At, ClientError};
use crate::protocol::ProtocolError;

/// Haves in one stateless request (version 2, and HTTP): about 600 KB, with an answer of similar size.
pub(super) const HAVES_PER_REQUEST: usize = 8192;
/// Haves before the client reads the answer, where the server answers while it reads (SSH, versions 0 and 1). The
/// answer must fit into the smallest buffer on the path, a pipe; otherwise both sides block.
pub(super) const HAVES_PER_ROUND: usize = 768;
/// Most acknowledgment lines per have; Git sends one.
const LINES_PER_HAVE: usize = 4;
/// Most additional lines of an answer (`NAK`, `ready`).
const MORE_LINES: usize = 64;

/// Removes repeated ids and keeps the order of first occurrences.
pub(super) fn distinct(ids: &[ObjectId]) -> Vec<ObjectId> {
    let mut seen = HashSet::with_capacity(ids.len());
    ids.iter().copied().filter(|id| seen.insert(*id)).collect()
}

/// Limit of acknowledgment lines for a number of haves.
pub(super) fn acknowledgments(haves: usize) -> Lines {
    Lines::new("acknowledgments", haves.saturating_mul(LINES_PER_HAVE).saturating_add(MORE_LINES))
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
