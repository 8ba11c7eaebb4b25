//! Stores that an older build wrote: opened, served, verified, replicated and pushed to by this one.

use std::path::{Path, PathBuf};

use gitferry_test_support::formats;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::lfs_work::Work;
use gitferry_test_support::pair::{EU, Pair, US};

/// Stores as the build of 2b7e73a wrote them; `make.sh` beside them says how, and what is in them.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stores-1")
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_folder(&path, &to) } else { _ = std::fs::copy(&path, &to).unwrap() }
    }
}

fn open() -> Pair {
    Pair::holding(|data| {
        for region in ["us-east-1", "eu-west-1"] {
            copy_folder(&fixture().join(region), &data.join(region));
        }
    })
}

/// A mirror clone, which git has checked.
fn mirror(pair: &Pair, region: usize, name: &str) -> GitRepo {
    let to = (0..).map(|n| pair.path(&format!("older-{n}"))).find(|path| !path.exists()).unwrap();
    let here = GitRepo::init(pair.path(&format!("{}-by", to.file_name().unwrap().to_str().unwrap())), &[]);
    here.git(&["clone", "-q", "--mirror", &pair.url(region, name), to.to_str().unwrap()]);
    let clone = GitRepo::at(to);
    clone.git(&["fsck", "--strict", "--no-dangling"]);
    clone
}

#[test]
fn stores_of_an_older_build_are_served_verified_and_pushed_to() {
    let mut pair = open();
    let refs = std::fs::read_to_string(fixture().join("refs.txt")).unwrap();
    let app = mirror(&pair, US, "app");
    assert_eq!(app.git(&["for-each-ref", "--format=%(objectname) %(refname)"]), refs.trim_end());
    let many = mirror(&pair, US, "many");
    assert_eq!(many.refs().len(), 1_103);
    let work = Work::clone(pair.dir(), &pair.url(US, "app"));
    assert_eq!(work.read("file.bin"), b"an LFS object\n");
    // The replica lacked the last change of one and all of the other.
    pair.wait_until_same(&app, "app");
    pair.wait_until_same(&many, "many");
    pair.ok(&["verify", "dr", "--deep"]);
    // Both take pushes, which the replica gets: changes of this build on top of those of the older one.
    for (name, repo) in [("app", &app), ("many", &many)] {
        repo.commit("main", "new", "written by a newer build\n");
        repo.git(&["push", "-q", &pair.url(US, name), "main", "main:refs/heads/another", ":refs/tags/v1"]);
        repo.git(&["update-ref", "refs/heads/another", "main"]);
        repo.git(&["update-ref", "-d", "refs/tags/v1"]);
        pair.wait_until_same(repo, name);
    }
    pair.ok(&["verify", "dr", "--deep"]);
    pair.restart();
    for (name, repo) in [("app", &app), ("many", &many)] {
        for region in [US, EU] {
            pair.assert_clones_as(repo, &pair.url(region, name));
        }
    }
    let deleted = pair.ok(&["repo", "list", "--region", "eu-west-1", "--deleted"]);
    assert!(deleted.contains("gone") && deleted.contains("deleted"), "{deleted}");
}

/// The same of the state in `tests/fixtures/stores-2`, which has identities and versions (see `tests/links/formats`).
#[test]
fn a_region_with_an_identity_is_served_verified_and_pushed_to() {
    let pair = Pair::holding(|data| {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = formats::fixture::unpack(dir.path());
        copy_folder(&state.world.join(formats::US), &data.join("us-east-1"));
    });
    let app = mirror(&pair, US, "app");
    let listed = app.git(&["for-each-ref", "--format=%(objectname) %(refname)"]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), formats::fixture::refs("app"));
    let many = mirror(&pair, US, "many");
    assert_eq!(many.refs().len(), 1_101);
    let work = Work::clone(pair.dir(), &pair.url(US, "app"));
    // The repository has no `.gitattributes`: a checkout leaves the pointer.
    assert_eq!(work.repo().feed(&["lfs", "smudge"], &work.read("file.bin")), b"an LFS object\n");
    for (name, repo) in [("app", &app), ("many", &many)] {
        pair.wait_until_same(repo, name);
        // Not to `main`, which `alias` follows in the region and not in a mirror.
        repo.commit("newer", "new", "written by a newer build\n");
        repo.git(&["push", "-q", &pair.url(US, name), "newer"]);
        pair.wait_until_same(repo, name);
    }
    pair.ok(&["verify", "dr", "--deep"]);
}

/// Both stores of the source are rolled back together: only the replica knows.
#[test]
fn a_host_whose_region_was_rolled_back_takes_no_pushes() {
    let mut pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", "--mirror", &pair.url(US, "app")]);
    pair.wait_until_same(&repo, "app");
    pair.signal("TERM");
    assert_eq!(pair.exit_code(), Some(0));
    let (now, old) = (pair.path("data/us-east-1"), pair.path("old"));
    // A clean stop leaves one file of each table.
    assert_eq!(std::fs::metadata(now.join("table.db-wal")).map_or(0, |log| log.len()), 0);
    copy_folder(&now, &old);
    pair.restart();
    repo.commit("main", "more", "more\n");
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    pair.wait_until_same(&repo, "app");
    pair.kill();
    std::fs::remove_dir_all(&now).unwrap();
    copy_folder(&old, &now);
    pair.restart();
    repo.commit("main", "other", "another history\n");
    for name in ["app", "new"] {
        let output = repo.try_git(&["push", &pair.url(US, name), "main"]);
        assert!(!output.status.success(), "{name} was pushed to");
    }
    assert!(
        pair.log().contains("us-east-1 was rolled back: eu-west-1 holds changes that us-east-1 lacks"),
        "{}",
        pair.log()
    );
    // What it has is served.
    mirror(&pair, US, "app");
}

/// A store that is lost or swapped while its host runs: not ready, no push is taken, and all is well once it is back.
#[test]
fn a_host_whose_store_is_lost_while_it_runs_says_so_and_takes_no_pushes() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", "--mirror", &pair.url(US, "app")]);
    pair.wait_until_same(&repo, "app");
    let ready =
        |region: usize| pair.raw(region, "GET /_ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(ready(US).starts_with("HTTP/1.1 200"), "{}", ready(US));
    let region = pair.path("data/us-east-1");
    let (objects, table, aside) = (region.join("objects"), region.join("table.db"), pair.path("aside"));
    let identity = objects.join("identity");
    for lost in [&identity, &table, &objects] {
        std::fs::rename(lost, &aside).unwrap();
        pair.wait(|| ready(US).starts_with("HTTP/1.1 503"));
        // Which stores, only the log says.
        assert!(!ready(US).contains("identity") && !ready(US).contains("table.db"), "{}", ready(US));
        assert!(ready(EU).starts_with("HTTP/1.1 200"), "{}", ready(EU));
        repo.commit("main", "more", "more\n");
        let output = repo.try_git(&["push", &pair.url(US, "app"), "main"]);
        assert!(!output.status.success(), "{} is lost, and a push was taken", lost.display());
        // What the host puts beside packs may have made the folder anew, without an identity.
        let _ = std::fs::remove_dir_all(lost);
        std::fs::rename(&aside, lost).unwrap();
        pair.wait(|| ready(US).starts_with("HTTP/1.1 200"));
        repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
        pair.wait_until_same(&repo, "app");
    }
    for words in ["object store lacks the identity", "is gone, and was there when it was opened"] {
        assert!(pair.log().contains(words), "{words}: {}", pair.log());
    }
}
