//! New packs from old ones.

use std::path::Path;

use gitferry_git::pack::{
    CheckOptions, CheckProgress, CheckedPack, Fault, Gathered, LooseObject, Object, PackError, PackSet, PackWriter,
    check_gathered, gather,
};
use gix::ObjectId;
use gix::hash::{Kind as Format, oid};
use gix::objs::Kind;

use crate::packs::support::{FORMATS, Repo, check, noise, pack_set};

fn ids(lines: &str) -> Vec<ObjectId> {
    let mut ids: Vec<_> =
        lines.lines().map(|line| ObjectId::from_hex(line.split(' ').next().unwrap().as_bytes()).unwrap()).collect();
    ids.sort();
    ids
}

fn no_loose<'a>(_: &oid) -> std::io::Result<Option<LooseObject<'a>>> {
    Ok(None)
}

fn check_gathered_at(pack: &Path, gathered: &Gathered, format: Format) -> Result<CheckedPack, PackError> {
    let index = pack.with_extension("our.idx");
    check_gathered(pack, gathered, &CheckOptions::new(format), &index, &CheckProgress::default())
}

/// Gathers objects and makes sure that Git reads exactly these from the result, alone.
fn gather_for_git(repo: &Repo, wanted: &[ObjectId], set: &PackSet, out: &Path) -> u64 {
    let gathered = gather(wanted, set, &mut no_loose, out).unwrap();
    let built = gathered.built;
    let checked = check(out, None, &CheckOptions::new(repo.format)).unwrap();
    assert_eq!(check_gathered_at(out, &gathered, repo.format).unwrap(), checked);
    assert_eq!((checked.id, checked.objects), (built.id, wanted.len() as u32));
    let alone = Repo::new(repo.format);
    alone.raw(&["unpack-objects", "-q"], &std::fs::read(out).unwrap());
    let sizes = "--batch-check=%(objectname) %(objecttype) %(objectsize)";
    let all = alone.git(&["cat-file", "--batch-all-objects", sizes]);
    assert_eq!(ids(&all), wanted);
    let asked: String = wanted.iter().map(|id| format!("{id}\n")).collect();
    assert_eq!(all, repo.git_with(&["cat-file", sizes], asked.as_bytes()));
    std::fs::remove_file(out).unwrap();
    built.bytes
}

#[test]
fn gathered_packs_are_what_git_makes_of_them() {
    for format in FORMATS {
        let repo = Repo::with_history(format);
        let all = ids(&repo.git(&["rev-list", "--objects", "--all"]));
        let out = repo.path().join("gathered.pack");
        for arguments in [&["--delta-base-offset"][..], &[]] {
            let pack = repo.pack_all("source.pack", arguments);
            let checked = check(&pack, None, &CheckOptions::new(format)).unwrap();
            let set = pack_set(&[(&pack, &checked)], format);
            let bytes = gather_for_git(&repo, &all, &set, &out);
            assert!(bytes <= checked.bytes, "deltas are kept: {bytes} of {}", checked.bytes);
            for step in [2, 3, 10] {
                let some: Vec<_> = all.iter().copied().step_by(step).collect();
                gather_for_git(&repo, &some, &set, &out);
            }
            gather_for_git(&repo, &[], &set, &out);
            gather(&all, &set, &mut no_loose, &out).unwrap();
            assert!(repo.index_pack(&out, &["--strict"]).is_some());
            std::fs::remove_file(&out).unwrap();
        }
    }
}

/// Bytes of a source are copied up to the next entry only where its index confirms them.
#[test]
fn damage_in_the_source_is_found_when_it_is_gathered_or_when_the_result_is_checked() {
    let repo = Repo::with_history(Format::Sha1);
    let pack = repo.pack_all("source.pack", &["--delta-base-offset"]);
    let checked = check(&pack, None, &CheckOptions::new(Format::Sha1)).unwrap();
    let all = ids(&repo.git(&["rev-list", "--objects", "--all"]));
    let good = std::fs::read(&pack).unwrap();
    let out = repo.path().join("gathered.pack");
    let whole = {
        gather(&all, &pack_set(&[(&pack, &checked)], Format::Sha1), &mut no_loose, &out).unwrap();
        std::fs::read(&out).unwrap()
    };
    for at in (12..good.len() - 20).step_by(37) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::remove_file(&pack).unwrap();
        std::fs::write(&pack, &bad).unwrap();
        std::fs::remove_file(&out).unwrap();
        let set = pack_set(&[(&pack, &checked)], Format::Sha1);
        let found = gather(&all, &set, &mut no_loose, &out).map_err(|error| error.fault);
        let found = found.and_then(|gathered| {
            check_gathered_at(&out, &gathered, Format::Sha1).map(|checked| (gathered, checked)).map_err(|e| e.fault)
        });
        // A delta may have another base that happens to give the same object.
        if let Ok((gathered, _)) = found {
            let alone = check(&out, None, &CheckOptions::new(Format::Sha1)).unwrap();
            assert_eq!((alone.id, alone.objects as usize), (gathered.built.id, all.len()), "byte {at}");
        }
        if !out.exists() {
            std::fs::write(&out, "").unwrap();
        }
    }
    // A file that is not the one that was gathered is refused.
    let set = {
        std::fs::remove_file(&pack).unwrap();
        std::fs::write(&pack, &good).unwrap();
        pack_set(&[(&pack, &checked)], Format::Sha1)
    };
    std::fs::remove_file(&out).unwrap();
    let gathered = gather(&all, &set, &mut no_loose, &out).unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), whole);
    let other = repo.pack("other.pack", &["--revs"], "main~3\n");
    assert!(check_gathered_at(&other, &gathered, Format::Sha1).is_err());
}

