//! Rules of multipart uploads, shared by all stores.

use super::{Crc64, PART_BYTES, Part};

/// Most parts of an upload (S3's limit), which limits an object to 78 GiB.
pub const MAX_PARTS: u32 = 10_000;

/// Validates a part: 1 to [`PART_BYTES`] bytes, number below [`MAX_PARTS`]. [`check_complete`] verifies that only the
/// last part is shorter.
pub fn check_part(number: u32, size: usize) -> Result<(), String> {
    if number >= MAX_PARTS {
        return Err(format!("part {number}: an upload has at most {MAX_PARTS} parts"));
    }
    match u64::try_from(size) {
        Ok(1..=PART_BYTES) => Ok(()),
        _ => Err(format!("part {number} has {size} bytes; 1 to {PART_BYTES} are allowed")),
    }
}

/// Offset in bytes of a part within the object.
pub fn offset(number: u32) -> u64 {
    u64::from(number) * PART_BYTES
}

/// Verifies that the parts, in order, make up an object of this size and checksum.
pub fn check_complete(parts: &[Part], size: u64, crc64: Crc64) -> Result<(), String> {
    if parts.len() as u64 > u64::from(MAX_PARTS) {
        return Err(format!("the upload has {} parts; {MAX_PARTS} are allowed", parts.len()));
    }
    let mut total = 0u64;
    let mut whole = Crc64::default();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        if u64::from(part.number) != index as u64 {
            return Err(format!("part {index} is missing (found part {} instead)", part.number));
        }
        if part.size == 0 || part.size > PART_BYTES || (!last && part.size < PART_BYTES) {
            return Err(format!("part {index} has {} bytes; all but the last must have {PART_BYTES}", part.size));
        }
        total = total.saturating_add(part.size);
        whole = whole.followed_by(part.crc64, part.size);
    }
    if total != size {
        return Err(format!("the parts have {total} bytes, not the announced {size}"));
    }
    if whole != crc64 {
        return Err(format!("the parts have the CRC-64/NVME {whole}, not the announced {crc64}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_parts_hold_at_completion_too() {
        let part = |number| Part { number, size: PART_BYTES, crc64: Crc64(0), tag: String::new() };
        let mut parts: Vec<Part> = (0..MAX_PARTS).map(part).collect();
        let size = offset(MAX_PARTS);
        let crc64 = parts.iter().fold(Crc64::default(), |whole, part| whole.followed_by(part.crc64, part.size));
        assert_eq!(check_complete(&parts, size, crc64), Ok(()));
        assert_eq!(check_part(MAX_PARTS - 1, 1), Ok(()));
        parts.push(part(MAX_PARTS));
        let error = check_complete(&parts, offset(MAX_PARTS + 1), crc64).unwrap_err();
        assert!(error.contains("10001 parts; 10000 are allowed"), "{error}");
        assert!(check_part(MAX_PARTS, 1).is_err());
    }
}
