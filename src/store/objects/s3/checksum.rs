//! Checksums in requests and answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::objects::Crc64;

/// Formats a checksum as S3 does: base64 of its eight bytes in big-endian order.
pub(super) fn to_base64(crc64: Crc64) -> String {
    BASE64.encode(crc64.0.to_be_bytes())
}

/// Parses a checksum of a whole object. Returns `None` for composite checksums and malformed text.
pub(super) fn from_base64(text: &str) -> Option<Crc64> {
    let bytes = BASE64.decode(text).ok()?;
    Some(Crc64(u64::from_be_bytes(bytes.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_written_as_s3_does() {
        // From the examples of `aws s3api put-object --checksum-algorithm CRC64NVME` with "123456789".
        let crc64 = Crc64::of(b"123456789");
        assert_eq!(to_base64(crc64), "rosUhgp5mIg=");
        assert_eq!(from_base64("rosUhgp5mIg="), Some(crc64));
        for bad in ["", "rosUhgp5mIg=-3", "AAAA", "?"] {
            assert_eq!(from_base64(bad), None, "{bad}");
        }
    }
}
