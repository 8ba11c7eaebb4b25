//! List of the parts in an upload's staging file, in a file of its own that is appended to and never synced.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use crate::objects::Crc64;
use crate::objects::parts::{self, MAX_PARTS};

const HEADER: &str = "gitferry upload 1 ";
/// Length of a line: `number size crc64` in hexadecimal. The length is fixed, so that a torn line is recognised.
const LINE_BYTES: usize = 8 + 1 + 8 + 1 + 16 + 1;

/// A part of an open upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub size: u64,
    pub crc64: Crc64,
    /// True if this handle has written or read back the part; otherwise only the list names it.
    pub verified: bool,
}

/// Formats the first line of a list.
pub(super) fn header(key: &str) -> String {
    format!("{HEADER}{key}\n")
}

/// Formats the line of a part. The leading newline terminates a torn line.
pub(super) fn line(number: u32, size: u64, crc64: Crc64) -> String {
    format!("\n{number:08x} {size:08x} {:016x}\n", crc64.0)
}

/// Reads the parts of a list; later lines replace earlier ones. Returns `None` if the list belongs to another key.
/// Lines torn by a power failure are skipped, so that their parts are sent again.
pub(super) fn read(list: &File, key: &str) -> io::Result<Option<BTreeMap<u32, Held>>> {
    let mut lines = BufReader::new(list).split(b'\n');
    let header = lines.next().transpose()?.unwrap_or_default();
    if header.strip_prefix(HEADER.as_bytes()) != Some(key.as_bytes()) {
        return Ok(None);
    }
    let mut held = BTreeMap::new();
    for line in lines {
        if let Some((number, part)) = parse_line(&line?) {
            held.insert(number, part);
        }
    }
    Ok(Some(held))
}

fn parse_line(line: &[u8]) -> Option<(u32, Held)> {
    let line = std::str::from_utf8(line).ok().filter(|line| line.len() + 1 == LINE_BYTES)?;
    let mut fields = line.split(' ');
    let number = u32::from_str_radix(fields.next()?, 16).ok().filter(|number| *number < MAX_PARTS)?;
    let size = usize::from_str_radix(fields.next()?, 16).ok()?;
    let crc64 = Crc64(u64::from_str_radix(fields.next()?, 16).ok()?);
    parts::check_part(number, size).ok()?;
    Some((number, Held { size: size as u64, crc64, verified: false }))
}
