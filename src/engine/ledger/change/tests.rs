//! Exact bytes: a written change is read again, and nothing else is a change.

mod format_3;

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::ledger::hash::Lattice;
use crate::ledger::metadata::MetadataEdit;

/// A header with every line, and two edits.
const EXAMPLE: &str = "gitferry-change 2
epoch 1 us-east-1
seq 7
prev 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
time 1764000000123
actor import:/srv/git/linux.git
name linux
format sha1
state active
head ref:refs/heads/main 1111111111111111111111111111111111111111
pack 1234567890abcdef1234567890abcdef12345678 100 3 00000000000000ff 200 0123456789abcdef closed
lfs 1111111111111111111111111111111111111111111111111111111111111111 5 00000000000000fe
lfs 4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393 123456789012 0123456789abcdef
digest lt1-aabbccddeeff0011aabbccddeeff0011aabbccddeeff0011aabbccddeeff0011
edits 2
- 1111111111111111111111111111111111111111 refs/heads/main
2222222222222222222222222222222222222222 - refs/tags/v1
";

type Read = (ChangeHeader, Vec<RefEdit>, ChangeHash);

fn read(bytes: &[u8]) -> Result<Read, ChangeError> {
    let mut reader = ChangeReader::new(bytes)?;
    let mut edits = Vec::new();
    while let Some(edit) = reader.next_edit()? {
        edits.push(edit);
    }
    let (header, hash, size) = reader.finish()?;
    assert_eq!(size, bytes.len() as u64);
    Ok((header, edits, hash))
}

fn bytes_of(sealed: &SealedChange) -> Vec<u8> {
    match &sealed.body {
        ChangeBody::Inline(bytes) => bytes.to_vec(),
        ChangeBody::Spooled(path) => std::fs::read(path).unwrap(),
    }
}

fn seal(header: ChangeHeader, edits: &[RefEdit]) -> SealedChange {
    let mut spool = EditSpool::new(std::env::temp_dir());
    edits.iter().for_each(|edit| spool.push(edit).unwrap());
    spool.seal(header, Lattice::default()).unwrap()
}

prop_compose! {
    fn object_id()(bytes in any::<[u8; 20]>()) -> gix::ObjectId {
        gix::ObjectId::from_bytes_or_panic(&bytes)
    }
}

fn ref_name() -> impl Strategy<Value = RefName> {
    let ascii = "refs/(heads|tags|notes)/[a-zA-Z0-9_+-]{1,12}(/[a-z0-9]{1,6}){0,3}".prop_map(|name| name.into_bytes());
    let raw = vec(0x80u8..=0xff, 1..6).prop_map(|tail| [b"refs/heads/".to_vec(), tail].concat());
    prop_oneof![4 => ascii, 1 => raw].prop_map(|name| RefName::new(name).unwrap())
}

fn value() -> impl Strategy<Value = RefValue> {
    let object = object_id().prop_filter("names an object", |id| !id.is_null()).prop_map(RefValue::Object);
    prop_oneof![4 => object, 1 => ref_name().prop_map(RefValue::Symbolic)]
}

fn edits() -> impl Strategy<Value = Vec<RefEdit>> {
    let values = (proptest::option::of(value()), proptest::option::of(value()));
    btree_map(ref_name(), values, 0..12).prop_map(|edits: BTreeMap<_, _>| {
        let edits = edits.into_iter().map(|(name, (old, new))| RefEdit { name, old, new });
        edits.filter(|edit| edit.old != edit.new).collect()
    })
}

fn pack() -> impl Strategy<Value = ChangePack> {
    (object_id(), any::<(u64, u32, u64)>(), any::<(u64, u64, bool)>()).prop_map(|(id, size, index)| ChangePack {
        id,
        bytes: size.0,
        objects: size.1,
        crc64: Crc64(size.2),
        index_bytes: index.0,
        index_crc64: Crc64(index.1),
        closed: index.2,
    })
}

fn lfs() -> impl Strategy<Value = Vec<LfsObject>> {
    btree_map(any::<[u8; 32]>(), any::<(u64, u64)>(), 0..4).prop_map(|objects: BTreeMap<_, _>| {
        let object = |(oid, (size, crc64))| LfsObject { oid: LfsOid(oid), size, crc64: Crc64(crc64) };
        objects.into_iter().map(object).collect()
    })
}

fn metadata() -> impl Strategy<Value = MetadataEdit> {
    let tags = btree_map("\\PC{1,9}", proptest::option::of("[^x]{0,9}"), 0..4);
    (proptest::option::weighted(0.3, "[^x]{0,30}"), tags)
        .prop_map(|(description, tags)| MetadataEdit { description, tags })
}

