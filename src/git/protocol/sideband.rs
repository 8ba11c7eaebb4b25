//! Side-bands (gitprotocol-pack): multiplexes data, progress and errors; the first byte of a packet names its band.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::pkt_line::{MAX_PACKET_BYTES, length_digits};

/// Size of the largest packet for `side-band` in bytes, including the length digits.
const SMALL_PACKET_BYTES: usize = 1000;
/// Size of a packet's header in bytes: length digits and band.
const HEADER_BYTES: usize = 5;
/// Minimum interval between two progress messages.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Interval between keepalive packets to clients that want no progress: Git's default of `uploadpack.keepAlive`.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Number of a band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Band {
    /// Payload.
    Data = 1,
    /// Text for the user of the client.
    Progress = 2,
    /// Fatal error; nothing follows.
    Error = 3,
}

/// Writes data on band 1, buffered into large packets, and messages in between.
#[derive(Debug)]
pub struct Sideband<W> {
    out: W,
    /// Buffered packet of band 1, including its header.
    packet: Vec<u8>,
    packet_bytes: usize,
}

impl<W: Write> Sideband<W> {
    /// `side-band-64k`: packets of up to 65520 bytes.
    pub fn large(out: W) -> Self {
        Self::with_packets_of(out, MAX_PACKET_BYTES)
    }

    /// `side-band`: packets of up to 1000 bytes.
    pub fn small(out: W) -> Self {
        Self::with_packets_of(out, SMALL_PACKET_BYTES)
    }

    fn with_packets_of(out: W, packet_bytes: usize) -> Self {
        let mut packet = Vec::with_capacity(packet_bytes);
        packet.resize(HEADER_BYTES, 0);
        Sideband { out, packet, packet_bytes }
    }

    /// Flushes buffered data, then sends a message in as many packets as necessary.
    pub fn message(&mut self, band: Band, text: &[u8]) -> io::Result<()> {
        self.flush()?;
        for piece in text.chunks(self.packet_bytes - HEADER_BYTES) {
            self.out.write_all(&length_digits(piece.len() + 1))?;
            self.out.write_all(&[band as u8])?;
            self.out.write_all(piece)?;
        }
        self.out.flush()
    }

    /// Sends an empty packet of data, so that neither the client nor a proxy considers the connection dead.
    pub fn keep_alive(&mut self) -> io::Result<()> {
        self.flush()?;
        self.out.write_all(b"0005\x01")?;
        self.out.flush()
    }

    /// Flushes buffered data and returns the output. The caller sends the flush packet.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }
}

/// Writes to band 1.
impl<W: Write> Write for Sideband<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.packet.len() == self.packet_bytes {
            self.send()?;
        }
        let taken = data.len().min(self.packet_bytes - self.packet.len());
        self.packet.extend_from_slice(&data[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()?;
        self.out.flush()
    }
}

impl<W: Write> Sideband<W> {
    fn send(&mut self) -> io::Result<()> {
        let data = self.packet.len() - HEADER_BYTES;
        if data > 0 {
            self.packet[..4].copy_from_slice(&length_digits(data + 1));
            self.packet[4] = Band::Data as u8;
            self.out.write_all(&self.packet)?;
            self.packet.truncate(HEADER_BYTES);
        }
        Ok(())
    }
}

/// Rate-limited progress messages in the format of Git: `<task>: <count>[, done].`
#[derive(Debug)]
pub struct Progress {
    task: &'static str,
    total: Option<u64>,
    last_message: Instant,
}

impl Progress {
    /// Starts a task; `total` is its final count, if known.
    pub fn new(task: &'static str, total: Option<u64>) -> Self {
        Progress { task, total, last_message: Instant::now() }
    }

    /// Sends the count if the interval has passed. With `quiet`, sends a keepalive packet instead.
    pub fn update<W: Write>(&mut self, count: u64, quiet: bool, out: &mut Sideband<W>) -> io::Result<()> {
        if self.last_message.elapsed() < if quiet { KEEPALIVE_INTERVAL } else { PROGRESS_INTERVAL } {
            return Ok(());
        }
        self.last_message = Instant::now();
        if quiet {
            return out.keep_alive();
        }
        out.message(Band::Progress, format!("{}\r", self.text(count)).as_bytes())
    }

    /// Sends the final count, unless `quiet`.
    pub fn done<W: Write>(&mut self, count: u64, quiet: bool, out: &mut Sideband<W>) -> io::Result<()> {
        if quiet {
            return Ok(());
        }
        out.message(Band::Progress, format!("{}, done.\n", self.text(count)).as_bytes())
    }

    fn text(&self, count: u64) -> String {
        match self.total {
            Some(total) => {
                let percent = (u128::from(count) * 100).checked_div(total.into()).unwrap_or(100);
                format!("{}: {percent:3}% ({count}/{total})", self.task)
            }
            None => format!("{}: {count}", self.task),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Packet, PacketReader};
    use super::*;
    use proptest::prelude::*;

    fn bands(mut input: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut reader = PacketReader::new(&mut input);
        let mut all = Vec::new();
        while let Some(packet) = reader.read().unwrap() {
            let Packet::Data(data) = packet else { panic!("{packet:?}") };
            all.push((data[0], data[1..].to_owned()));
        }
        all
    }

    #[test]
    fn messages_keep_their_place_between_data() {
        let mut out = Sideband::large(Vec::new());
        out.write_all(b"PA").unwrap();
        out.message(Band::Progress, b"half\n").unwrap();
        out.write_all(b"CK").unwrap();
        out.keep_alive().unwrap();
        out.message(Band::Error, b"oh\n").unwrap();
        let expected: [(u8, &[u8]); 5] = [(1, b"PA"), (2, b"half\n"), (1, b"CK"), (1, b""), (3, b"oh\n")];
        assert_eq!(bands(&out.finish().unwrap()), expected.map(|(band, data)| (band, data.to_owned())));
    }

    #[test]
    fn progress_counts() {
        assert_eq!(Progress::new("Counting objects", Some(200)).text(50), "Counting objects:  25% (50/200)");
        assert_eq!(Progress::new("Counting objects", Some(0)).text(0), "Counting objects: 100% (0/0)");
        assert_eq!(Progress::new("Enumerating objects", None).text(7), "Enumerating objects: 7");
    }

    proptest! {
        #[test]
        fn data_arrives_whole_in_packets_of_the_allowed_size(
            pieces in proptest::collection::vec(0..5000usize, 0..30), small in any::<bool>()
        ) {
            let mut out = if small { Sideband::small(Vec::new()) } else { Sideband::large(Vec::new()) };
            let mut all = Vec::new();
            for (number, bytes) in pieces.into_iter().enumerate() {
                let piece = vec![number as u8; bytes];
                out.write_all(&piece).unwrap();
                all.extend(piece);
            }
            let bands = bands(&out.finish().unwrap());
            let limit = if small { 995 } else { 65515 };
            prop_assert!(bands.iter().all(|(band, data)| *band == 1 && !data.is_empty() && data.len() <= limit));
            prop_assert_eq!(bands.into_iter().flat_map(|(_, data)| data).collect::<Vec<_>>(), all);
        }
    }
}
