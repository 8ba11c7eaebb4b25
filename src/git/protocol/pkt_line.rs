//! pkt-lines (gitprotocol-common): four hexadecimal digits of length, which count themselves, then data.

use std::io::{self, BufRead, Write};

use super::error::ProtocolError;

/// Size of the largest packet in bytes, including the length digits.
pub const MAX_PACKET_BYTES: usize = 65520;
/// Most bytes of data in a packet.
pub const MAX_PAYLOAD_BYTES: usize = MAX_PACKET_BYTES - LENGTH_BYTES;
const LENGTH_BYTES: usize = 4;

/// Packet of the wire protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Data, including a trailing line break.
    Data(&'a [u8]),
    /// `0000`: ends a message.
    Flush,
    /// `0001`: separates sections of a message (version 2).
    Delimiter,
    /// `0002`: ends a response on a stateless connection (version 2).
    ResponseEnd,
}

impl<'a> Packet<'a> {
    /// Returns the data without a trailing line break; `None` for special packets.
    pub fn line(self) -> Option<&'a [u8]> {
        match self {
            Packet::Data(data) => Some(data.strip_suffix(b"\n").unwrap_or(data)),
            _ => None,
        }
    }
}

/// Header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// Number of data bytes that follow.
    Data(usize),
    /// See [`Packet::Flush`].
    Flush,
    /// See [`Packet::Delimiter`].
    Delimiter,
    /// See [`Packet::ResponseEnd`].
    ResponseEnd,
}

/// Reads packets, one at a time into a reused buffer.
#[derive(Debug)]
pub struct PacketReader<R> {
    input: R,
    buffer: Vec<u8>,
}

impl<R: BufRead> PacketReader<R> {
    /// Creates a reader on an input that starts with a packet.
    pub fn new(input: R) -> Self {
        PacketReader { input, buffer: Vec::new() }
    }

