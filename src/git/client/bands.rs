//! Side-band demultiplexer: band 1 is data, band 2 is kept and traced, band 3 becomes an error.

use std::io::{self, BufRead, Read};

use super::error::{At, ClientError, one_line};
use crate::protocol::{Band, Head, MAX_PAYLOAD_BYTES, PacketReader, ProtocolError};

/// Most progress lines that are kept of one answer.
const MAX_MESSAGES: usize = 1000;
/// Bytes of the longest kept progress line; the rest is dropped.
const MAX_MESSAGE_BYTES: usize = 1000;

/// Side-band stream of one answer.
pub(super) struct Bands<'c> {
    packets: PacketReader<&'c mut dyn BufRead>,
    pub messages: Messages,
    ended: bool,
}

impl<'c> Bands<'c> {
    pub fn new(input: &'c mut dyn BufRead) -> Self {
        Bands { packets: PacketReader::new(input), messages: Messages::default(), ended: false }
    }

    /// Reads the next data packet into `buffer`, which has room for [`MAX_PAYLOAD_BYTES`]; returns 0 at the flush
    /// packet that ends the stream. Keep-alive packets are skipped.
    pub fn read(&mut self, buffer: &mut [u8], at: At<'_>) -> Result<usize, ClientError> {
        while !self.ended {
            let protocol = |error| at.protocol(error);
            let bytes = match self.packets.head().map_err(protocol)? {
                Some(Head::Data(bytes)) => bytes,
                Some(Head::Flush) => {
                    self.ended = true;
                    break;
                }
                Some(_) => return Err(at.protocol(ProtocolError::unexpected("a band", b"a special packet"))),
                None => return Err(at.protocol(ProtocolError::Truncated("the flush packet at the end"))),
            };
            // Some servers send packets without a band byte as keep-alives.
            let Some(bytes) = bytes.checked_sub(1) else { continue };
            let mut band = [0];
            self.packets.fill(&mut band).map_err(protocol)?;
            assert!(bytes <= buffer.len(), "the buffer holds the longest packet");
            let data = &mut buffer[..bytes];
            self.packets.fill(data).map_err(protocol)?;
            match band[0] {
                band if band == Band::Data as u8 && bytes > 0 => return Ok(bytes),
                band if band == Band::Data as u8 => {}
                band if band == Band::Progress as u8 => self.messages.add(data, at),
                band if band == Band::Error as u8 => return Err(at.remote(data)),
                // `ERR` packet of a server that fails before it begins the side-band stream.
                b'E' if data.starts_with(b"RR ") => return Err(at.remote(&data[3..])),
                _ => return Err(at.protocol(ProtocolError::unexpected("a band", &band))),
            }
        }
        Ok(0)
    }
}

/// Band 1 as a plain stream, for small answers.
pub(super) struct BandReader<'c> {
    pub bands: Bands<'c>,
    at: At<'c>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<'c> BandReader<'c> {
    pub fn new(input: &'c mut dyn BufRead, at: At<'c>) -> Self {
        BandReader { bands: Bands::new(input), at, buffer: vec![0; MAX_PAYLOAD_BYTES], start: 0, end: 0 }
    }
}

impl BufRead for BandReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = self.bands.read(&mut self.buffer, self.at).map_err(ClientError::into_io)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }
}

impl Read for BandReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

/// Progress text of a server, split into lines.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Complete lines. A carriage return discards the text before it, so only the last state of a counter remains.
    pub lines: Vec<String>,
    line: Vec<u8>,
}

impl Messages {
    /// Adds text that may end within a line.
    pub fn add(&mut self, text: &[u8], at: At<'_>) {
        for byte in text {
            match byte {
                b'\n' => self.end_line(at),
                // On a terminal the following text overwrites this line.
                b'\r' => self.line.clear(),
                byte if self.line.len() < MAX_MESSAGE_BYTES => self.line.push(*byte),
                _ => {}
            }
        }
    }

    /// Ends the last line and returns all lines.
    pub fn finish(mut self, at: At<'_>) -> Vec<String> {
        self.end_line(at);
        self.lines
    }

    fn end_line(&mut self, at: At<'_>) {
        let line = one_line(&std::mem::take(&mut self.line));
        if line.is_empty() {
            return;
        }
        tracing::debug!(server = at.server, "{line}");
        if self.lines.len() < MAX_MESSAGES {
            self.lines.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{PacketWriter, Sideband};
    use proptest::prelude::*;
    use std::io::Write;

    const AT: At<'static> = At { server: "test://", doing: "reading" };

    fn data(mut input: &[u8]) -> Result<(Vec<u8>, Vec<String>), ClientError> {
        let mut reader = BandReader::new(&mut input, AT);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map_err(|error| ClientError::from_io(error).unwrap())?;
        Ok((all, reader.bands.messages.finish(AT)))
    }

    #[test]
    fn bands_are_taken_apart() {
        let input = b"000a\x02hello0007\x01ab0005\x010004000d\x02 you\n5%\r0007\x01cd000c\x0267%\rend0000rest";
        let (bytes, messages) = data(input).unwrap();
        assert_eq!((bytes.as_slice(), messages), (&b"abcd"[..], vec!["hello you".to_owned(), "end".into()]));
        for (input, words) in [
            (&b"0007\x01ab000a\x03ouch\n0000"[..], "the server says: ouch"),
            (b"0007\x01ab", "hung up"),
            (b"0007\x01ab0001", "a band"),
            (b"0006\x07a0000", "a band"),
            (b"000cERR gone0000", "the server says: gone"),
            (b"0010\x01ab", "hung up"),
        ] {
            let error = data(input).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn messages_are_bounded() {
        let mut messages = Messages::default();
        messages.add(&vec![b'x'; 1 << 20], AT);
        messages.add(&b"\ny".repeat(2 * MAX_MESSAGES), AT);
        let lines = messages.finish(AT);
        assert_eq!((lines.len(), lines[0].len()), (MAX_MESSAGES, MAX_MESSAGE_BYTES));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = data(&input);
        }

        #[test]
        fn data_comes_out_as_it_went_in(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9000), 0..9), small: bool) {
            let mut out = if small { Sideband::small(Vec::new()) } else { Sideband::large(Vec::new()) };
            for piece in &pieces {
                out.write_all(piece).unwrap();
                out.message(Band::Progress, b"progress\n").unwrap();
                out.keep_alive().unwrap();
            }
            let mut bytes = out.finish().unwrap();
            prop_assert!(data(&bytes).is_err());
            PacketWriter::new(&mut bytes).flush_packet().unwrap();
            let (read, messages) = data(&bytes).unwrap();
            prop_assert_eq!((read, messages.len()), (pieces.concat(), pieces.len()));
        }
    }
}
