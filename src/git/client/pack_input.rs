//! A pack as it arrives.

use std::collections::HashSet;
use std::io::{self, BufRead, Read, Write};

use gix::ObjectId;
use gix::hash::Kind as Format;

use super::bands::Bands;
use super::error::{At, ClientError};
use super::trailer::TrailerHash;
use crate::protocol::{MAX_PAYLOAD_BYTES, ProtocolError};

/// Bytes of the header: `PACK`, version, number of objects.
const HEADER_BYTES: usize = 12;
/// Bytes of the longest trailer.
const MAX_TRAILER_BYTES: usize = 32;

/// What a server has said before a pack.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Commits at which a shallow history ends.
    pub shallow: Vec<ObjectId>,
    /// The objects among those that were named to it that it has too; `None` where the protocol does not tell.
    pub common: Option<HashSet<ObjectId>>,
}

/// How the pack is wrapped.
pub(super) enum Wire<'c> {
    /// In bands; a flush packet ends it.
    Bands(Bands<'c>),
    /// Not at all; the end of the input ends it.
    Plain(&'c mut dyn BufRead),
}

impl<'c> Wire<'c> {
    pub fn bands(input: &'c mut dyn BufRead) -> Self {
        Wire::Bands(Bands::new(input))
    }

    /// Reads some bytes, 0 only at a clean end.
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

/// A pack as it arrives: bands taken apart, signs of life passed over, hashed as it flows. It is handed out without
/// its trailer until the server has ended it cleanly and the trailer is the hash of all before; only then comes the
/// trailer. So whoever passes it on cannot pass on a damaged pack that looks whole.
///
/// Every failure is an [`io::Error`] around a [`ClientError`] (see [`ClientError::from_io`]); after one there are only
/// more of them, never an end.
pub struct PackInput<'c> {
    wire: Wire<'c>,
    at: At<'c>,
    format: Format,
    /// What arrived: up to `start` it has been handed out, up to `hashed` it may be.
    buffer: Box<[u8]>,
    start: usize,
    hashed: usize,
    end: usize,
    hash: Option<TrailerHash>,
    state: State,
    objects: u32,
    bytes: u64,
    told: Told,
    /// To be told when another request may follow on the connection.
    idle: Option<&'c mut bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flowing,
    Ended,
    Failed,
}

impl<'c> PackInput<'c> {
    /// Waits for the header.
    pub(super) fn open(
        wire: Wire<'c>,
        format: Format,
        told: Told,
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
            bytes: 0,
            told,
            idle,
        };
        while input.state == State::Flowing && input.hashed < HEADER_BYTES {
            input.advance()?;
        }
        let header = input.buffer.first_chunk::<HEADER_BYTES>().filter(|_| input.end >= HEADER_BYTES);
        let Some([b'P', b'A', b'C', b'K', 0, 0, 0, 2 | 3, count @ ..]) = header else {
            return Err(at.bad_pack("it does not begin like a pack"));
        };
        input.objects = u32::from_be_bytes(*count);
        Ok(input)
    }

    /// How objects are named in it.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many objects its header announces.
    pub fn objects(&self) -> u32 {
        self.objects
    }

    /// How many bytes have been handed out.
    pub fn bytes_so_far(&self) -> u64 {
        self.bytes
    }

    /// Commits whose parents were not sent, as it was asked for.
    pub fn shallow(&self) -> &[ObjectId] {
        &self.told.shallow
    }

    /// The objects among those that the request said were there that the server has too; `None` where it does not say
    /// (version 2, and servers without `multi_ack_detailed`).
    pub fn common(&self) -> Option<&HashSet<ObjectId>> {
        self.told.common.as_ref()
    }

    /// Writes all that is left; how many bytes that were. Data are not copied on the way.
    pub fn copy_to(&mut self, out: &mut dyn Write) -> io::Result<u64> {
        let before = self.bytes;
        loop {
            let data = self.fill_buf()?;
            let bytes = data.len();
            if bytes == 0 {
                return Ok(self.bytes - before);
            }
            out.write_all(data)?;
            self.consume(bytes);
        }
    }

    /// Takes in what arrives next.
    fn advance(&mut self) -> Result<(), ClientError> {
        let result = self.try_advance();
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    fn try_advance(&mut self) -> Result<(), ClientError> {
        // What is left is never longer than header and trailer, so that there is room for a whole packet.
        self.buffer.copy_within(self.start..self.end, 0);
        (self.hashed, self.end, self.start) = (self.hashed - self.start, self.end - self.start, 0);
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
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

    /// Judges the whole: what has not been hashed is the trailer.
    fn finish(&mut self) -> Result<(), ClientError> {
        let trailer = self.buffer.get(self.hashed..self.end).unwrap_or_default();
        let hash = self.hash.take().map(TrailerHash::finish).transpose();
        match hash.map_err(|reason| self.at.bad_pack(reason))? {
            Some(hash) if hash.as_slice() == trailer => {}
            _ if trailer.len() < self.format.len_in_bytes() => {
                return Err(self.at.protocol(ProtocolError::Truncated("the pack")));
            }
            _ => return Err(self.at.bad_pack("it ends with another hash than that of its bytes")),
        }
        (self.state, self.hashed) = (State::Ended, self.end);
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
            return Err(self.at.bad_pack("it was cut off or is damaged, as was told before").into_io());
        }
        Ok(self.buffer.get(self.start..self.hashed).unwrap_or_default())
    }

    fn consume(&mut self, bytes: usize) {
        let bytes = bytes.min(self.hashed - self.start);
        self.start += bytes;
        self.bytes += bytes as u64;
    }
}

impl Read for PackInput<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

/// A pack without objects.
pub fn empty_pack(format: Format) -> Vec<u8> {
    let mut pack = b"PACK\0\0\0\x02\0\0\0\0".to_vec();
    let mut hash = TrailerHash::new(format);
    hash.update(&pack);
    if let Ok(trailer) = hash.finish() {
        pack.extend_from_slice(trailer.as_slice());
    }
    pack
}
