//! Packs made by hand.

use std::io::Write;

use gix::ObjectId;

/// Kinds of entries as packs number them.
pub const COMMIT: u8 = 1;
pub const TREE: u8 = 2;
pub const BLOB: u8 = 3;
pub const OFS_DELTA: u8 = 6;
pub const REF_DELTA: u8 = 7;

pub fn deflate(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

/// An entry; a delta has its base `between` size and data.
pub fn entry(kind: u8, size: usize, between: &[u8], data: &[u8]) -> Vec<u8> {
    let mut rest = size >> 4;
    let mut out = vec![(kind << 4) | (size & 15) as u8];
    while rest > 0 {
        *out.last_mut().unwrap() |= 0x80;
        out.push((rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.extend_from_slice(between);
    out.extend(deflate(data));
    out
}

/// An entry that is stored whole.
pub fn whole(kind: u8, data: &[u8]) -> Vec<u8> {
    entry(kind, data.len(), &[], data)
}

/// A pack that says it has so many objects.
pub fn pack_of(objects: u32, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut pack = [*b"PACK", 2u32.to_be_bytes(), objects.to_be_bytes()].concat();
    pack.extend(entries.concat());
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
    hasher.update(&pack);
    pack.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
    pack
}

/// A size in a delta.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// How far back the base of a delta by place is.
pub fn distance(distance: usize) -> Vec<u8> {
    let mut bytes = vec![(distance & 0x7f) as u8];
    let mut rest = distance >> 7;
    while rest > 0 {
        rest -= 1;
        bytes.insert(0, 0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    bytes
}

/// The id of an object.
pub fn id_of(kind: &str, data: &[u8]) -> ObjectId {
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
    hasher.update(format!("{kind} {}\0", data.len()).as_bytes());
    hasher.update(data);
    hasher.try_finalize().unwrap()
}
