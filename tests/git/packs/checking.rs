//! Good packs of all shapes.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::Ordering;

use gitferry_git::connectivity::closure;
use gitferry_git::links::Link;
use gitferry_git::pack::{CheckOptions, CheckProgress, Fault, check_pack};
use gix::hash::Kind as Format;
use gix::objs::Kind;

use crate::packs::support::{FORMATS, Repo, assemble, blob, blob_id, check, noise, pack_set, seal};

/// Checks a pack in every way and compares each index with Git's.
fn check_like_git(repo: &Repo, pack: &Path) {
    let git_index = repo.index_pack(pack, &[]).unwrap();
    let expected = std::fs::read(&git_index).unwrap();
    let mut seen = None;
    for hint in [None, Some(git_index.as_path())] {
        for threads in [1, 2, 5] {
            for max_held_bytes in [1 << 20, 3000, 0] {
                let mut options = CheckOptions::new(repo.format);
                options.threads = NonZeroUsize::new(threads);
                options.max_held_bytes = max_held_bytes;
                let checked = check(pack, hint, &options).unwrap();
                assert!(std::fs::read(&checked.index).unwrap() == expected, "{hint:?} {threads} {max_held_bytes}");
                assert_eq!(checked.index_bytes, expected.len() as u64);
                assert_eq!(*seen.get_or_insert(checked.clone()), checked, "{hint:?} {threads} {max_held_bytes}");
            }
        }
    }
    assert_eq!(seen.unwrap().bytes, std::fs::metadata(pack).unwrap().len());
}

#[test]
fn indices_are_those_of_git_for_all_shapes_of_packs() {
    for format in FORMATS {
        let repo = Repo::with_history(format);
        for (shape, arguments) in [
            ("offset deltas", &["--delta-base-offset"][..]),
            ("deep chains", &["--delta-base-offset", "--depth=200", "--window=100"]),
            ("deltas that name their base", &["--depth=30"]),
            ("no deltas", &["--depth=0", "--window=0"]),
            ("stored, not compressed", &["--delta-base-offset", "--compression=0"]),
        ] {
            let pack = repo.pack_all("a.pack", arguments);
            check_like_git(&repo, &pack);
            let checked = check(&pack, None, &CheckOptions::new(format)).unwrap();
            assert!(checked.is_closed(), "{shape}");
            assert!(checked.objects > 200, "{shape}");
        }
    }
}

#[test]
fn empty_packs_are_fine_and_empty_files_are_not() {
    for format in FORMATS {
        let repo = Repo::new(format);
        let pack = repo.pack("empty.pack", &[], "");
        check_like_git(&repo, &pack);
        std::fs::write(&pack, b"").unwrap();
        assert!(matches!(check(&pack, None, &CheckOptions::new(format)), Err(Fault::File(_))));
        assert!(check(&repo.path().join("none"), None, &CheckOptions::new(format)).is_err());
    }
}

#[test]
fn links_that_leave_a_pack_are_those_that_git_knows() {
    for format in FORMATS {
        let repo = Repo::with_history(format);
        let old = repo.pack("old.pack", &["--revs", "--delta-base-offset"], "main~7\n");
        let new = repo.pack("new.pack", &["--revs", "--delta-base-offset"], "main\n^main~7\n");
        let options = CheckOptions::new(format);
        let old_checked = check(&old, None, &options).unwrap();
        assert!(old_checked.is_closed());
        let git_index = repo.index_pack(&new, &[]).unwrap();
        for hint in [None, Some(git_index.as_path())] {
            let checked = check(&new, hint, &options).unwrap();
            assert!(checked.unresolved.contains(&Link { id: repo.rev_parse("main~7"), kind: Kind::Commit }));
            for link in &checked.unresolved {
                assert_eq!(repo.git(&["cat-file", "-t", &link.id.to_string()]), link.kind.to_string());
                assert!(!git_index_lists(&repo, &git_index, &link.id.to_string()));
            }
            let held = pack_set(&[(&old, &old_checked)], format);
            assert_eq!(closure([&checked, &old_checked], &|id| held.contains(id)), []);
            assert_eq!(closure([&checked], &|_| false), checked.unresolved);
        }
    }
}