#[test]
fn objects_come_from_several_packs_and_from_outside() {
    let repo = Repo::with_history(Format::Sha1);
    let old = repo.pack("old.pack", &["--revs", "--delta-base-offset"], "main~7\n");
    let new = repo.pack("new.pack", &["--revs", "--delta-base-offset"], "main\nv1\n^main~9\n");
    let options = CheckOptions::new(Format::Sha1);
    let (old_checked, new_checked) = (check(&old, None, &options).unwrap(), check(&new, None, &options).unwrap());
    let set = pack_set(&[(&old, &old_checked), (&new, &new_checked)], Format::Sha1);
    let all = ids(&repo.git(&["rev-list", "--objects", "--all"]));
    gather_for_git(&repo, &all, &set, &repo.path().join("both.pack"));

    let big = noise(3 << 20);
    let mut wanted = all.clone();
    let extra = repo.write_object("blob", &big);
    wanted.push(extra);
    wanted.sort();
    let out = repo.path().join("all.pack");
    let missing = gather(&wanted, &set, &mut no_loose, &out).unwrap_err();
    assert!(matches!(missing.fault, Fault::MissingObject { id } if id == extra));
    std::fs::remove_file(&out).unwrap();
    let mut loose = |id: &oid| {
        assert_eq!(id, extra);
        Ok(Some(LooseObject { kind: Kind::Blob, size: big.len() as u64, data: Box::new(&big[..]) }))
    };
    let gathered = gather(&wanted, &set, &mut loose, &out).unwrap();
    let built = gathered.built;
    let checked = check(&out, None, &options).unwrap();
    assert_eq!(check_gathered_at(&out, &gathered, Format::Sha1).unwrap(), checked);
    assert_eq!(checked.id, built.id);
    assert!(checked.is_closed());
    let set = pack_set(&[(&out, &checked)], Format::Sha1);
    assert!(wanted.iter().all(|id| set.contains(id)));
    let Object { kind, data } = set.finder().unwrap().find(&extra).unwrap().unwrap();
    assert!(kind == Kind::Blob && **data == big[..]);
}

#[test]
fn every_object_reads_as_git_reads_it() {
    for format in FORMATS {
        let repo = Repo::with_history(format);
        for arguments in [&["--delta-base-offset", "--depth=100"][..], &[]] {
            let pack = repo.pack_all("source.pack", arguments);
            let checked = check(&pack, None, &CheckOptions::new(format)).unwrap();
            let set = pack_set(&[(&pack, &checked)], format);
            let mut finder = set.finder().unwrap();
            for slot in 0..set.slots() {
                let location = set.at_slot(slot).unwrap();
                assert_eq!(set.slot(location), slot);
                let id = set.id(location).unwrap();
                assert_eq!(set.locate(id), Some(location));
                let Object { kind, data } = finder.read(location).unwrap();
                assert_eq!(finder.kind(location).unwrap(), kind);
                assert_eq!(gix::objs::compute_hash(format, kind, &data).unwrap(), id);
            }
            assert_eq!(set.at_slot(set.slots()), None);
            assert!(finder.find(&ObjectId::null(format)).unwrap().is_none());
        }
    }
}

#[test]
fn a_writer_keeps_its_promises_or_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pack");
    let mut writer = PackWriter::create(&path, Format::Sha1, 1).unwrap();
    assert!(PackWriter::create(&path, Format::Sha1, 1).is_err(), "the file is there");
    writer.whole(Kind::Blob, b"x").unwrap();
    assert!(writer.whole(Kind::Blob, b"y").is_err(), "one too many");
    std::fs::remove_file(&path).unwrap();
    let writer = PackWriter::create(&path, Format::Sha1, 1).unwrap();
    assert!(writer.finish().is_err(), "one too few");
    std::fs::remove_file(&path).unwrap();
    for lie in [2, 4] {
        let mut writer = PackWriter::create(&path, Format::Sha1, 1).unwrap();
        assert!(writer.whole_streaming(Kind::Blob, lie, &mut &b"abc"[..]).is_err());
        std::fs::remove_file(&path).unwrap();
    }
    assert!(gather(&[ObjectId::null(Format::Sha1); 2], &PackSet::new(Format::Sha1), &mut no_loose, &path).is_err());
}
