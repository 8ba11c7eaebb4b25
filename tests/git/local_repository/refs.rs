//! Refs and HEAD.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gitferry_base::Kind;
use gitferry_git::local::{RefPatterns, SourceError, SourceRepository};
use gitferry_git::refname::check_ref_name;
use gix::bstr::{BStr, BString, ByteSlice};

use crate::local_repository::git::{
    Place, command, feed, for_each_ref, git, name, refs_of, run, words, write_loose_refs,
};

fn head_of(path: &Path) -> BString {
    SourceRepository::open(path).unwrap().head().unwrap().to_bytes()
}

/// The error that ends the listing.
fn error_of(path: &Path) -> SourceError {
    let source = SourceRepository::open(path).unwrap();
    match source.refs(&RefPatterns::all()) {
        Err(error) => error,
        Ok(refs) => {
            let mut refs = refs.skip_while(|entry| entry.is_ok());
            let error = refs.next().unwrap().unwrap_err();
            assert!(refs.next().is_none(), "something follows the error");
            error
        }
    }
}

#[test]
fn loose_over_packed_and_deleted_ones() {
    let place = Place::new();
    let path = place.repository("work", "");
    git(&path, words("pack-refs --all"));
    assert!(!path.join(".git/refs/heads/main").exists());
    assert_eq!(refs_of(&path), for_each_ref(&path));
    git(&path, words("update-ref refs/heads/main HEAD^"));
    git(&path, words("branch -q -D side/deep/er"));
    git(&path, words("branch side2 HEAD"));
    git(&path, words("branch side/deep"));
    let refs = refs_of(&path);
    assert_eq!(refs, for_each_ref(&path));
    assert_eq!(refs.len(), 5);
    // Leftovers that are no refs.
    fs::write(path.join(".git/refs/heads/main.lock"), "").unwrap();
    fs::write(path.join(".git/refs/heads/.hidden"), "x").unwrap();
    fs::create_dir_all(path.join(".git/refs/heads/empty/dir")).unwrap();
    assert_eq!(refs_of(&path), refs);
    assert_eq!(for_each_ref(&path), refs);
}

#[test]
fn order_is_that_of_bytes() {
    let place = Place::new();
    let path = place.repository("work", "");
    for branch in ["a", "a-b", "a.b", "b/c", "b-c", "b.c", "b0", "Z", "ä", "zz/y/x"] {
        git(&path, ["branch", branch]);
    }
    assert_eq!(refs_of(&path), for_each_ref(&path));
    git(&path, words("pack-refs --all"));
    for branch in ["a!", "b/d", "b+", "zz/y/w", "zz/z"] {
        git(&path, ["branch", branch]);
    }
    assert_eq!(refs_of(&path), for_each_ref(&path));
    assert_eq!(refs_of(&path).len(), 19);
}

