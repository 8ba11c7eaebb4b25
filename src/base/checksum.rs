//! CRC-64/NVME, the full-object checksum of S3, for bytes and files.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use crc_fast::CrcAlgorithm;

/// Bytes of one read from a file.
const READ_BYTES: usize = 1024 * 1024;

/// CRC-64/NVME checksum, as S3 computes it over a full object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Crc64(pub u64);

impl fmt::Display for Crc64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for Crc64 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value = (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
        value.map(Crc64).ok_or_else(|| format!("`{text}` is not a CRC-64 in 16 hex digits"))
    }
}

impl fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crc64({self})")
    }
}

impl Crc64 {
    /// Checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Crc64(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes))
    }

    /// Checksum of these bytes followed by `size` bytes with the checksum `next`.
    #[must_use]
    pub fn followed_by(self, next: Crc64, size: u64) -> Self {
        Crc64(crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, self.0, next.0, size))
    }
}

/// Incremental hasher for a [`Crc64`].
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
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Checksum of all bytes so far.
    pub fn finish(self) -> Crc64 {
        Crc64(self.0.finalize())
    }
}

/// CRC-64/NVME of a local file. Blocks.
pub fn file_crc64(path: &Path) -> std::io::Result<Crc64> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Crc64Hasher::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
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
