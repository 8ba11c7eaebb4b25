//! Side-bands (gitprotocol-pack): packets whose first byte says what the rest is.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::pkt_line::{MAX_PACKET_BYTES, length_digits};

/// Bytes of a packet for clients that know `side-band` only, its length included.
const SMALL_PACKET_BYTES: usize = 1000;
/// Bytes in front of a packet's data: length and band.
const FRONT_BYTES: usize = 5;
/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// A client that wants no progress gets a sign of life this often, as Git's `uploadpack.keepAlive`.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(5);

/// Which band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Band {
    /// The data itself.
    Data = 1,
    /// Text for the person at the other end.
    Progress = 2,
    /// An error; nothing follows.
    Error = 3,
}

/// Writes data in band 1, collected into large packets, with messages between them.
#[derive(Debug)]
pub struct Sideband<W> {
    out: W,
    /// A packet of band 1 that is being filled, its front included.
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
        packet.resize(FRONT_BYTES, 0);
        Sideband { out, packet, packet_bytes }
    }

    /// Sends text or an error, behind all data so far, in as many packets as it needs.
    pub fn message(&mut self, band: Band, text: &[u8]) -> io::Result<()> {
        self.flush()?;
        for piece in text.chunks(self.packet_bytes - FRONT_BYTES) {
            self.out.write_all(&length_digits(piece.len() + 1))?;
            self.out.write_all(&[band as u8])?;
            self.out.write_all(piece)?;
        }
        self.out.flush()
    }

    /// Sends an empty packet of data, so that the connection is not taken for dead.
    pub fn sign_of_life(&mut self) -> io::Result<()> {
        self.flush()?;
        self.out.write_all(b"0005\x01")?;
        self.out.flush()
    }

    /// Sends what is left and gives the output back. A flush packet is the caller's to send.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }
}

/// Band 1.
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
        let data = self.packet.len() - FRONT_BYTES;
        if data > 0 {
            self.packet[..4].copy_from_slice(&length_digits(data + 1));
            self.packet[4] = Band::Data as u8;
            self.out.write_all(&self.packet)?;
            self.packet.truncate(FRONT_BYTES);
        }
        Ok(())
    }
}

/// Tells how a task goes, not too often: `<task>: <count>[, done].` as Git's own progress.
#[derive(Debug)]
pub struct Progress {
    task: &'static str,
    total: Option<u64>,
    told: Instant,
}

impl Progress {
    /// A task, with the count that it ends at if that is known.
    pub fn new(task: &'static str, total: Option<u64>) -> Self {
        Progress { task, total, told: Instant::now() }
    }

    /// Tells the count if it is time. With `quiet` only a sign of life is sent now and then.
    pub fn update<W: Write>(&mut self, count: u64, quiet: bool, out: &mut Sideband<W>) -> io::Result<()> {
        if self.told.elapsed() < if quiet { SIGN_OF_LIFE_EVERY } else { PROGRESS_EVERY } {
            return Ok(());
        }
        self.told = Instant::now();
        if quiet {
            return out.sign_of_life();
        }
        out.message(Band::Progress, format!("{}\r", self.text(count)).as_bytes())
    }

    /// Tells the last count.
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
        out.sign_of_life().unwrap();
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
