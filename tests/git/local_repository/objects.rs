//! Packs, loose objects and alternates.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use gitferry_base::Kind;
use gitferry_git::local::{Feature, MAX_ALTERNATE_DEPTH, SourceError, SourceRepository};
use gix::ObjectId;

use crate::local_repository::git::{Place, all_objects, assert_same, command, git, objects_of, words};

fn commit(path: &Path, text: &str) {
    git(path, ["commit", "-q", "--allow-empty", "-m", text]);
}

fn alternates(path: &Path, content: &str) {
    fs::write(path.join(".git/objects/info/alternates"), content).unwrap();
}

fn refusal(path: &Path) -> Feature {
    match SourceRepository::open(path) {
        Err(SourceError::Unsupported { feature, .. }) => feature,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn packs_and_loose_objects() {
    let place = Place::new();
    let path = place.repository("work", "");
    let source = SourceRepository::open(&path).unwrap();
    assert!(source.packs().unwrap().is_empty());
    assert_same(&path);
    git(&path, words("repack -dq"));
    commit(&path, "loose now");
    commit(&path, "loose too");
    assert_same(&path);
    // An object both loose and packed.
    git(&path, words("repack -q"));
    assert_eq!((source.packs().unwrap().len(), source.loose_objects().count()), (2, 2));
    assert_same(&path);
    let pack = source.packs().unwrap().remove(0).pack;
    fs::write(pack.with_extension("keep"), "").unwrap();
    assert_eq!(source.packs().unwrap().len(), 2);
    let listed: Vec<_> = source.loose_objects().map(|entry| entry.unwrap().id).collect();
    assert!(listed.is_sorted());

    let empty = place.empty("empty", "--bare");
    let source = SourceRepository::open(&empty).unwrap();
    assert!(source.packs().unwrap().is_empty() && source.loose_objects().next().is_none());
    for fan in 0..256 {
        let _ = fs::remove_dir(empty.join(format!("objects/{fan:02x}")));
    }
    fs::remove_dir(empty.join("objects/pack")).unwrap();
    assert!(SourceRepository::open(&empty).unwrap().packs().unwrap().is_empty());
}

#[test]
fn cruft_packs_hold_objects() {
    let place = Place::new();
    let path = place.repository("work", "");
    commit(&path, "forgotten");
    git(&path, words("reset -q --hard HEAD^"));
    git(&path, words("reflog expire --expire=now --all"));
    git(&path, words("gc -q --cruft --prune=never"));
    let packs = SourceRepository::open(&path).unwrap().packs().unwrap();
    assert_eq!(packs.iter().filter(|pack| pack.pack.with_extension("mtimes").exists()).count(), 1);
    assert_eq!(packs.len(), 2);
    assert_same(&path);
}

#[test]
fn stray_files_are_passed_over() {
    let place = Place::new();
    let path = place.repository("work", "");
    git(&path, words("repack -adq"));
    let before = SourceRepository::open(&path).unwrap().packs().unwrap();
    assert_eq!(before.len(), 1);
    let packs = path.join(".git/objects/pack");
    for name in [
        "tmp_pack_x",
        "tmp_idx_x",
        ".tmp-1-pack-x.pack",
        ".tmp-1-pack-x.idx",
        "pack-1.idx",
        "pack-2.pack",
        "multi-pack-index",
        "pack-3.promisor",
    ] {
        fs::write(packs.join(name), "x").unwrap();
    }
    fs::create_dir_all(path.join(".git/objects/00")).unwrap();
    for name in ["tmp_obj_x", "short", &"z".repeat(38), &"A".repeat(38)] {
        fs::write(path.join(".git/objects/00").join(name), "x").unwrap();
    }
    let source = SourceRepository::open(&path).unwrap();
    assert_eq!(source.packs().unwrap(), before);
    assert_eq!(source.loose_objects().count(), 0);
}

#[test]
fn alternates_of_alternates() {
    let place = Place::new();
    let base = place.repository("base", "");
    git(&base, words("repack -adq"));
    git(place.0.path(), words("clone -q --shared base middle"));
    commit(&place.path("middle"), "middle");
    git(place.0.path(), ["clone", "-q", "--shared", "middle", "top dir"]);
    let top = place.path("top dir");
    commit(&top, "top");
    assert_eq!(objects_of(&top), all_objects(&top));
    assert!(objects_of(&top).len() > objects_of(&place.path("middle")).len());

    // Relative to the object directory they stand in, quoted, with comments, doubled, and in circles.
    let quoted = "# a comment\n\n\"../../../middle/.git/\\157bjects\"\n../../../middle/.git/objects\n../../../top dir/.git/objects\n";
    alternates(&top, quoted);
    alternates(&place.path("middle"), "../../../base/.git/objects\n");
    alternates(&base, "../../../top dir/.git/objects\n");
    assert_eq!(objects_of(&top), all_objects(&top));

    // The same pack under another name of the same file, and the same loose object twice.
    for pack in SourceRepository::open(&base).unwrap().packs().unwrap() {
        for file in [&pack.pack, &pack.index] {
            fs::hard_link(file, top.join(".git/objects/pack").join(file.file_name().unwrap())).unwrap();
        }
    }
    assert_eq!(SourceRepository::open(&top).unwrap().packs().unwrap().len(), 1);
    let middle = place.path("middle").canonicalize().unwrap();
    let mut loose = SourceRepository::open(&middle).unwrap().loose_objects().map(|entry| entry.unwrap());
    let loose = loose.find(|entry| entry.path.starts_with(&middle)).unwrap();
    let hex = loose.id.to_string();
    fs::create_dir_all(top.join(".git/objects").join(&hex[..2])).unwrap();
    fs::copy(&loose.path, top.join(".git/objects").join(&hex[..2]).join(&hex[2..])).unwrap();
    assert_eq!(objects_of(&top), all_objects(&top));

    alternates(&base, "../../../gone/.git/objects\n");
    assert!(matches!(refusal(&top), Feature::AlternateMissing(path, 1) if path.ends_with("objects/info/alternates")));
}

#[test]
fn alternates_as_deep_as_git_goes() {
    let place = Place::new();
    // r0 borrows from r1, that from r2 and so on; every one has an object of its own.
    let count = MAX_ALTERNATE_DEPTH + 3;
    let path = |i: usize| -> PathBuf { place.path(&format!("r{i}")) };
    for i in 0..count {
        place.empty(&format!("r{i}"), "");
        fs::write(path(i).join("f"), format!("{i}")).unwrap();
        git(&path(i), words("hash-object -w f"));
    }
    for i in 0..count - 2 {
        alternates(&path(i), &format!("../../../r{}/.git/objects\n", i + 1));
    }
    // Depths 0 to 5: Git follows all.
    assert_eq!(objects_of(&path(0)), all_objects(&path(0)));
    assert_eq!(objects_of(&path(0)).len(), count - 1);
    // One more: Git complains and goes without.
    alternates(&path(count - 2), &format!("../../../r{}/.git/objects\n", count - 1));
    assert!(matches!(refusal(&path(0)), Feature::AlternateDepth(_)));
    assert_eq!(all_objects(&path(0)).len(), count - 1);
    assert_eq!(objects_of(&path(1)).len(), count - 1);
}

#[test]
fn loose_objects_of_every_kind_and_size() {
    let place = Place::new();
    for format in ["sha1", "sha256"] {
        let path = place.repository(format, &format!("--object-format={format}"));
        fs::write(path.join("empty"), "").unwrap();
        let big: Vec<u8> = (0..3_000_000u32).flat_map(|i| (i ^ i.rotate_left(7)).to_le_bytes()).collect();
        fs::write(path.join("big"), &big).unwrap();
        let id = |name: &str| ObjectId::from_hex(&git(&path, ["hash-object", "-w", name])).unwrap();
        let (empty, large) = (id("empty"), id("big"));
        let source = SourceRepository::open(&path).unwrap();
        let find = |id: &ObjectId| source.loose_objects().map(|entry| entry.unwrap()).find(|entry| entry.id == *id);
        let read = |id, limit| find(id).map(|entry| entry.read(limit)).transpose();
        assert_eq!(read(&empty, 0).unwrap().unwrap(), (gix::object::Kind::Blob, Vec::new()));
        assert_eq!(read(&large, big.len() as u64).unwrap().unwrap().1, big);
        let error = read(&large, big.len() as u64 - 1).unwrap_err();
        assert!(matches!(error, SourceError::TooLarge { size: 12_000_000, .. }), "{error}");
        let mut object = find(&large).unwrap().open().unwrap();
        assert_eq!((object.kind, object.size), (gix::object::Kind::Blob, big.len() as u64));
        let mut streamed = Vec::new();
        object.read_to_end(&mut streamed).unwrap();
        assert!(streamed == big);
        assert_eq!(object.read(&mut [0; 10]).unwrap(), 0);
        for entry in source.loose_objects() {
            let entry = entry.unwrap();
            let (kind, data) = entry.read(u64::MAX).unwrap();
            let id = entry.id.to_string();
            assert_eq!(git(&path, ["cat-file", "-t", &id]), kind.to_string());
            let output = command(&path).args(["cat-file", &kind.to_string(), &id]).output().unwrap();
            assert!(output.stdout == data, "{id}");
        }
        let absent = ObjectId::from_hex("1".repeat(empty.kind().len_in_hex()).as_bytes()).unwrap();
        assert!(read(&absent, 1).unwrap().is_none());
    }
}

#[test]
fn damaged_loose_objects() {
    use std::io::Write;
    let place = Place::new();
    let path = place.repository("work", "");
    let source = SourceRepository::open(&path).unwrap();
    let entry = source.loose_objects().next().unwrap().unwrap();
    let good = fs::read(&entry.path).unwrap();
    fs::remove_file(&entry.path).unwrap();
    let deflate = |data: &[u8]| {
        let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(data).unwrap();
        writer.finish().unwrap()
    };
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (content, reason) in [
        (Vec::new(), "cut off"),
        (good[..good.len() - 1].to_vec(), "cut off"),
        (good[..good.len() / 2].to_vec(), "cut off"),
        (flipped, "cannot be decompressed"),
        (vec![0; 100], "cannot be decompressed"),
        ([&good[..], b"x"].concat(), "bytes follow"),
        (deflate(b"blob 3\0abc"), "its content is that of object f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f"),
        (deflate(b"blob 4\0abc"), "shorter than"),
        (deflate(b"blob 2\0abc"), "longer than"),
        (deflate(b"blob 0\0abc"), "longer than"),
        (deflate(b"blob 18446744073709551615\0abc"), "bytes, above the limit"),
        (deflate(b"blob 18446744073709551616\0abc"), "header"),
        (deflate(b"blob 03\0abc"), "header"),
        (deflate(b"blob +3\0abc"), "header"),
        (deflate(b"blob \0abc"), "header"),
        (deflate(b"blub 3\0abc"), "header"),
        (deflate(&[b'x'; 100]), "header"),
        (deflate(b""), "header"),
    ] {
        fs::write(&entry.path, &content).unwrap();
        let error = entry.read(1 << 20).unwrap_err();
        assert!(error.to_string().contains(reason), "{reason}: {error}");
        assert!(error.to_string().contains(&entry.path.display().to_string()), "{error}");
        fs::remove_file(&entry.path).unwrap();
        // And as a stream: never the last byte of something wrong.
        fs::write(&entry.path, &content).unwrap();
        match entry.open() {
            Err(error) => assert_eq!(error.kind(), Kind::Corrupt),
            Ok(mut object) => {
                let mut data = Vec::new();
                let error = object.read_to_end(&mut data).unwrap_err();
                assert!((data.len() as u64) < object.size);
                assert_eq!(error.downcast::<SourceError>().unwrap().kind(), Kind::Corrupt);
            }
        }
        fs::remove_file(&entry.path).unwrap();
    }
    fs::write(&entry.path, &good).unwrap();
    entry.read(1 << 20).unwrap();
}

#[test]
fn files_that_vanish_are_told_from_damage() {
    let place = Place::new();
    let path = place.repository("work", "");
    let source = SourceRepository::open(&path).unwrap();
    let loose: Vec<_> = source.loose_objects().map(|entry| entry.unwrap()).collect();
    git(&path, words("repack -adq"));
    let packs = source.packs().unwrap();
    git(&path, words("prune-packed -q"));
    let error = loose[0].read(1 << 20).unwrap_err();
    assert_eq!(error.kind(), Kind::Transient);
    assert!(error.to_string().contains("run again"), "{error}");

    let open = packs[0].open_pack().unwrap();
    commit(&path, "more");
    git(&path, words("repack -adq"));
    for error in [packs[0].open_pack().unwrap_err(), packs[0].open_index().unwrap_err()] {
        assert!(matches!(error, SourceError::Changed { .. }), "{error}");
        assert_eq!(error.kind(), Kind::Transient);
    }
    // What was opened stays readable.
    assert_eq!(std::io::copy(&mut &open, &mut std::io::sink()).unwrap(), packs[0].bytes);
    assert_same(&path);
}