fn git_index_lists(repo: &Repo, index: &Path, id: &str) -> bool {
    repo.git_with(&["show-index", &format!("--object-format={}", repo.format)], &std::fs::read(index).unwrap())
        .contains(id)
}

#[test]
fn thin_packs_name_what_they_lack() {
    for format in FORMATS {
        let repo = Repo::with_history(format);
        let thin = repo.pack("thin.pack", &["--revs", "--thin", "--delta-base-offset"], "main\n^main~1\n");
        assert!(repo.index_pack(&thin, &[]).is_none(), "it should be thin");
        let Err(Fault::MissingBase { base, count, .. }) = check(&thin, None, &CheckOptions::new(format)) else {
            panic!("a thin pack passed")
        };
        assert!(count > 0);
        assert!(repo.git(&["rev-list", "--objects", "main~1"]).contains(&base.to_string()));
    }
}

#[test]
fn old_warts_pass_and_are_told_apart_from_what_is_unreadable() {
    let repo = Repo::new(Format::Sha1);
    let file = repo.write_object("blob", b"content");
    let entry = |mode: &str, name: &str| [mode.as_bytes(), b" ", name.as_bytes(), b"\0", file.as_slice()].concat();
    let warts = [entry("0100644", "z"), entry("100664", "a"), entry("100644", "a")].concat();
    let tree = repo.write_object("tree", &warts);
    let no_author = repo.write_object("commit", format!("tree {tree}\nno author\n\nmessage").as_bytes());
    let no_tagger = repo.write_object("tag", format!("object {no_author}\ntype commit\ntag x\n\n").as_bytes());
    let cut_off = repo.write_object("tree", &warts[..40]);
    let wrong_kind = repo.write_object("commit", format!("tree {file}\n\n").as_bytes());
    let all = [file, tree, no_author, no_tagger, cut_off, wrong_kind].map(|id| format!("{id}\n")).concat();
    let pack = repo.pack("warts.pack", &[], &all);
    check_like_git(&repo, &pack);
    for hint in [None, repo.index_pack(&pack, &[])] {
        let checked = check(&pack, hint.as_deref(), &CheckOptions::new(Format::Sha1)).unwrap();
        assert_eq!(checked.unparsable, [cut_off]);
        assert_eq!(checked.unparsable_count, 1);
        assert_eq!(checked.mismatched, [Link { id: file, kind: Kind::Tree }]);
        assert_eq!(checked.unresolved, []);
        assert!(!checked.is_closed());
    }
}

#[test]
fn an_object_may_be_there_only_once() {
    let repo = Repo::new(Format::Sha1);
    let path = repo.path().join("twice.pack");
    std::fs::write(&path, assemble(&[blob(b"one"), blob(b"two"), blob(b"one")])).unwrap();
    assert!(repo.index_pack(&path, &["--strict"]).is_none());
    let hint = repo.index_pack(&path, &[]).expect("Git tolerates it unless it is strict");
    let Err(Fault::Duplicate { id, first, second }) = check(&path, None, &CheckOptions::new(Format::Sha1)) else {
        panic!("a duplicate passed")
    };
    assert_eq!((id, first), (blob_id(b"one"), 12));
    assert!(second > first);
    assert!(check(&path, Some(&hint), &CheckOptions::new(Format::Sha1)).is_err());
}

