//! Line reader for a server's answer.

use std::io::BufRead;

use super::error::{At, ClientError};
use crate::protocol::{Packet, PacketReader, ProtocolError};

/// One packet of an answer. `ERR` packets become errors instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Text without its line end.
    Text(&'a [u8]),
    /// End of a section.
    Delimiter,
    /// End of the answer.
    Flush,
}

/// Limit of the number of lines in one part of an answer.
pub(super) struct Lines {
    what: &'static str,
    left: usize,
    limit: usize,
}

impl Lines {
    pub fn new(what: &'static str, limit: usize) -> Self {
        Lines { what, left: limit, limit }
    }

    /// Counts one line; fails beyond the limit.
    pub fn count(&mut self, at: At<'_>) -> Result<(), ClientError> {
        let too_many = || at.protocol(ProtocolError::TooMany { what: self.what, limit: self.limit });
        self.left = self.left.checked_sub(1).ok_or_else(too_many)?;
        Ok(())
    }
}

/// Reader of the lines of one answer.
pub(super) struct Answer<'c> {
    packets: PacketReader<&'c mut dyn BufRead>,
    at: At<'c>,
}

impl<'c> Answer<'c> {
    pub fn new(input: &'c mut dyn BufRead, at: At<'c>) -> Self {
        Answer { packets: PacketReader::new(input), at }
    }

    /// Reads the next line. If the answer ends instead, the error names `missing` as the missing part.
    pub fn line(&mut self, missing: &'static str) -> Result<Line<'_>, ClientError> {
        let at = self.at;
        match self.packets.read_required(missing).map_err(|error| at.protocol(error))? {
            Packet::Flush => Ok(Line::Flush),
            Packet::Delimiter => Ok(Line::Delimiter),
            Packet::ResponseEnd => Err(at.protocol(ProtocolError::unexpected(missing, b"response-end"))),
            packet @ Packet::Data(_) => match packet.line().unwrap_or_default() {
                line if line.starts_with(b"ERR ") => Err(at.remote(&line[4..])),
                line => Ok(Line::Text(line)),
            },
        }
    }

    /// Reads the next line and fails unless it is text.
    pub fn text(&mut self, missing: &'static str) -> Result<&[u8], ClientError> {
        let at = self.at;
        match self.line(missing)? {
            Line::Text(text) => Ok(text),
            _ => Err(at.protocol(ProtocolError::unexpected(missing, b"a special packet"))),
        }
    }

    /// Returns the input after the last line.
    pub fn into_inner(self) -> &'c mut dyn BufRead {
        self.packets.into_inner()
    }
}
