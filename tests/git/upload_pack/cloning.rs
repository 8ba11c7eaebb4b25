//! Whole clones.

use std::path::{Path, PathBuf};

use gix::hash::Kind as Format;
use tempfile::TempDir;

use crate::upload_pack::repo::{FORMATS, Repo, git, git_in};
use gitferry_test_support::serving::Server;

/// Clones with some arguments; where to.
pub fn clone(dir: &TempDir, name: &str, url: &str, version: &str, arguments: &[&str]) -> PathBuf {
    let to = dir.path().join(name);
    let version = format!("protocol.version={version}");
    let all = [&["-c", &version, "clone", "-q"], arguments, &[url, to.to_str().unwrap()]].concat();
    git(dir.path(), &all);
    to
}

/// All objects that a repository has, reachable or not.
pub fn all_objects(repo: &Path) -> String {
    git(repo, &["cat-file", "--batch-all-objects", "--batch-check"])
}

pub fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines
}

/// Compares two clones: refs, `HEAD`, and objects; both are sound.
pub fn assert_same_clones(ours: &Path, theirs: &Path) {
    for arguments in [&["for-each-ref"][..], &["rev-parse", "--symbolic-full-name", "HEAD"]] {
        assert_eq!(git(ours, arguments), git(theirs, arguments));
    }
    let reachable = |repo| git(repo, &["rev-list", "--objects", "--all", "--missing=print"]);
    assert_eq!(sorted(&reachable(ours)), sorted(&reachable(theirs)));
    let fsck = git_in(ours, &["fsck", "--strict", "--no-dangling"], b"");
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stderr));
}

#[test]
fn clones_are_those_of_git() {
    for format in FORMATS {
        let repo = Repo::with_history(format);
        let server = Server::start(repo.view());
        let dir = tempfile::tempdir().unwrap();
        let ways: &[&[&str]] = &[&[], &["--mirror"], &["--bare", "--single-branch"], &["--no-tags", "-b", "side"]];
        for (at, arguments) in ways.iter().enumerate() {
            let theirs = clone(&dir, &format!("theirs{at}"), &repo.url(), "2", arguments);
            for version in ["0", "1", "2"] {
                for (transport, url) in [("git", server.git_url()), ("http", server.http_url())] {
                    let ours = clone(&dir, &format!("{transport}{at}v{version}"), &url, version, arguments);
                    assert_same_clones(&ours, &theirs);
                    assert_eq!(sorted(&all_objects(&ours)), sorted(&all_objects(&theirs)));
                    let sent = server.sent();
                    assert!(sent.len() == 1 && sent[0].objects > 0, "{sent:?}");
                    std::fs::remove_dir_all(ours).unwrap();
                }
            }
        }
        assert_eq!(server.errors(), [""; 0]);
    }
}

#[test]
fn a_clone_of_one_pack_copies_it_as_it_is() {
    let repo = Repo::with_history(Format::Sha1);
    repo.git(&["repack", "-q", "-a", "-d", "--depth=50"]);
    let server = Server::start(repo.view());
    let dir = tempfile::tempdir().unwrap();
    clone(&dir, "ours", &server.git_url(), "2", &["--mirror"]);
    let pack = repo.packs()[0].metadata().unwrap().len();
    let sent = server.sent();
    assert_eq!((sent[0].bytes, sent[0].recompressed), (pack, 0));
}

#[test]
fn deltas_by_id_and_duplicates_in_several_packs_are_sent_once() {
    let repo = Repo::with_history(Format::Sha1);
    repo.git(&["config", "repack.useDeltaBaseOffset", "false"]);
    repo.git(&["repack", "-q", "-a", "-d", "-f"]);
    let all = repo.git(&["rev-list", "--objects", "--all"]);
    // Parts of everything again, in packs with other deltas.
    for (step, offset) in [(2, "--delta-base-offset"), (3, "--no-reuse-delta")] {
        let some: String =
            all.lines().step_by(step).map(|line| format!("{}\n", line.split(' ').next().unwrap())).collect();
        let base = repo.path().join("objects/pack/pack");
        let output = git_in(repo.path(), &["pack-objects", "-q", offset, base.to_str().unwrap()], some.as_bytes());
        assert!(output.status.success());
    }
    assert_eq!(repo.packs().len(), 3);
    let server = Server::start(repo.view());
    let dir = tempfile::tempdir().unwrap();
    let theirs = clone(&dir, "theirs", &repo.url(), "2", &["--mirror"]);
    let ours = clone(&dir, "ours", &server.git_url(), "2", &["--mirror"]);
    assert_same_clones(&ours, &theirs);
    assert_eq!(server.sent()[0].objects as usize, all.lines().count());
}

#[test]
fn empty_repositories_and_unborn_and_detached_heads() {
    for format in FORMATS {
        let repo = Repo::empty(format);
        let server = Server::start(repo.view());
        let dir = tempfile::tempdir().unwrap();
        for version in ["0", "2"] {
            for (transport, url) in [("git", server.git_url()), ("http", server.http_url())] {
                let theirs = clone(&dir, &format!("theirs{transport}{version}"), &repo.url(), version, &[]);
                let ours = clone(&dir, &format!("empty{transport}{version}"), &url, version, &[]);
                assert_eq!(git(&ours, &["symbolic-ref", "HEAD"]), git(&theirs, &["symbolic-ref", "HEAD"]));
                assert_eq!(git(&ours, &["rev-parse", "--show-object-format"]), format.to_string());
            }
        }
        let repo = Repo::with_history(format);
        repo.git(&["symbolic-ref", "HEAD", "refs/heads/unborn"]);
        server.show(repo.view());
        let ours = clone(&dir, "unborn", &server.git_url(), "2", &[]);
        assert_eq!(git(&ours, &["symbolic-ref", "HEAD"]), "refs/heads/unborn");
        repo.git(&["update-ref", "--no-deref", "HEAD", "main~9"]);
        server.show(repo.view());
        for version in ["0", "2"] {
            let ours = clone(&dir, &format!("detached{version}"), &server.git_url(), version, &[]);
            assert_eq!(git(&ours, &["rev-parse", "HEAD"]), repo.rev_parse("main~9").to_string());
        }
        assert_eq!(server.errors(), [""; 0]);
    }
}
