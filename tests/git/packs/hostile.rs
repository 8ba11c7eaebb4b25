//! Packs and indices that lie.

use gitferry_base::Kind;
use gitferry_git::pack::{CheckOptions, Fault};
use gix::ObjectId;
use gix::hash::Kind as Format;

use crate::packs::support::{Repo, assemble, blob, blob_id, check, entry, index_of, seal};

fn options() -> CheckOptions {
    CheckOptions::new(Format::Sha1)
}

/// Checks a pack that Git refuses too, and returns what is said about it.
fn refused(name: &str, pack: &[u8]) -> Fault {
    let repo = Repo::new(Format::Sha1);
    let path = repo.path().join("hostile.pack");
    std::fs::write(&path, pack).unwrap();
    assert!(repo.index_pack(&path, &[]).is_none(), "Git accepts: {name}");
    let fault = check(&path, None, &options()).expect_err(name);
    assert_eq!(fault.kind(), Kind::Corrupt, "{name}: {fault}");
    fault
}

#[test]
fn lies_in_a_pack_are_found() {
    let ofs = |distance: u8, delta: &[u8]| entry(6, delta.len() as u64, &[distance], delta);
    let base = blob(b"some content");
    let distance = base.len() as u8;
    for (name, entries, reason) in [
        ("size too small", vec![entry(3, 3, b"", b"four")], "does not have the declared size"),
        ("size too large", vec![entry(3, 5, b"", b"four")], "shorter than it says"),
        ("absurd size", vec![entry(3, 1 << 50, b"", b"four")], "larger than its compressed data can be"),
        ("type 0", vec![entry(0, 4, b"", b"four")], "type 0"),
        ("type 5", vec![entry(5, 4, b"", b"four")], "type 5"),
        ("not zlib", vec![b"\x34garbage garbage".to_vec()], "compressed data is damaged"),
        ("base before the pack", vec![base.clone(), ofs(distance + 1, b"\x0c\x01\x01x")], "not an entry before it"),
        ("base is itself", vec![base.clone(), ofs(0, b"\x0c\x01\x01x")], "not an entry before it"),
        ("base inside an entry", vec![base.clone(), ofs(distance - 1, b"\x0c\x01\x01x")], "not an entry before it"),
        ("result is a lie", vec![base.clone(), ofs(distance, b"\x0c\x7f\x01x")], "makes less than it says"),
        ("bomb", vec![base.clone(), ofs(distance, b"\x0c\xff\xff\xff\xff\x01\x01x")], "makes less than it says"),
        ("overflow", vec![base.clone(), ofs(distance, b"\x0c\x01\x02xy")], "makes more than it says"),
        ("copy out of range", vec![base.clone(), ofs(distance, b"\x0c\x05\x91\x0b\x05")], "beyond its base"),
        ("base of another size", vec![base.clone(), ofs(distance, b"\x0d\x01\x01x")], "base of another size"),
        ("instruction 0", vec![base.clone(), ofs(distance, b"\x0c\x01\x00")], "does not exist"),
        ("empty delta", vec![base.clone(), ofs(distance, b"")], "cut off"),
    ] {
        let fault = refused(name, &assemble(&entries));
        assert!(fault.to_string().contains(reason), "{name}: {fault}");
    }
}