    /// Reads the next packet; `None` if the input ends before it.
    pub fn read(&mut self) -> Result<Option<Packet<'_>>, ProtocolError> {
        Ok(Some(match self.head()? {
            None => return Ok(None),
            Some(Head::Flush) => Packet::Flush,
            Some(Head::Delimiter) => Packet::Delimiter,
            Some(Head::ResponseEnd) => Packet::ResponseEnd,
            Some(Head::Data(bytes)) => {
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.resize(bytes, 0);
                self.fill(&mut buffer)?;
                self.buffer = buffer;
                Packet::Data(&self.buffer)
            }
        }))
    }

    /// Reads the header of the next packet. The caller reads its data with [`PacketReader::fill`].
    pub(crate) fn head(&mut self) -> Result<Option<Head>, ProtocolError> {
        if self.at_end()? {
            return Ok(None);
        }
        let mut digits = [0; LENGTH_BYTES];
        self.fill(&mut digits)?;
        Ok(Some(match length(digits).ok_or(ProtocolError::Length(digits))? {
            0 => Head::Flush,
            1 => Head::Delimiter,
            2 => Head::ResponseEnd,
            length @ LENGTH_BYTES..=MAX_PACKET_BYTES => Head::Data(length - LENGTH_BYTES),
            _ => return Err(ProtocolError::Length(digits)),
        }))
    }

    /// Reads the next packet of an unfinished message. At the end of the input, fails with
    /// [`ProtocolError::Truncated`], naming `missing`.
    pub fn read_required(&mut self, missing: &'static str) -> Result<Packet<'_>, ProtocolError> {
        self.read()?.ok_or(ProtocolError::Truncated(missing))
    }

    /// Returns true at the end of the input. Blocks until the peer sends a byte or closes the connection.
    pub fn at_end(&mut self) -> Result<bool, ProtocolError> {
        loop {
            match self.input.fill_buf() {
                Ok(bytes) => return Ok(bytes.is_empty()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the input, positioned after the last packet.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Reads data of the packet whose header was read last, until `buffer` is full.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ProtocolError> {
        self.input.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ProtocolError::Truncated("the rest of a packet"),
            _ => ProtocolError::Io(error),
        })
    }
}

fn length(digits: [u8; LENGTH_BYTES]) -> Option<usize> {
    // `from_str_radix` accepts a sign.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    usize::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
}

/// Writes packets, unbuffered.
#[derive(Debug)]
pub struct PacketWriter<W> {
    out: W,
}

impl<W: Write> PacketWriter<W> {
    /// Creates a writer; pass a buffered output.
    pub fn new(out: W) -> Self {
        PacketWriter { out }
    }

    /// Writes one packet of data. Fails with more than [`MAX_PAYLOAD_BYTES`].
    pub fn data(&mut self, data: &[u8]) -> io::Result<()> {
        self.parts(&[data])
    }

    /// Writes one packet from several slices.
    pub fn parts(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes > MAX_PAYLOAD_BYTES {
            let reason = format!("{bytes} bytes exceed the {MAX_PAYLOAD_BYTES} bytes of a packet");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        self.out.write_all(&length_digits(bytes))?;
        parts.iter().try_for_each(|part| self.out.write_all(part))
    }

    /// Writes a packet with a line and a line break.
    pub fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.parts(&[line, b"\n"])
    }

    /// Writes a flush packet and flushes the output.
    pub fn flush_packet(&mut self) -> io::Result<()> {
        self.out.write_all(b"0000")?;
        self.out.flush()
    }

    /// Writes a delimiter packet.
    pub fn delimiter(&mut self) -> io::Result<()> {
        self.out.write_all(b"0001")
    }

    /// Writes an `ERR` packet without a line break, as Git does, and flushes. Truncates long messages. Nothing may
    /// follow.
    pub fn error(&mut self, message: &str) -> io::Result<()> {
        let message = message.as_bytes();
        self.parts(&[b"ERR ", &message[..message.len().min(MAX_PAYLOAD_BYTES - 4)]])?;
        self.out.flush()
    }

    /// Flushes the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Returns the output.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }
}

/// Returns the length digits of a packet with `data_bytes` bytes of data, at most [`MAX_PAYLOAD_BYTES`].
pub(crate) fn length_digits(data_bytes: usize) -> [u8; LENGTH_BYTES] {
    debug_assert!(data_bytes <= MAX_PAYLOAD_BYTES, "a packet holds at most {MAX_PAYLOAD_BYTES} bytes of data");
    let length = data_bytes + LENGTH_BYTES;
    let digit = |shift: usize| b"0123456789abcdef"[(length >> shift) & 15];
    [digit(12), digit(8), digit(4), digit(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(mut input: &[u8]) -> Result<Vec<Option<Vec<u8>>>, String> {
        let mut reader = PacketReader::new(&mut input);
        let mut packets = Vec::new();
        while let Some(packet) = reader.read().map_err(|e| e.to_string())? {
            packets.push(match packet {
                Packet::Data(data) => Some(data.to_owned()),
                _ => None,
            });
        }
        Ok(packets)
    }

    #[test]
    fn special_packets_and_lines() {
        let mut input = &b"0006a\n0005b00040000000100020009ERR x"[..];
        let mut reader = PacketReader::new(&mut input);
        let mut next = || reader.read().unwrap().map(|packet| format!("{packet:?} {:?}", packet.line()));
        assert_eq!(next().unwrap(), format!("Data({:?}) Some({:?})", b"a\n", b"a"));
        assert_eq!(next().unwrap(), format!("Data({:?}) Some({:?})", b"b", b"b"));
        assert_eq!(next().unwrap(), "Data([]) Some([])");
        for special in ["Flush None", "Delimiter None", "ResponseEnd None"] {
            assert_eq!(next().unwrap(), special);
        }
        assert!(next().is_some());
        assert_eq!(next(), None);
    }

    #[test]
    fn garbled_and_cut_off_packets_are_errors() {
        for input in ["0003", "fff1", "ffff", "+00a", "-001", "00 6", "zzzz", "0x05", "00", "0006a", "HTTP/1.1"] {
            assert!(read_all(input.as_bytes()).is_err(), "{input}");
        }
        let largest = [b"fff0".to_vec(), vec![7; MAX_PAYLOAD_BYTES]].concat();
        assert_eq!(read_all(&largest).unwrap(), [Some(vec![7; MAX_PAYLOAD_BYTES])]);
    }

    #[test]
    fn the_writer_refuses_what_does_not_fit() {
        let mut out = Vec::new();
        let mut writer = PacketWriter::new(&mut out);
        assert!(writer.data(&vec![0; MAX_PAYLOAD_BYTES + 1]).is_err());
        writer.data(&vec![0; MAX_PAYLOAD_BYTES]).unwrap();
        writer.error(&"x".repeat(1 << 20)).unwrap();
        assert_eq!(out.len(), 2 * MAX_PACKET_BYTES);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_all(&input);
        }

        #[test]
        fn what_is_written_is_read(packets in proptest::collection::vec(
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..500)), 0..20)
        ) {
            let mut out = Vec::new();
            let mut writer = PacketWriter::new(&mut out);
            for packet in &packets {
                match packet {
                    Some(data) => writer.data(data).unwrap(),
                    None => writer.delimiter().unwrap(),
                }
            }
            prop_assert_eq!(read_all(&out).unwrap(), packets);
        }
    }
}
