//! `.gitattributes`: lines that overflow what reads them (CVE-2022-23521).

use gix::bstr::{BStr, ByteSlice};

use super::Message;

/// Longest line (Git's `ATTR_MAX_LINE_LENGTH`).
const MAX_LINE_BYTES: usize = 2048;

/// Checks a `.gitattributes`.
pub fn check(data: &[u8], report: &mut dyn FnMut(Message, Option<&BStr>)) {
    // Git reads it as a string, up to the first NUL.
    let text = &data[..data.find_byte(0).unwrap_or(data.len())];
    if text.split(|byte| *byte == b'\n').any(|line| line.len() >= MAX_LINE_BYTES) {
        report(Message::GitattributesLineLength, None);
    }
}
