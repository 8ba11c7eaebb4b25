//! End of a pack, found in its bytes as they arrive. Keeps none of them.

use flate2::{Decompress, FlushDecompress, Status};
use gix::hash::Kind as Format;

use super::entries::HEADER_BYTES;

/// Bytes of the buffer into which entries are inflated.
const BUFFER_BYTES: usize = 64 << 10;
/// Most bits of the size of an entry.
const MAX_SIZE_BITS: u32 = 64;
/// Most bytes of the distance to the base of a delta.
const MAX_DISTANCE_BYTES: u32 = 10;

/// Kinds of entries in their first byte.
const COMMIT: u8 = 1;
const TAG: u8 = 4;
const OFFSET_DELTA: u8 = 6;
const REF_DELTA: u8 = 7;

/// Finds the end of a pack, in constant memory. Checks no more than that takes: a pack with an end may be damaged, and one
/// with an error has no end.
pub struct PackEnd {
    state: State,
    format: Format,
    /// Largest size that an entry may declare, in bytes.
    object_bytes: u64,
    /// Entries that have not begun.
    entries: u32,
    /// Size that the current entry declares.
    size: u64,
    inflate: Decompress,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for PackEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackEnd({:?}, {} entries left)", self.state, self.entries)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Within the header of the pack, after some of its bytes.
    Header {
        bytes: [u8; HEADER_BYTES],
        taken: usize,
    },
    /// At the first byte of an entry.
    Kind,
    /// Within the size of an entry of a kind, after some of its bits.
    Size {
        kind: u8,
        bits: u32,
    },
    /// Within the distance to the base of a delta, after some of its bytes.
    Distance {
        bytes: u32,
    },
    /// Within the id of the base of a delta, or the checksum of the pack.
    Id {
        left: usize,
        is_checksum: bool,
    },
    /// Within the compressed data of an entry.
    Data,
    Ended,
}