fn header() -> impl Strategy<Value = ChangeHeader> {
    let who = ("[a-z][a-z0-9-]{0,12}", "[^\\p{C}]{0,40}", proptest::option::of("[a-z]{1,9}(/[a-z]{1,9})?"));
    let kinds = prop_oneof![Just(None), Just(Some(gix::hash::Kind::Sha1)), Just(Some(gix::hash::Kind::Sha256))];
    let states = prop_oneof![Just(None), Just(Some(State::Active)), Just(Some(State::Deleted))];
    let head = proptest::option::of((proptest::option::of(value()), value()));
    let parts = (metadata(), vec(pack(), 0..4), lfs());
    let numbers = (any::<u64>(), any::<u64>(), any::<[u8; 32]>(), -10_000_000_000_000i64..100_000_000_000_000);
    (who, kinds, states, head, numbers, parts).prop_map(
        |(who, format, state, head, numbers, (metadata, packs, lfs))| ChangeHeader {
            epoch: numbers.0,
            region: who.0,
            seq: numbers.1,
            prev: ChangeHash(numbers.2),
            time: Timestamp::from_millisecond(numbers.3).unwrap(),
            actor: clean_actor(&who.1),
            name: who.2,
            format,
            state,
            head: head.map(|(old, new)| HeadEdit { old, new }),
            metadata,
            packs,
            lfs,
            digest: RefsDigest::default(),
            edits: 0,
        },
    )
}

/// Bytes near a change: cut off, with a byte replaced, with a line doubled, moved or left out.
fn near_a_change() -> impl Strategy<Value = Vec<u8>> {
    (header(), edits(), 0..5u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(header, edits, how, at, other, byte)| {
            let mut bytes = bytes_of(&seal(header, &edits));
            let (at_byte, lines) = (at.index(bytes.len()), bytes.split_inclusive(|b| *b == b'\n').count());
            let mut text: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            match how {
                0 => bytes.truncate(at_byte),
                1 => bytes[at_byte] = byte,
                2 => {
                    text.insert(at.index(lines), text[other.index(lines)].clone());
                    bytes = text.concat();
                }
                3 => {
                    text.swap(at.index(lines), other.index(lines));
                    bytes = text.concat();
                }
                _ => {
                    text.remove(at.index(lines));
                    bytes = text.concat();
                }
            }
            bytes
        },
    )
}

