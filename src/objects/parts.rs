//! Checksums and the rules of uploads in parts, in one place so that all stores keep the same.

use crc_fast::CrcAlgorithm;

use super::{Crc64, PART_BYTES, Part};

/// Most parts of an upload (S3's limit), so that an object has at most 78 GiB.
pub const MAX_PARTS: u32 = 10_000;

impl Crc64 {
    /// Of some bytes, at once.
    pub fn of(bytes: &[u8]) -> Self {
        Crc64(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes))
    }

    /// Of these bytes followed by `size` more that have the checksum `next`.
    #[must_use]
    pub fn followed_by(self, next: Crc64, size: u64) -> Self {
        Crc64(crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, self.0, next.0, size))
    }
}

/// Computes a [`Crc64`] piece by piece.
pub struct Crc64Hasher(crc_fast::Digest);

impl std::fmt::Debug for Crc64Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crc64Hasher({:016x})", self.0.clone().finalize())
    }
}

impl Default for Crc64Hasher {
    fn default() -> Self {
        Crc64Hasher(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme))
    }
}

impl Crc64Hasher {
    /// Takes more bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub fn finish(self) -> Crc64 {
        Crc64(self.0.finalize())
    }
}

/// Whether a part may be stored: 1 to [`PART_BYTES`] bytes, number below [`MAX_PARTS`]. That only the last
/// one is shorter cannot be known before [`check_complete`].
pub fn check_part(number: u32, size: usize) -> Result<(), String> {
    if number >= MAX_PARTS {
        return Err(format!("part {number}: an upload has at most {MAX_PARTS} parts"));
    }
    match u64::try_from(size) {
        Ok(1..=PART_BYTES) => Ok(()),
        _ => Err(format!("part {number} has {size} bytes; 1 to {PART_BYTES} are possible")),
    }
}

/// Where a part begins.
pub fn offset(number: u32) -> u64 {
    u64::from(number) * PART_BYTES
}

/// Whether parts are, in their order, all of an object of this size and checksum.
pub fn check_complete(parts: &[Part], size: u64, crc64: Crc64) -> Result<(), String> {
    let mut total = 0u64;
    let mut whole = Crc64::default();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        if u64::from(part.number) != index as u64 {
            return Err(format!("part {index} is missing (part {} is in its place)", part.number));
        }
        if part.size == 0 || part.size > PART_BYTES || (!last && part.size < PART_BYTES) {
            return Err(format!("part {index} has {} bytes; all but the last have {PART_BYTES}", part.size));
        }
        total = total.saturating_add(part.size);
        whole = whole.followed_by(part.crc64, part.size);
    }
    if total != size {
        return Err(format!("its parts have {total} bytes; {size} were announced"));
    }
    if whole != crc64 {
        return Err(format!("its parts have the CRC-64/NVME {whole}; {crc64} was announced"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_value_and_combination() {
        // The check value of CRC-64/NVME, from the NVM Express NVM Command Set Specification.
        assert_eq!(Crc64::of(b"123456789"), Crc64(0xae8b_1486_0a79_9888));
        assert_eq!(Crc64::of(b""), Crc64::default());
        let whole: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
        for cut in [0, 1, 4_096, 99_999, 100_000] {
            let (a, b) = whole.split_at(cut);
            assert_eq!(Crc64::of(a).followed_by(Crc64::of(b), b.len() as u64), Crc64::of(&whole));
            let mut hasher = Crc64Hasher::default();
            hasher.update(a);
            hasher.update(b);
            assert_eq!(hasher.finish(), Crc64::of(&whole));
        }
    }
}