impl PackEnd {
    /// At the first byte of a pack whose ids have this format, and whose entries inflate to `object_bytes` at most each.
    pub fn new(format: Format, object_bytes: u64) -> Self {
        PackEnd {
            state: State::Header { bytes: [0; HEADER_BYTES], taken: 0 },
            format,
            object_bytes,
            entries: 0,
            size: 0,
            inflate: Decompress::new(true),
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Takes the next bytes. Returns how many of them belong to the pack, once it ends with them; `None` if all of them do
    /// and more follow.
    ///
    /// # Errors
    /// The bytes are no pack, so that its end cannot be found. The reason is for the log.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<usize>, &'static str> {
        let mut rest = bytes;
        loop {
            if self.state == State::Ended {
                return Ok(Some(bytes.len() - rest.len()));
            }
            if rest.is_empty() {
                return Ok(None);
            }
            let taken = self.step(rest)?;
            rest = &rest[taken..];
        }
    }

    /// Takes some of the bytes, at least one of which there is.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        match self.state {
            State::Header { bytes: header, taken } => self.header(header, taken, bytes),
            State::Kind => {
                self.size = u64::from(bytes[0] & 15);
                self.size_byte(bytes[0], (bytes[0] >> 4) & 7, 4)
            }
            State::Size { kind, bits } => {
                let value = u64::from(bytes[0] & 127);
                if bits >= MAX_SIZE_BITS || (value << bits) >> bits != value {
                    return Err("the size of an entry is too large");
                }
                self.size |= value << bits;
                self.size_byte(bytes[0], kind, bits + 7)
            }
            State::Distance { bytes: MAX_DISTANCE_BYTES } => Err("the distance to a base is too large"),
            State::Distance { bytes: before } => {
                if bytes[0] & 128 != 0 {
                    self.state = State::Distance { bytes: before + 1 };
                } else {
                    self.begin_data();
                }
                Ok(1)
            }
            State::Id { left, is_checksum } => {
                let taken = left.min(bytes.len());
                match (left - taken, is_checksum) {
                    (0, true) => self.state = State::Ended,
                    (0, false) => self.begin_data(),
                    (left, _) => self.state = State::Id { left, is_checksum },
                }
                Ok(taken)
            }
            State::Data => self.data(bytes),
            State::Ended => Ok(0),
        }
    }

    fn header(&mut self, mut header: [u8; HEADER_BYTES], before: usize, bytes: &[u8]) -> Result<usize, &'static str> {
        let taken = (HEADER_BYTES - before).min(bytes.len());
        header[before..before + taken].copy_from_slice(&bytes[..taken]);
        if before + taken < HEADER_BYTES {
            self.state = State::Header { bytes: header, taken: before + taken };
            return Ok(taken);
        }
        let [b'P', b'A', b'C', b'K', 0, 0, 0, 2 | 3, a, b, c, d] = header else {
            return Err("it does not begin as a pack of version 2 or 3");
        };
        self.entries = u32::from_be_bytes([a, b, c, d]);
        self.next_entry();
        Ok(taken)
    }

    /// Goes on after a byte of the size of an entry.
    fn size_byte(&mut self, byte: u8, kind: u8, bits: u32) -> Result<usize, &'static str> {
        if byte & 128 != 0 {
            self.state = State::Size { kind, bits };
            return Ok(1);
        }
        if self.size > self.object_bytes {
            return Err("an entry is larger than the limit");
        }
        match kind {
            COMMIT..=TAG => self.begin_data(),
            OFFSET_DELTA => self.state = State::Distance { bytes: 0 },
            REF_DELTA => self.state = State::Id { left: self.format.len_in_bytes(), is_checksum: false },
            _ => return Err("an entry has no known kind"),
        }
        Ok(1)
    }

    fn begin_data(&mut self) {
        self.inflate.reset(true);
        self.state = State::Data;
    }

    fn next_entry(&mut self) {
        self.state = match self.entries.checked_sub(1) {
            Some(left) => {
                self.entries = left;
                State::Kind
            }
            None => State::Id { left: self.format.len_in_bytes(), is_checksum: true },
        };
    }

    /// Inflates the data of an entry as far as it is there.
    fn data(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut taken = 0;
        loop {
            let (read, made) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(&bytes[taken..], &mut self.buffer, FlushDecompress::None);
            let status = status.map_err(|_| "the compressed data of an entry is damaged")?;
            // At most the length of `bytes`.
            let read = (self.inflate.total_in() - read) as usize;
            let made = self.inflate.total_out() - made;
            taken += read;
            if self.inflate.total_out() > self.size {
                return Err("an entry is longer than it says");
            }
            match status {
                Status::StreamEnd if self.inflate.total_out() < self.size => {
                    return Err("an entry is shorter than it says");
                }
                Status::StreamEnd => {
                    self.next_entry();
                    return Ok(taken);
                }
                _ if made > 0 || (read > 0 && taken < bytes.len()) => {}
                _ if taken == bytes.len() => return Ok(taken),
                _ => return Err("the compressed data of an entry goes on without end"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::{ArrivalLimits, CheckProgress, arrive};
    use gix::ObjectId;
    use gix::odb::pack::data::entry::Header;
    use proptest::prelude::*;
    use std::io::Write as _;

    const OBJECT_BYTES: u64 = 1 << 20;

    fn deflate(data: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(data).unwrap();
        out.finish().unwrap()
    }

    /// A pack of entries of all kinds, with content of these sizes. Deltas have no meaning.
    fn pack(format: Format, sizes: &[usize]) -> Vec<u8> {
        let mut file = [*b"PACK", 2u32.to_be_bytes(), (sizes.len() as u32).to_be_bytes()].concat();
        for (number, size) in sizes.iter().enumerate() {
            let content: Vec<u8> = (0..*size).map(|at| (at * at / 7 + number) as u8).collect();
            let header = match number % 3 {
                0 => Header::Blob,
                1 => Header::OfsDelta { base_distance: (number as u64).pow(12) + 1 },
                _ => Header::RefDelta { base_id: ObjectId::null(format) },
            };
            header.write_to(content.len() as u64, &mut file).unwrap();
            file.extend(deflate(&content));
        }
        seal(&mut file, format);
        file
    }

    /// Appends the checksum.
    fn seal(file: &mut Vec<u8>, format: Format) {
        let mut hasher = gix::hash::hasher(format);
        hasher.update(file);
        file.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
    }

    /// Number of bytes up to the end, in pieces; `None` if there is no end.
    fn end_of(bytes: &[u8], format: Format, piece: usize) -> Result<Option<usize>, &'static str> {
        let mut end = PackEnd::new(format, OBJECT_BYTES);
        let mut before = 0;
        for piece in bytes.chunks(piece) {
            if let Some(last) = end.feed(piece)? {
                return Ok(Some(before + last));
            }
            before += piece.len();
        }
        Ok(None)
    }

    proptest! {
        #[test]
        fn the_end_is_found_in_pieces_of_any_size(
            sizes in proptest::collection::vec(0..9000usize, 0..8), piece in 1..3000usize, sha256 in any::<bool>(),
            behind in proptest::collection::vec(any::<u8>(), 0..50)
        ) {
            let format = if sha256 { Format::Sha256 } else { Format::Sha1 };
            let mut pack = pack(format, &sizes);
            let length = pack.len();
            prop_assert_eq!(end_of(&pack[..length - 1], format, piece), Ok(None));
            pack.extend(behind);
            prop_assert_eq!(end_of(&pack, format, piece), Ok(Some(length)));
        }

        /// Where the receiver of a pack finds its end, the end is found here; a byte may be another one.
        #[test]
        fn the_end_is_where_the_receiver_finds_it(
            sizes in proptest::collection::vec(0..900usize, 0..5), at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let mut pack = pack(Format::Sha1, &sizes);
            let length = pack.len();
            pack.truncate(length - 20);
            let at = at.index(pack.len());
            pack[at] = byte;
            seal(&mut pack, Format::Sha1);
            let limits = ArrivalLimits { pack_bytes: 1 << 20, object_bytes: 1 << 20 };
            let arrived = arrive(&mut &pack[..], Format::Sha1, limits, &mut Vec::new(), &CheckProgress::default());
            let found = end_of(&pack, Format::Sha1, 100);
            if arrived.is_ok() {
                prop_assert_eq!(found, Ok(Some(length)));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), entries in 0..4u32) {
            let pack = [&b"PACK\0\0\0\x02"[..], &entries.to_be_bytes(), &bytes].concat();
            let _ = end_of(&pack, Format::Sha1, 7);
            let _ = end_of(&bytes, Format::Sha256, 7);
        }
    }

    #[test]
    fn what_is_no_pack_has_no_end() {
        let with = |entry: &[u8]| [&b"PACK\0\0\0\x02\0\0\0\x01"[..], entry, &[0; 200]].concat();
        let blob = |size: u8, content: &[u8]| [vec![0x30 | size], deflate(content)].concat();
        assert_eq!(end_of(&with(&blob(3, b"abc")), Format::Sha1, 9), Ok(Some(12 + blob(3, b"abc").len() + 20)));
        for (entry, reason) in [
            (blob(2, b"abc"), "longer"),
            (blob(4, b"abc"), "shorter"),
            (vec![0x31, 1, 2, 3], "damaged"),
            (vec![0x50], "no known kind"),
            (vec![0x00], "no known kind"),
            (vec![0xb0; 40], "too large"),
            // 16 MiB.
            (vec![0xb0, 0x80, 0x80, 0x40], "limit"),
            (vec![0x60, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255], "distance"),
        ] {
            let found = end_of(&with(&entry), Format::Sha1, 64);
            assert!(found.is_err_and(|found| found.contains(reason)), "{reason}: {found:?}");
        }
        assert!(end_of(b"PACK\0\0\0\x04\0\0\0\0", Format::Sha1, 64).is_err());
        assert!(end_of(b"0000 not a pack", Format::Sha1, 1).is_err());
        // A small pack that inflates to a lot.
        let bomb = deflate(&vec![0; 64 << 20]);
        assert!(end_of(&with(&[&[0x3f][..], &bomb].concat()), Format::Sha1, 1 << 20).is_err());
    }
}
