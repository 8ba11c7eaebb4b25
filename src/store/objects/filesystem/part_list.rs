//! The list beside an upload's staging file: which parts are in it. Appended to, never synced.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use super::upload::Held;
use crate::objects::Crc64;
use crate::objects::parts::{self, MAX_PARTS};

const HEADER: &str = "gitferry upload 1 ";
/// `number size crc64` in hexadecimal; fixed, so that a torn line is recognised.
const LINE_BYTES: usize = 8 + 1 + 8 + 1 + 16 + 1;

/// The first line of the list of an upload of this key.
pub(super) fn header(key: &str) -> String {
    format!("{HEADER}{key}\n")
}

/// What is appended for a part. The newline before it closes a line that was torn.
pub(super) fn line(number: u32, size: u64, crc64: Crc64) -> String {
    format!("\n{number:08x} {size:08x} {:016x}\n", crc64.0)
}

/// The parts in a list, later lines over earlier ones; `None` if it is not the list of an upload of this
/// key. Lines that were torn by a power failure are skipped: their parts are sent again.
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
