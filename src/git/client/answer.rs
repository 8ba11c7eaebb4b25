//! A server's answer, line by line.

use std::io::BufRead;

use super::error::{At, ClientError};
use crate::protocol::{Packet, PacketReader, ProtocolError};

/// One packet of an answer. `ERR` packets never come out: they are errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Text without its line end.
    Text(&'a [u8]),
    /// The end of a section.
    Delimiter,
    /// The end of the answer.
    Flush,
}

/// Counts the lines of a part of an answer that has to end.
pub(super) struct Lines {
    what: &'static str,
    left: usize,
    limit: usize,
}

impl Lines {
    pub fn new(what: &'static str, limit: usize) -> Self {
        Lines { what, left: limit, limit }
    }

    /// Another line has come.
    pub fn count(&mut self, at: At<'_>) -> Result<(), ClientError> {
        let too_many = || at.protocol(ProtocolError::TooMany { what: self.what, limit: self.limit });
        self.left = self.left.checked_sub(1).ok_or_else(too_many)?;
        Ok(())
    }
}

/// Reads the lines of one answer.
pub(super) struct Answer<'c> {
    packets: PacketReader<&'c mut dyn BufRead>,
    at: At<'c>,
}

impl<'c> Answer<'c> {
    pub fn new(input: &'c mut dyn BufRead, at: At<'c>) -> Self {
        Answer { packets: PacketReader::new(input), at }
    }

    /// The next line of an answer that is not over: `missing` tells what it lacks if it ends here.
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

    /// The next line, which has to be text.
    pub fn text(&mut self, missing: &'static str) -> Result<&[u8], ClientError> {
        let at = self.at;
        match self.line(missing)? {
            Line::Text(text) => Ok(text),
            _ => Err(at.protocol(ProtocolError::unexpected(missing, b"a special packet"))),
        }
    }

    /// The input behind the last line.
    pub fn into_inner(self) -> &'c mut dyn BufRead {
        self.packets.into_inner()
    }
}
