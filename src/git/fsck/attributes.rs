//! `.gitattributes`: lines that overflow Git's parser (CVE-2022-23521).

use gix::bstr::{BStr, ByteSlice};

use super::message::Message;

/// Length in bytes from which lines are refused: Git's `ATTR_MAX_LINE_LENGTH`.
const MAX_LINE_BYTES: usize = 2048;

/// Checks the content of a `.gitattributes`.
pub fn check(data: &[u8], report: &mut dyn FnMut(Message, Option<&BStr>)) {
    // Git reads the file as a C string, up to the first NUL.
    let text = &data[..data.find_byte(0).unwrap_or(data.len())];
    if text.split(|byte| *byte == b'\n').any(|line| line.len() >= MAX_LINE_BYTES) {
        report(Message::GitattributesLineLength, None);
    }
}