/// A readable change has exactly one spelling: the bytes from which it was read.
fn check_one_spelling(bytes: &[u8]) {
    let Ok((header, edits, hash)) = read(bytes) else { return };
    assert_eq!(hash.0, <[u8; 32]>::from(Sha256::digest(bytes)));
    let mut written = Vec::new();
    header.write_to(&mut written);
    for edit in &edits {
        let text = |value: &Option<RefValue>| value.as_ref().map_or(b"-".to_vec(), |value| value.to_bytes().into());
        written.extend([text(&edit.old), text(&edit.new), edit.name.to_vec()].join(&b' '));
        written.push(b'\n');
    }
    assert_eq!(written, bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sealed_is_read_again(header in header(), edits in edits()) {
        let sealed = seal(header.clone(), &edits);
        let (found, found_edits, hash) = read(&bytes_of(&sealed)).unwrap();
        prop_assert_eq!(&found, &sealed.header);
        prop_assert_eq!((&found_edits, hash), (&edits, sealed.hash));
        let expected = ChangeHeader { edits: edits.len() as u64, digest: found.digest, ..header };
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_changed_byte_is_an_error_or_another_change(
        header in header(),
        edits in edits(),
        at in any::<prop::sample::Index>(),
        mask in 1..=255u8,
    ) {
        let sealed = seal(header, &edits);
        let mut bytes = bytes_of(&sealed);
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        if let Ok((found, found_edits, hash)) = read(&bytes) {
            prop_assert_ne!(hash, sealed.hash);
            prop_assert!(found != sealed.header || found_edits != edits, "two spellings of one change");
        }
    }

    #[test]
    fn bytes_near_a_change_have_one_spelling(bytes in near_a_change()) {
        check_one_spelling(&bytes);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..400)) {
        check_one_spelling(&bytes);
    }

    #[test]
    fn any_text_behind_a_beginning_is_read_without_panic(keep in 0..EXAMPLE.len(), rest in "[ -~\n]{0,200}") {
        check_one_spelling(&[&EXAMPLE.as_bytes()[..keep], rest.as_bytes()].concat());
    }
}

#[test]
fn the_example_is_a_change() {
    let (header, edits, _) = read(EXAMPLE.as_bytes()).unwrap();
    assert_eq!((header.seq, header.edits, header.packs.len(), header.lfs.len()), (7, 2, 1, 2));
    assert_eq!(edits[1].name, "refs/tags/v1".try_into().unwrap());
    check_one_spelling(EXAMPLE.as_bytes());
}

#[test]
fn another_spelling_is_no_change() {
    let table: &[(&str, &str, u64)] = &[
        ("seq 7", "seq 07", 3),
        ("seq 7", "seq +7", 3),
        ("seq 7", "seq -7", 3),
        ("seq 7", "seq  7", 3),
        ("seq 7", "seq 7 ", 3),
        ("seq 7", "seq 18446744073709551616", 3),
        ("epoch 1 ", "epoch 01 ", 2),
        ("epoch 1 ", "epoch 1", 2),
        ("gitferry-change 2", "gitferry-change 3", 1),
        ("gitferry-change 2", "gitferry-change 02", 1),
        ("gitferry-change 2", "gitferry-change 1", 1),
        ("digest lt1-", "digest ", 1),
        ("aabbccddeeff00112233", "AABBCCDDEEFF00112233", 4),
        ("time 17", "time +17", 5),
        ("time 17", "time 017", 5),
        ("time 17", "time 9917", 5),
        ("format sha1", "format SHA1", 8),
        ("format sha1", "format md5", 8),
        ("state active", "state Active", 9),
        ("head ref:refs/heads/main", "head refs/heads/main", 10),
        ("pack 1234567890abcdef", "pack 1234567890ABCDEF", 11),
        (" 100 3 ", " 0100 3 ", 11),
        (" 100 3 ", " 100 +3 ", 11),
        (" 100 3 ", " 100 4294967296 ", 11),
        ("00000000000000ff", "00000000000000FF", 11),
        ("00000000000000ff", "+0000000000000ff", 11),
        ("00000000000000ff", "ff", 11),
        ("closed", "shut", 11),
        ("closed", "closed ", 11),
        ("lfs 1111", "lfs 111", 12),
        ("lfs 4d7a", "lfs 4D7A", 13),
        ("lfs 4d7a", "lfs 0d7a", 13),
        ("lfs 1111", "lfs 5111", 13),
        (" 5 0000", " 05 0000", 12),
        (" 5 0000", " -5 0000", 12),
        (" 5 0000", " 18446744073709551616 0000", 12),
        ("00000000000000fe", "00000000000000FE", 12),
        ("00000000000000fe", "fe", 12),
        ("00000000000000fe", "00000000000000fe x", 12),
        ("digest lt1-aabb", "digest lt1-AABB", 14),
        ("edits 2", "edits 02", 15),
        ("edits 2", "edits 1", 16),
        ("edits 2", "edits 3", 18),
        ("edits 2", "edits -2", 15),
        ("- 1111", "- 111", 16),
        ("2222 -", "2222 2222222222222222222222222222222222222222", 17),
        ("- 1111111111111111111111111111111111111111", "- -", 16),
        ("- 1111111111111111111111111111111111111111", "- 0000000000000000000000000000000000000000", 16),
        ("- 1111111111111111111111111111111111111111", "- 1111111111111111111111111111111111111A11", 16),
        ("refs/heads/main\n2222", "refs/heads/../main\n2222", 16),
        ("refs/heads/main\n2222", "refs/zzz\n2222", 17),
        ("refs/heads/main\n2222", "refs/tags/v1\n2222", 17),
        ("- refs/tags/v1\n", "- refs/tags/v1", 17),
        ("- refs/tags/v1\n", "- refs/tags/v1\n\n", 17),
        ("- refs/tags/v1\n", "- refs/tags/v1\nx", 17),
        ("seq 7\n", "", 3),
        ("seq 7\n", "seq 7\nseq 7\n", 4),
        ("seq 7\n", "seq 7\r\n", 3),
        ("name linux\nformat sha1\n", "format sha1\nname linux\n", 8),
    ];
    for (from, to, line) in table {
        assert!(EXAMPLE.contains(from), "{from:?}");
        match read(EXAMPLE.replacen(from, to, 1).as_bytes()) {
            Err(ChangeError::Malformed { line: found, .. }) => assert_eq!(found, *line, "{to:?}"),
            other => panic!("{from:?} as {to:?}: {other:?}"),
        }
    }
}

#[test]
fn a_change_without_lfs_objects_says_nothing_of_them() {
    let without: String =
        EXAMPLE.split_inclusive('\n').filter(|line| !line.starts_with("lfs ")).collect::<Vec<_>>().concat();
    let (header, ..) = read(without.as_bytes()).unwrap();
    assert_eq!((header.lfs.len(), header.lfs_bytes()), (0, 0));
    check_one_spelling(without.as_bytes());
}

#[test]
fn each_lfs_object_is_named_once_and_there_are_not_too_many() {
    let lines = |count: usize| -> String {
        (0..count).map(|number| format!("lfs {number:064x} 1 00000000000000ff\n")).collect()
    };
    let start = EXAMPLE.find("lfs ").unwrap();
    let end = EXAMPLE.find("digest ").unwrap();
    let with = |lines: String| format!("{}{lines}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
    assert!(read(with(lines(1).repeat(2)).as_bytes()).unwrap_err().to_string().contains("sorted"));
    let most = read(with(lines(MAX_LFS_OBJECTS)).as_bytes()).unwrap().0;
    assert_eq!((most.lfs.len(), most.lfs_bytes()), (MAX_LFS_OBJECTS, MAX_LFS_OBJECTS as u64));
    let error = read(with(lines(MAX_LFS_OBJECTS + 1)).as_bytes()).unwrap_err().to_string();
    assert!(error.contains("more than 100000 LFS objects"), "{error}");
}

#[test]
fn lines_and_packs_are_bounded() {
    let long = EXAMPLE.replacen("import:", &"x".repeat(10_000), 1);
    assert!(read(long.as_bytes()).unwrap_err().to_string().contains("line 6"));
    let pack = EXAMPLE.lines().nth(10).unwrap();
    let packs = |count| EXAMPLE.replacen(pack, &vec![pack; count].join("\n"), 1);
    assert_eq!(read(packs(MAX_PACKS).as_bytes()).unwrap().0.packs.len(), MAX_PACKS);
    assert!(read(packs(MAX_PACKS + 1).as_bytes()).unwrap_err().to_string().contains("more than 1000 packs"));
}

#[test]
#[should_panic(expected = "keeps the limits of readers: 1001 packs")]
fn no_change_is_sealed_that_readers_refuse() {
    let mut header = read(EXAMPLE.as_bytes()).unwrap().0;
    header.packs = vec![header.packs[0].clone(); MAX_PACKS + 1];
    seal(header, &[]);
}

#[test]
fn edits_are_sealed_in_order_only() {
    let id = RefValue::Object(gix::ObjectId::from_bytes_or_panic(&[1; 20]));
    let edit = |name: &str, new: Option<&RefValue>| RefEdit {
        name: RefName::new(name).unwrap(),
        old: None,
        new: new.cloned(),
    };
    let mut spool = EditSpool::new(std::env::temp_dir());
    spool.push(&edit("refs/heads/b", Some(&id))).unwrap();
    assert!(spool.push(&edit("refs/heads/a", Some(&id))).is_err());
    assert!(spool.push(&edit("refs/heads/b", Some(&id))).is_err());
    assert!(spool.push(&edit("refs/heads/c", None)).is_err());
    spool.push(&edit("refs/heads/c", Some(&id))).unwrap();
    assert_eq!(spool.len(), 2);
}

#[test]
fn a_large_change_goes_through_a_file_and_has_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let template = read(EXAMPLE.as_bytes()).unwrap().0;
    let edits: Vec<RefEdit> = (0..6_000u32)
        .map(|number| RefEdit {
            name: RefName::new(format!("refs/heads/{number:06}")).unwrap(),
            old: None,
            new: Some(RefValue::Object(gix::ObjectId::from_bytes_or_panic(&[number as u8 | 1; 20]))),
        })
        .collect();
    let mut spool = EditSpool::new(dir.path());
    edits.iter().for_each(|edit| spool.push(edit).unwrap());
    let sealed = spool.seal(template, Lattice::default()).unwrap();
    assert!(matches!(sealed.body, ChangeBody::Spooled(_)));
    let bytes = bytes_of(&sealed);
    assert!(bytes.len() > MAX_INLINE_BYTES && bytes.len() as u64 == sealed.size);
    let (header, found, hash) = read(&bytes).unwrap();
    assert_eq!((header, hash), (sealed.header.clone(), sealed.hash));
    assert!(found == edits);
    drop(sealed);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "temporary files are left");
}

#[test]
fn actors_fit_into_a_line() {
    assert_eq!(clean_actor("a\nb\tc"), "a b c");
    assert_eq!(clean_actor(" \n "), "unknown");
    let long = clean_actor(&"ä".repeat(2_000));
    assert!(long.len() <= MAX_ACTOR_BYTES && long.chars().all(|c| c == 'ä'));
}

/// As build 2b7e73a wrote them.
#[test]
fn changes_of_format_1_are_read_as_they_stand() {
    let old = EXAMPLE.replace("gitferry-change 2", "gitferry-change 1").replace("lt1-", "");
    let (header, edits, hash) = read(old.as_bytes()).unwrap();
    assert!(matches!(header.digest, RefsDigest::Xor(_)) && edits.len() == 2);
    assert_eq!(hash.0, <[u8; 32]>::from(Sha256::digest(old.as_bytes())));
    let mut written = Vec::new();
    header.write_to(&mut written);
    assert!(old.as_bytes().starts_with(&written));
}