#[test]
fn head_in_all_its_states() {
    let place = Place::new();
    let path = place.empty("work", "");
    assert_eq!(head_of(&path), "ref:refs/heads/main");
    assert!(refs_of(&path).is_empty());
    let path = place.repository("full", "");
    git(&path, words("symbolic-ref HEAD refs/heads/side/deep/er"));
    assert_eq!(head_of(&path), "ref:refs/heads/side/deep/er");
    git(&path, words("checkout -q --detach"));
    assert_eq!(head_of(&path), git(&path, words("rev-parse HEAD")));
    #[cfg(unix)]
    {
        fs::remove_file(path.join(".git/HEAD")).unwrap();
        std::os::unix::fs::symlink("refs/heads/unborn", path.join(".git/HEAD")).unwrap();
        assert_eq!(git(&path, words("symbolic-ref HEAD")), "refs/heads/unborn");
        assert_eq!(head_of(&path), "ref:refs/heads/unborn");
        fs::remove_file(path.join(".git/HEAD")).unwrap();
    }
    for (text, reason) in [("", "empty"), ("ref: main\n", "refs/"), ("rubbish\n", "neither")] {
        fs::write(path.join(".git/HEAD"), text).unwrap();
        let error = SourceRepository::open(&path).unwrap().head().unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains("HEAD") && error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn symbolic_refs() {
    let place = Place::new();
    let path = place.repository("work", "");
    git(&path, words("update-ref refs/remotes/origin/main HEAD"));
    git(&path, words("symbolic-ref refs/remotes/origin/HEAD refs/remotes/origin/main"));
    git(&path, words("symbolic-ref refs/heads/alias refs/heads/main"));
    assert_eq!(refs_of(&path), for_each_ref(&path));
    git(&path, words("pack-refs --all"));
    assert_eq!(refs_of(&path), for_each_ref(&path));
    // A dangling one is kept; Git passes over it.
    git(&path, words("symbolic-ref refs/heads/dangling refs/heads/gone"));
    let mut refs = refs_of(&path);
    let at = refs.iter().position(|(name, _)| name == "refs/heads/dangling").unwrap();
    assert_eq!(refs.remove(at).1, "ref:refs/heads/gone");
    assert_eq!(refs, for_each_ref(&path));
    // One that points out of refs/ could not be exported.
    fs::write(path.join(".git/refs/heads/odd"), "ref: ORIG_HEAD\n").unwrap();
    let error = error_of(&path).to_string();
    assert!(error.contains("refs/heads/odd") && !error.contains("ORIG_HEAD"), "{error}");
}

#[cfg(unix)]
#[test]
fn symbolic_links() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let path = place.repository("work", "");
    let heads = path.join(".git/refs/heads");
    symlink("refs/heads/main", heads.join("by-link")).unwrap();
    symlink("main", heads.join("by-file")).unwrap();
    symlink("side", heads.join("other-side")).unwrap();
    assert_eq!(refs_of(&path), for_each_ref(&path));
    assert_eq!(refs_of(&path).len(), 6, "Git does not list links to nowhere, such as by-link");
    fs::create_dir_all(heads.join("refs/heads")).unwrap();
    fs::copy(heads.join("main"), heads.join("refs/heads/main")).unwrap();
    assert_eq!(refs_of(&path), for_each_ref(&path));
    assert!(refs_of(&path).contains(&("refs/heads/by-link".into(), "ref:refs/heads/main".into())));
    // A link in circles ends.
    symlink(".", heads.join("circle")).unwrap();
    let error = SourceRepository::open(&path).unwrap().refs(&RefPatterns::all()).err().unwrap();
    assert_eq!(error.kind(), Kind::Refused, "{error}");

    // A work tree made by git-new-workdir shares refs by a link.
    let shared = place.empty("shared", "");
    fs::remove_file(heads.join("circle")).unwrap();
    fs::remove_dir_all(shared.join(".git/refs")).unwrap();
    symlink(path.join(".git/refs"), shared.join(".git/refs")).unwrap();
    assert_eq!(refs_of(&shared), refs_of(&path));
}

#[test]
fn broken_refs_are_named() {
    let place = Place::new();
    let path = place.repository("work", "");
    let file = path.join(".git/refs/heads/broken");
    let zero = "0".repeat(40);
    let sha256 = "1".repeat(64);
    let long = "1".repeat(5000);
    for text in ["", "\n", "rubbish\n", "1234\n", &zero, &sha256, &long, "ref: \n", "ref: refs/heads/a..b\n"] {
        fs::write(&file, text).unwrap();
        let error = error_of(&path);
        assert!(matches!(&error, SourceError::BrokenRef { name, .. } if name == "refs/heads/broken"), "{error}");
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains("refs/heads/broken"), "{error}");
        assert!(error.to_string().len() < 1000, "{error}");
    }
    // What Git reads, too: blanks and anything behind them.
    let id = git(&path, words("rev-parse HEAD"));
    for text in [
        format!("{id}"),
        format!("{id} rest\n"),
        format!("{id}\n\n"),
        "ref:refs/heads/main".into(),
        "ref:\t refs/heads/main \n".into(),
    ] {
        fs::write(&file, text).unwrap();
        assert_eq!(refs_of(&path), for_each_ref(&path));
    }
    fs::remove_file(&file).unwrap();
    for bad in ["bad name", "a..b", "x@{1}", "tilde~"] {
        let file = path.join(".git/refs/heads").join(bad);
        fs::write(&file, format!("{id}\n")).unwrap();
        let error = error_of(&path);
        assert!(matches!(error, SourceError::BadRefName { .. }), "{error}");
        assert!(error.to_string().contains(bad), "{error}");
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn what_is_wrong_with_refs_that_are_not_wanted_is_no_matter() {
    let place = Place::new();
    let path = place.repository("work", "");
    let id = String::from_utf8(git(&path, words("rev-parse HEAD")).to_vec()).unwrap();
    git(&path, words("pack-refs --all"));
    let packed = path.join(".git/packed-refs");
    let text = fs::read_to_string(&packed).unwrap();
    fs::write(&packed, format!("{text}{id} refs/zzz/a..b\n", id = id.trim())).unwrap();
    let loose = path.join(".git/refs/stale");
    fs::create_dir_all(&loose).unwrap();
    fs::write(loose.join("bad name"), &id).unwrap();
    fs::write(loose.join("empty"), "").unwrap();
    error_of(&path);
    let source = SourceRepository::open(&path).unwrap();
    for patterns in [&["refs/heads/*"][..], &["^refs/stale/", "^refs/zzz/"]] {
        let refs = source.refs(&RefPatterns::new(patterns).unwrap()).unwrap();
        let refs: Result<Vec<_>, _> = refs.collect();
        assert!(refs.unwrap().iter().any(|(name, _)| *name.as_bstr() == "refs/heads/main"), "{patterns:?}");
    }
    // Those that are wanted are judged as ever.
    let wanted = RefPatterns::new(["refs/zzz/"]).unwrap();
    assert!(source.refs(&wanted).unwrap().any(|entry| entry.is_err()));
}

#[test]
fn packed_refs_that_git_would_not_read() {
    let place = Place::new();
    let path = place.repository("work", "");
    let id = git(&path, words("rev-parse HEAD"));
    let packed = path.join(".git/packed-refs");
    let sorted = "# pack-refs with: peeled fully-peeled sorted \n";
    for (text, reason) in [
        (format!("{sorted}{id} refs/heads/b\n{id} refs/heads/a\n"), "out of order"),
        (format!("{sorted}{id} refs/heads/a\n{id} refs/heads/a\n"), "out of order"),
        (format!("{id} refs/heads/a\n{id} refs/heads/a\n"), "twice"),
        (format!("{sorted}{id} refs/heads/a"), "the file ends within this line"),
        (format!("{sorted}{id}\n"), "not of the form"),
        (format!("{sorted}{id} refs/heads/{}\n", "x".repeat(5000)), "longer than any ref"),
        (format!("{sorted}{id} heads/a\n"), "does not start with refs/"),
        (format!("{sorted}{id} refs/heads/a b\n"), "that Git does not allow: line 2"),
        (format!("{sorted}{} refs/heads/a\n", "0".repeat(40)), "all-zero"),
        (format!("{sorted}xyz refs/heads/a\n"), "refs/heads/a"),
        ("# something else\n".to_string(), "pack-refs with:"),
        ("\0\0\0\0".to_string(), "the file ends within this line"),
    ] {
        fs::write(&packed, text).unwrap();
        let error = error_of(&path);
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        assert!(error.to_string().contains(reason) && error.to_string().contains("packed-refs"), "{reason}: {error}");
    }
    // Without a promise any order will do, and no header is needed. Git agrees.
    for header in ["", "# pack-refs with: \n", "# pack-refs with: peeled \n"] {
        fs::write(&packed, format!("{header}{id} refs/heads/x\n{id} refs/heads/b\n{id} refs/heads/a\n")).unwrap();
        assert_eq!(refs_of(&path), for_each_ref(&path));
        assert_eq!(refs_of(&path).len(), 7);
    }
    fs::write(&packed, "").unwrap();
    assert_eq!(refs_of(&path), for_each_ref(&path));
}

#[test]
fn names_of_any_bytes() {
    let place = Place::new();
    let path = place.repository("work", "");
    let id = git(&path, words("rev-parse HEAD"));
    let mut names: Vec<BString> = vec![
        name("refs/heads/", b"\xff\xfe"),
        name("refs/heads/", "ünïcödé/🚢".as_bytes()),
        name("refs/heads/", b"-dash"),
        name("refs/heads/", b"@"),
        name("refs/heads/", b"!\"#$%&'()+,;<=>]_`{|}"),
        name("refs/", b"one-level"),
        name("refs/heads/", b"HEAD"),
        name("refs/heads/", "x".repeat(1000).as_bytes()),
        name("refs/heads/", b"Case"),
        name("refs/heads/", b"case"),
        name("refs/gitferry/", b"x"),
    ];
    names.sort();
    let mut text = BString::from("# pack-refs with: peeled fully-peeled sorted \n");
    for name in &names {
        text.extend_from_slice(&[id.as_slice(), b" ", name, b"\n"].concat());
    }
    fs::write(path.join(".git/packed-refs"), &text).unwrap();
    assert_eq!(refs_of(&path), for_each_ref(&path));
    assert_eq!(refs_of(&path).len(), names.len() + 4);
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let file = path.join(".git/refs/heads").join(std::ffi::OsStr::from_bytes(b"loose-\xc3\x28"));
        fs::write(file, format!("{id}\n")).unwrap();
        assert_eq!(refs_of(&path), for_each_ref(&path));
    }
}

#[test]
fn names_are_judged_as_git_does() {
    let place = Place::new();
    let alphabet = [
        "a", ".", "/", "lock", ".lock", "@", "{", "-", "..", "*", " ", "~", "^", ":", "?", "[", "\\", "\x7f", "\x01",
        "\u{e9}",
    ];
    let mut rests = Vec::new();
    for a in alphabet {
        rests.push(a.to_string());
        for b in alphabet {
            rests.push(format!("{a}{b}"));
            rests.push(format!("x{a}{b}y"));
        }
    }
    for rest in &rests {
        let full = format!("refs/heads/{rest}");
        let allowed = command(place.0.path()).args(["check-ref-format", &full]).status().unwrap().success();
        assert_eq!(check_ref_name(BStr::new(&full)).is_ok(), allowed, "{full:?}");
    }
    for bad in ["HEAD", "main", "refs", "refs/", "/refs/heads/a", "heads/a", "", "refs//a", "Refs/heads/a"] {
        assert!(check_ref_name(bad.into()).is_err(), "{bad}");
    }
    let longest = format!("refs/{}", "x".repeat(1019));
    assert!(check_ref_name(BStr::new(&longest)).is_ok());
    assert!(check_ref_name(BStr::new(&format!("{longest}x"))).is_err());
}

#[test]
fn ten_thousand_loose_refs_with_packed_ones() {
    let place = Place::new();
    let path = place.repository("work", "");
    write_loose_refs(&path, "refs/heads/packed", 1000);
    git(&path, words("pack-refs --all"));
    write_loose_refs(&path, "refs/heads/loose", 10_000);
    git(&path, words("update-ref refs/heads/packed/0/0 HEAD^"));
    let refs = refs_of(&path);
    assert_eq!(refs.len(), 11_004);
    assert_eq!(refs, for_each_ref(&path));
}

#[test]
fn patterns_narrow() {
    let place = Place::new();
    let path = place.repository("work", "");
    let source = SourceRepository::open(&path).unwrap();
    let list = |patterns: &[&str]| -> Vec<String> {
        let patterns = RefPatterns::new(patterns).unwrap();
        source.refs(&patterns).unwrap().map(|entry| entry.unwrap().0.to_string()).collect()
    };
    assert_eq!(list(&["refs/heads/*"]), ["refs/heads/main", "refs/heads/side/deep/er"]);
    assert_eq!(list(&["refs/tags/", "^refs/tags/l*"]), ["refs/tags/annotated"]);
    assert_eq!(list(&["refs/heads/side"]), ["refs/heads/side/deep/er"]);
    assert_eq!(list(&["^refs/heads/"]), ["refs/tags/annotated", "refs/tags/light"]);
    assert!(list(&["refs/heads/mai"]).is_empty());
    // Names and path prefixes mean what they mean to git for-each-ref.
    for pattern in ["refs/heads/main", "refs/heads/side", "refs/heads", "refs/tags/", "refs/heads/mai"] {
        let theirs = git(&path, ["for-each-ref", "--format=%(refname)", pattern]);
        assert_eq!(list(&[pattern]), theirs.lines().map(|l| l.to_str_lossy().into_owned()).collect::<Vec<_>>());
    }
}

/// Branches come and go (packed, loose, and moved between the two) while refs are listed.
#[test]
fn listing_while_git_writes() {
    let place = Place::new();
    let path = place.repository("work", "");
    let id = git(&path, words("rev-parse HEAD")).to_string();
    git(&path, words("config core.logAllRefUpdates false"));
    write_loose_refs(&path, "refs/heads/stays", 100);
    let names: Vec<String> = (0..100).map(|i| format!("refs/heads/stays/{}/{i}", i % 37)).collect();
    let stays: BTreeMap<BString, BString> = refs_of(&path).into_iter().collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..8 {
                assert!(run(&path, words("pack-refs --all")).status.success());
                let change = |verb: &str, value: &str| -> String {
                    (0..30).map(|i| format!("{verb} refs/heads/comes/{round}/{i}{value}\n")).collect()
                };
                feed(&path, &["update-ref", "--stdin"], change("create", &format!(" {id}")).as_bytes());
                let touch: String = names.iter().map(|name| format!("update {name} {id}\n")).collect();
                feed(&path, &["update-ref", "--stdin"], touch.as_bytes());
                feed(&path, &["update-ref", "--stdin"], change("delete", "").as_bytes());
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        let source = SourceRepository::open(&path).unwrap();
        let mut complete = 0;
        while !done.load(std::sync::atomic::Ordering::Acquire) || complete == 0 {
            match source.refs(&RefPatterns::all()) {
                Ok(refs) => {
                    let listed: BTreeMap<BString, BString> =
                        refs.map(|entry| entry.unwrap()).map(|(n, v)| (n.into(), v.to_bytes())).collect();
                    for (name, value) in &stays {
                        assert_eq!(listed.get(name), Some(value), "{name} was missed");
                    }
                    complete += 1;
                }
                Err(error) => assert_eq!(error.kind(), Kind::Transient, "{error}"),
            }
        }
    });
}

/// Sorted `packed-refs` stream, however many they are.
#[test]
#[ignore = "slow: a million refs"]
fn a_million_packed_refs() {
    use std::fmt::Write;
    let place = Place::new();
    let path = place.repository("work", "");
    let id = git(&path, words("rev-parse HEAD"));
    let mut text = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for i in 0..1_000_000 {
        writeln!(text, "{id} refs/changes/{:02}/{i:07}/head", i / 10_000).unwrap();
    }
    fs::write(path.join(".git/packed-refs"), text).unwrap();
    assert_eq!(refs_of(&path), for_each_ref(&path));
}