#[test]
fn deltas_on_a_base_that_is_there_twice_do_not_multiply() {
    // Each pair of equal deltas on a pair of equal bases would be resolved twice as often as the last.
    let mut entries = vec![blob(b"0"), blob(b"0")];
    let mut content = b"0".to_vec();
    for byte in 0..40 {
        let base = blob_id(&content);
        let size = content.len() as u8;
        content.push(byte);
        let delta = [size, size + 1, 0x90, size, 1, byte];
        let delta = crate::packs::support::entry(7, delta.len() as u64, base.as_slice(), &delta);
        entries.extend([delta.clone(), delta]);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("multiply.pack");
    std::fs::write(&path, assemble(&entries)).unwrap();
    assert!(matches!(check(&path, None, &CheckOptions::new(Format::Sha1)), Err(Fault::Duplicate { .. })));
}

#[test]
fn large_blobs_are_streamed_and_may_be_bases_all_the_same() {
    let repo = Repo::new(Format::Sha1);
    let big = noise(17 << 20);
    let other = [&big[..], b"and more"].concat();
    let ids = [repo.write_object("blob", &big), repo.write_object("blob", &other)].map(|id| format!("{id}\n")).concat();
    for arguments in [&["--window=0"][..], &["--delta-base-offset"], &[]] {
        let pack = repo.pack("big.pack", arguments, &ids);
        let git_index = repo.index_pack(&pack, &[]).unwrap();
        for hint in [None, Some(git_index.as_path())] {
            let checked = check(&pack, hint, &CheckOptions::new(Format::Sha1)).unwrap();
            assert!(std::fs::read(&checked.index).unwrap() == std::fs::read(&git_index).unwrap());
        }
    }
}

#[test]
fn the_limit_for_objects_in_memory_spares_large_blobs_stored_whole() {
    let repo = Repo::new(Format::Sha1);
    let id = repo.write_object("blob", &noise(17 << 20));
    let tree = [b"100644 big\0", id.as_slice()].concat().repeat(3);
    let tree = repo.write_object("tree", &tree);
    let pack = repo.pack("limit.pack", &[], &format!("{id}\n{tree}\n"));
    let mut options = CheckOptions::new(Format::Sha1);
    options.max_resolved_bytes = 100;
    check(&pack, None, &options).unwrap();
    options.max_resolved_bytes = 50;
    assert!(matches!(check(&pack, None, &options), Err(Fault::TooLarge { size: 93, limit: 50, .. })));
}

#[test]
fn progress_counts_everything_and_cancelling_ends_the_check() {
    let repo = Repo::with_history(Format::Sha1);
    let pack = repo.pack_all("a.pack", &["--delta-base-offset"]);
    let out = repo.path().join("out.idx");
    let options = CheckOptions::new(Format::Sha1);
    let progress = CheckProgress::default();
    let checked = check_pack(&pack, None, &options, &out, &progress).unwrap();
    let value = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(value(&progress.objects), u64::from(checked.objects));
    assert_eq!(value(&progress.objects_total), u64::from(checked.objects));
    assert_eq!(value(&progress.bytes), checked.bytes - 32);
    assert_eq!(value(&progress.bytes_total), checked.bytes);
    progress.cancel.store(true, Ordering::Relaxed);
    let hint = checked.index.with_extension("hint");
    std::fs::copy(&checked.index, &hint).unwrap();
    for hint in [None, Some(hint.as_path())] {
        let error = check_pack(&pack, hint, &options, &out, &progress).unwrap_err();
        assert!(matches!(error.fault, Fault::Cancelled));
    }
}

#[test]
fn version_3_packs_and_version_1_indices_are_read() {
    let repo = Repo::with_history(Format::Sha1);
    let pack = repo.pack_all("a.pack", &["--delta-base-offset"]);
    let mut data = std::fs::read(&pack).unwrap();
    data.truncate(data.len() - 20);
    data[7] = 3;
    std::fs::write(&pack, seal(data, Format::Sha1)).unwrap();
    check_like_git(&repo, &pack);
    let expected = std::fs::read(repo.index_pack(&pack, &[]).unwrap()).unwrap();
    let version_1 = repo.index_pack(&pack, &["--index-version=1"]).unwrap();
    let checked = check(&pack, Some(&version_1), &CheckOptions::new(Format::Sha1)).unwrap();
    assert!(std::fs::read(checked.index).unwrap() == expected);
}
