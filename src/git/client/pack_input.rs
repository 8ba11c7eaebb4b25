//! Pack stream from a server, verified as it is read.

use std::collections::HashSet;
use std::io::{self, BufRead, Read};

use gix::ObjectId;
use gix::hash::Kind as Format;

use super::bands::Bands;
use super::error::{At, ClientError};
use super::trailer::TrailerHash;
use crate::protocol::{MAX_PAYLOAD_BYTES, ProtocolError};

/// Bytes of the pack header: `PACK`, version, number of objects.
const HEADER_BYTES: usize = 12;
/// Bytes of the longest trailer (SHA-256).
const MAX_TRAILER_BYTES: usize = 32;

/// Part of a fetch answer before the pack.
#[derive(Debug, Default)]
pub(super) struct Preamble {
    /// New shallow commits.
    pub shallow: Vec<ObjectId>,
    /// Haves that the server has, too; `None` if the protocol does not report them.
    pub common: Option<HashSet<ObjectId>>,
}

/// Framing of the pack.
pub(super) enum Wire<'c> {
    /// Side-band packets, ended by a flush packet.
    Bands(Bands<'c>),
    /// Unframed, ended by the end of the input.
    Plain(&'c mut dyn BufRead),
}

impl<'c> Wire<'c> {
    pub fn bands(input: &'c mut dyn BufRead) -> Self {
        Wire::Bands(Bands::new(input))
    }

    /// Reads some bytes; 0 only at a clean end.
    fn read(&mut self, buffer: &mut [u8], at: At<'_>) -> Result<usize, ClientError> {
        match self {
            Wire::Bands(bands) => bands.read(buffer, at),
            Wire::Plain(input) => loop {
                match input.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => return result.map_err(|error| at.io(error)),
                }
            },
        }
    }
}

/// Pack stream from a server: side-bands demultiplexed, keep-alive packets skipped, hashed while it is read.
///
/// The trailer is withheld until the server has ended the stream cleanly and the trailer equals the hash of all bytes
/// before. A reader that forwards the stream therefore never forwards a damaged pack that looks complete.
///
/// Every failure is an [`io::Error`] around a [`ClientError`] (see [`ClientError::from_io`]). After a failure all reads
/// fail; the stream never reports an end.
pub struct PackInput<'c> {
    wire: Wire<'c>,
    at: At<'c>,
    format: Format,
    /// Received bytes: those before `start` have been read, those before `hashed` may be read, those before `end` wait
    /// for the trailer check.
    buffer: Box<[u8]>,
    start: usize,
    hashed: usize,
    end: usize,
    hash: Option<TrailerHash>,
    state: State,
    objects: u32,
    preamble: Preamble,
    /// Set to true once the connection is ready for another request.
    idle: Option<&'c mut bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flowing,
    Ended,
    Failed,
}

impl<'c> PackInput<'c> {
    /// Reads the pack header.
    pub(super) fn open(
        wire: Wire<'c>,
        format: Format,
        preamble: Preamble,
        at: At<'c>,
        idle: Option<&'c mut bool>,
    ) -> Result<Self, ClientError> {
        let mut input = PackInput {
            wire,
            at,
            format,
            buffer: vec![0; HEADER_BYTES + MAX_TRAILER_BYTES + MAX_PAYLOAD_BYTES].into_boxed_slice(),
            start: 0,
            hashed: 0,
            end: 0,
            hash: Some(TrailerHash::new(format)),
            state: State::Flowing,
            objects: 0,
            preamble,
            idle,
        };
        while input.state == State::Flowing && input.hashed < HEADER_BYTES {
            input.advance()?;
        }
        let header = input.buffer.first_chunk::<HEADER_BYTES>().filter(|_| input.end >= HEADER_BYTES);
        let Some([b'P', b'A', b'C', b'K', 0, 0, 0, 2 | 3, count @ ..]) = header else {
            return Err(at.bad_pack("it does not begin with a pack header"));
        };
        input.objects = u32::from_be_bytes(*count);
        Ok(input)
    }

    /// Object format of the pack.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Number of objects that the pack header announces.
    pub fn objects(&self) -> u32 {
        self.objects
    }

    /// Commits whose parents were left out because of `deepen`.
    pub fn shallow(&self) -> &[ObjectId] {
        &self.preamble.shallow
    }

    /// Haves of the request that the server has, too; `None` if the server does not report them (version 2, and servers
    /// without `multi_ack_detailed`).
    pub fn common(&self) -> Option<&HashSet<ObjectId>> {
        self.preamble.common.as_ref()
    }

    /// Receives more bytes.
    fn advance(&mut self) -> Result<(), ClientError> {
        let result = self.try_advance();
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    fn try_advance(&mut self) -> Result<(), ClientError> {
        // At most header and trailer are left over, so a whole packet fits.
        self.buffer.copy_within(self.start..self.end, 0);
        self.hashed -= self.start;
        self.end -= self.start;
        self.start = 0;
        debug_assert!(self.buffer.len() - self.end >= MAX_PAYLOAD_BYTES, "the buffer has room for a whole packet");
        let room = &mut self.buffer[self.end..];
        let bytes = self.wire.read(room, self.at)?;
        if bytes == 0 {
            return self.finish();
        }
        self.end += bytes;
        let trailer = self.end.saturating_sub(self.format.len_in_bytes());
        if let Some(hash) = &mut self.hash
            && let Some(data) = self.buffer.get(self.hashed..trailer)
        {
            hash.update(data);
            self.hashed = trailer;
        }
        Ok(())
    }

    /// Compares the trailer, the bytes that have not been hashed, with the hash.
    fn finish(&mut self) -> Result<(), ClientError> {
        let trailer = &self.buffer[self.hashed..self.end];
        let hash = self.hash.take().map(TrailerHash::finish).transpose();
        match hash.map_err(|reason| self.at.bad_pack(reason))? {
            Some(hash) if hash.as_slice() == trailer => {}
            _ if trailer.len() < self.format.len_in_bytes() => {
                return Err(self.at.protocol(ProtocolError::Truncated("the pack")));
            }
            _ => return Err(self.at.bad_pack("its trailer is not the hash of its bytes")),
        }
        self.state = State::Ended;
        self.hashed = self.end;
        if let Some(idle) = &mut self.idle {
            **idle = true;
        }
        Ok(())
    }
}

impl BufRead for PackInput<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.start == self.hashed && self.state == State::Flowing {
            self.advance().map_err(ClientError::into_io)?;
        }
        if self.state == State::Failed {
            return Err(self.at.bad_pack("an earlier read of it failed").into_io());
        }
        Ok(&self.buffer[self.start..self.hashed])
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes.min(self.hashed - self.start);
    }
}

impl Read for PackInput<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

/// Returns a pack without objects.
pub fn empty_pack(format: Format) -> Vec<u8> {
    let mut pack = b"PACK\0\0\0\x02\0\0\0\0".to_vec();
    let mut hash = TrailerHash::new(format);
    hash.update(&pack);
    if let Ok(trailer) = hash.finish() {
        pack.extend_from_slice(trailer.as_slice());
    }
    pack
}
