//! pkt-lines (gitprotocol-common): four hexadecimal digits of length, themselves included, then data.

use std::io::{self, BufRead, Write};

use super::error::ProtocolError;

/// Bytes of the largest packet, its length included.
pub const MAX_PACKET_BYTES: usize = 65520;
/// Bytes of data in the largest packet.
pub const MAX_PAYLOAD_BYTES: usize = MAX_PACKET_BYTES - LENGTH_BYTES;
const LENGTH_BYTES: usize = 4;

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Data, a line break at its end included.
    Data(&'a [u8]),
    /// `0000`: the end of a message.
    Flush,
    /// `0001`: parts sections of a message (version 2).
    Delimiter,
    /// `0002`: the end of a response over a connection without state (version 2).
    ResponseEnd,
}

impl<'a> Packet<'a> {
    /// The data without the line break at its end; `None` for the packets without data.
    pub fn line(self) -> Option<&'a [u8]> {
        match self {
            Packet::Data(data) => Some(data.strip_suffix(b"\n").unwrap_or(data)),
            _ => None,
        }
    }
}

/// The front of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// So many bytes of data follow.
    Data(usize),
    /// See [`Packet::Flush`].
    Flush,
    /// See [`Packet::Delimiter`].
    Delimiter,
    /// See [`Packet::ResponseEnd`].
    ResponseEnd,
}

/// Reads packets. Keeps at most one of them in memory.
#[derive(Debug)]
pub struct PacketReader<R> {
    input: R,
    buffer: Vec<u8>,
}

impl<R: BufRead> PacketReader<R> {
    /// Starts reading.
    pub fn new(input: R) -> Self {
        PacketReader { input, buffer: Vec::new() }
    }

    /// The next packet; `None` where the input ends between packets.
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

    /// What the next packet is; its data, if it has any, are to be read with [`PacketReader::fill`].
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

    /// The next packet of a message that is not over.
    pub fn read_required(&mut self, missing: &'static str) -> Result<Packet<'_>, ProtocolError> {
        self.read()?.ok_or(ProtocolError::Truncated(missing))
    }

    /// Whether the input ends here. Waits for the peer's next byte.
    pub fn at_end(&mut self) -> Result<bool, ProtocolError> {
        loop {
            match self.input.fill_buf() {
                Ok(bytes) => return Ok(bytes.is_empty()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The input behind the last packet.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Reads data of the packet whose head was read last.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ProtocolError> {
        self.input.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ProtocolError::Truncated("the rest of a packet"),
            _ => ProtocolError::Io(error),
        })
    }
}

fn length(digits: [u8; LENGTH_BYTES]) -> Option<usize> {
    // `from_str_radix` would take a sign.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    usize::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
}

/// Writes packets. Buffers nothing.
#[derive(Debug)]
pub struct PacketWriter<W> {
    out: W,
}

impl<W: Write> PacketWriter<W> {
    /// Starts writing.
    pub fn new(out: W) -> Self {
        PacketWriter { out }
    }

    /// Writes one packet of data; more than [`MAX_PAYLOAD_BYTES`] are an error.
    pub fn data(&mut self, data: &[u8]) -> io::Result<()> {
        self.parts(&[data])
    }

    /// Writes one packet of data that lies in several pieces.
    pub fn parts(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes > MAX_PAYLOAD_BYTES {
            let reason = format!("{bytes} bytes do not fit into a packet");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        self.out.write_all(&length_digits(bytes))?;
        parts.iter().try_for_each(|part| self.out.write_all(part))
    }

    /// Writes a line and its line break.
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

    /// Writes a response-end packet.
    pub fn response_end(&mut self) -> io::Result<()> {
        self.out.write_all(b"0002")
    }

    /// Tells the peer about an error, without a line break as Git does; nothing may follow. Long messages are cut.
    pub fn error(&mut self, message: &str) -> io::Result<()> {
        let message = message.as_bytes();
        self.parts(&[b"ERR ", &message[..message.len().min(MAX_PAYLOAD_BYTES - 4)]])?;
        self.out.flush()
    }

    /// Flushes the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The output.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }
}

/// The four digits in front of so many bytes of data, at most [`MAX_PAYLOAD_BYTES`].
pub(crate) fn length_digits(data_bytes: usize) -> [u8; LENGTH_BYTES] {
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