#[test]
fn a_delta_that_makes_gigabytes_from_nothing_hits_the_limit() {
    let delta = [&b"\x0c\x80\x80\x80\x80\x08"[..], &[0x90, 12]].concat();
    let base = blob(b"some content");
    let pack = assemble(&[base.clone(), entry(6, delta.len() as u64, &[base.len() as u8], &delta)]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pack");
    std::fs::write(&path, pack).unwrap();
    let fault = check(&path, None, &options()).unwrap_err();
    assert!(matches!(fault, Fault::TooLarge { size: 0x8000_0000, .. }), "{fault}");
}

#[test]
fn header_and_trailer_have_to_be_right() {
    let good = assemble(&[blob(b"one"), blob(b"two")]);
    let changed = |at: usize, bytes: &[u8]| {
        let mut content = good[..good.len() - 20].to_vec();
        content[at..at + bytes.len()].copy_from_slice(bytes);
        seal(content, Format::Sha1)
    };
    assert!(matches!(refused("signature", &changed(0, b"PAKC")), Fault::File(_)));
    assert!(matches!(refused("version", &changed(4, &4u32.to_be_bytes())), Fault::File(_)));
    assert!(matches!(refused("2^32-1 objects", &changed(8, &[255; 4])), Fault::File(_)));
    assert!(matches!(refused("one object less", &changed(8, &1u32.to_be_bytes())), Fault::File(_)));
    assert!(matches!(refused("no objects", &changed(8, &0u32.to_be_bytes())), Fault::File(_)));
    refused("one object more", &changed(8, &3u32.to_be_bytes()));
    refused("garbage at the end", &seal([&good[..good.len() - 20], b"garbage"].concat(), Format::Sha1));
    let mut wrong = good.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert!(matches!(refused("trailer", &wrong), Fault::Checksum { .. }));
}

#[test]
fn deltas_in_a_circle_are_unresolved_with_and_without_an_index_that_covers_for_them() {
    let (a, b) = (ObjectId::from_hex(&[b'a'; 40]).unwrap(), ObjectId::from_hex(&[b'b'; 40]).unwrap());
    let delta = |base: ObjectId| entry(7, 4, base.as_slice(), b"\x01\x01\x01x");
    let entries = [delta(b), delta(a), blob(b"x")];
    let pack = assemble(&entries);
    let fault = refused("circle", &pack);
    assert!(matches!(fault, Fault::MissingBase { offset: 12, base, count: 2, .. } if base == b), "{fault}");

    let mut offset = 12;
    let mut rows = Vec::new();
    for (id, entry) in [a, b, blob_id(b"x")].into_iter().zip(&entries) {
        rows.push((id, crc32fast::hash(entry), offset));
        offset += entry.len() as u32;
    }
    let dir = tempfile::tempdir().unwrap();
    let (path, hint) = (dir.path().join("a.pack"), dir.path().join("a.idx"));
    std::fs::write(&path, &pack).unwrap();
    std::fs::write(&hint, index_of(&pack, rows)).unwrap();
    assert!(matches!(check(&path, Some(&hint), &options()), Err(Fault::MissingBase { .. })));
}

#[test]
fn an_index_that_is_not_the_packs_is_refused() {
    let (one, two) = (blob(b"one"), blob(b"two two two"));
    let second = 12 + one.len() as u32;
    let crc = crc32fast::hash;
    let pack = assemble(&[one.clone(), two.clone()]);
    let (id1, id2) = (blob_id(b"one"), blob_id(b"two two two"));
    let dir = tempfile::tempdir().unwrap();
    let (path, hint) = (dir.path().join("a.pack"), dir.path().join("a.idx"));
    std::fs::write(&path, &pack).unwrap();
    let with = |index: Vec<u8>| {
        std::fs::write(&hint, index).unwrap();
        check(&path, Some(&hint), &options())
    };
    let good = vec![(id1, crc(&one), 12), (id2, crc(&two), second)];
    with(index_of(&pack, good.clone())).unwrap();
    let null = ObjectId::null(Format::Sha1);
    for (name, rows) in [
        ("ids swapped", vec![(id2, crc(&one), 12), (id1, crc(&two), second)]),
        ("an id that is not there", vec![(null, crc(&one), 12), (id2, crc(&two), second)]),
        ("wrong CRC", vec![(id1, crc(&one) ^ 1, 12), (id2, crc(&two), second)]),
        ("offset outside", vec![(id1, crc(&one), 12), (id2, crc(&two), 100_000)]),
        ("offset in the trailer", vec![(id1, crc(&one), 12), (id2, crc(&two), pack.len() as u32 - 20)]),
        ("large offset without a row", vec![(id1, crc(&one), 12), (id2, crc(&two), 0x8000_0000)]),
        ("same offset twice", vec![(id1, crc(&one), 12), (id2, crc(&two), 12)]),
        ("same id twice", vec![(id1, crc(&one), 12), (id1, crc(&one), second)]),
        ("one object less", vec![(id1, crc(&one), 12)]),
        ("one object more", [good.clone(), vec![(null, 0, 40)]].concat()),
        ("first entry not at 12", vec![(id1, crc(&one), 13), (id2, crc(&two), second)]),
    ] {
        let fault = with(index_of(&pack, rows)).expect_err(name);
        assert!(matches!(fault, Fault::Index(_)), "{name}: {fault}");
        assert!(fault.to_string().contains("index does not match pack"), "{name}: {fault}");
    }
    let other = assemble(&[two.clone(), one.clone()]);
    assert!(matches!(with(index_of(&other, good.clone())), Err(Fault::Index(_))));
    let shifted = vec![(id1, crc(&one), 12), (id2, crc(&two), second + 1)];
    assert!(with(index_of(&pack, shifted)).is_err());
    // An index can hide bytes between entries from those who trust it.
    let gap = [one.clone(), b"hidden".to_vec()].concat();
    let pack = seal([&assemble(&[gap.clone(), two.clone()])[..12 + gap.len() + two.len()]].concat(), Format::Sha1);
    std::fs::write(&path, &pack).unwrap();
    let rows = vec![(id1, crc(&gap), 12), (id2, crc(&two), 12 + gap.len() as u32)];
    std::fs::write(&hint, index_of(&pack, rows)).unwrap();
    let fault = check(&path, Some(&hint), &options()).unwrap_err();
    assert!(fault.to_string().contains("6 bytes between it and the next entry"), "{fault}");
}
