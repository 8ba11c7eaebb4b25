//! Fetches into repositories that have something already.

use gix::hash::Kind as Format;

use crate::upload_pack::cloning::{assert_same_clones, clone};
use crate::upload_pack::repo::{FORMATS, Repo, git};
use crate::upload_pack::traced::run;
use gitferry_test_support::serving::Server;

/// The ways in which a client can talk.
fn ways(server: &Server) -> Vec<(String, &'static str)> {
    let urls = [server.git_url(), server.http_url()];
    urls.into_iter().flat_map(|url| ["0", "2"].map(|version| (url.clone(), version))).collect()
}

#[test]
fn a_new_commit_brings_only_what_is_new() {
    for format in FORMATS {
        let repo = Repo::with_history(format);
        let server = Server::start(repo.view());
        let dir = tempfile::tempdir().unwrap();
        let clones: Vec<_> = ways(&server)
            .into_iter()
            .enumerate()
            .map(|(at, (url, version))| (clone(&dir, &format!("c{at}"), &url, version, &[]), version))
            .collect();
        server.sent();
        repo.commit("main", 1, "new");
        repo.git(&["tag", "-a", "-m", "new", "new", "main"]);
        repo.pack();
        server.show(repo.view());
        let theirs = clone(&dir, "theirs", &repo.url(), "2", &[]);
        for (ours, version) in clones {
            git(&ours, &["-c", &format!("protocol.version={version}"), "pull", "-q"]);
            assert_same_clones(&ours, &theirs);
            let sent = server.sent();
            // Commit, root tree, dir1, the file; and the tag, which comes along.
            assert_eq!(sent.iter().map(|pack| pack.objects).collect::<Vec<_>>(), [5], "{version}");
        }
        assert_eq!(server.errors(), [""; 0]);
    }
}

#[test]
fn thin_packs_are_smaller_and_complete() {
    let repo = Repo::with_history(Format::Sha1);
    let server = Server::start(repo.view());
    let dir = tempfile::tempdir().unwrap();
    let ours = clone(&dir, "ours", &server.git_url(), "2", &[]);
    let old = repo.git(&["rev-parse", "main"]);
    repo.import(
        format!(
            "commit refs/heads/main\ncommitter C <c@x> 1710000000 +0000\ndata 1\nx\nfrom {old}\n\
        M 100644 inline dir0/sub/file0\ndata 3\nabc\n"
        )
        .as_bytes(),
    );
    // Everything in one pack, so that old trees are the bases of new ones or the other way round.
    repo.git(&["repack", "-q", "-a", "-d", "-f", "--depth=50"]);
    server.show(repo.view());
    server.sent();
    git(&ours, &["fetch", "-q"]);
    assert_eq!(server.sent()[0].objects, 5);
    git(&ours, &["fsck", "--strict"]);
    assert_eq!(git(&ours, &["rev-parse", "origin/main"]), repo.git(&["rev-parse", "main"]));
}

#[test]
fn histories_that_have_diverged_need_rounds() {
    let repo = Repo::with_history(Format::Sha1);
    let server = Server::start(repo.view());
    let dir = tempfile::tempdir().unwrap();
    let mut clones = Vec::new();
    for (at, (url, version)) in ways(&server).into_iter().enumerate() {
        let ours = clone(&dir, &format!("c{at}"), &url, version, &[]);
        // The client has a history of its own that is newer than all that the server knows.
        for number in 0..150 {
            git(&ours, &["commit", "-q", "--allow-empty", "-m", &format!("own {number}")]);
        }
        clones.push((ours, version));
    }
    repo.commit("main", 70, "theirs");
    repo.commit("side", 3, "aside");
    server.show(repo.view());
    server.sent();
    for (ours, version) in clones {
        git(&ours, &["-c", &format!("protocol.version={version}"), "fetch", "-q", "origin"]);
        git(&ours, &["fsck", "--strict", "--no-dangling"]);
        for branch in ["main", "side"] {
            assert_eq!(git(&ours, &["rev-parse", &format!("origin/{branch}")]), repo.git(&["rev-parse", branch]));
        }
        let sent: u64 = server.sent().iter().map(|pack| pack.objects).sum();
        // 73 commits with root, directory and file each.
        assert_eq!(sent, 73 * 4, "{version}");
    }
    assert_eq!(server.errors(), [""; 0]);
}

#[test]
fn deleted_and_forced_branches_and_single_ids() {
    let repo = Repo::with_history(Format::Sha1);
    let server = Server::start(repo.view());
    let dir = tempfile::tempdir().unwrap();
    for (at, (url, version)) in ways(&server).into_iter().enumerate() {
        let version = format!("protocol.version={version}");
        let ours = dir.path().join(format!("r{at}"));
        git(dir.path(), &["init", "-q", ours.to_str().unwrap()]);
        for name in ["main~10", "v1", "main~33", "refs/notes/commits", "main"] {
            let id = repo.rev_parse(name).to_string();
            git(&ours, &["-c", &version, "fetch", "-q", &url, &format!("{id}:refs/got/{at}")]);
            assert_eq!(git(&ours, &["rev-parse", &format!("refs/got/{at}")]), id);
            git(&ours, &["fsck", "--strict", "--no-dangling"]);
            git(&ours, &["update-ref", "-d", &format!("refs/got/{at}")]);
        }
    }
    let ours = clone(&dir, "mirror", &server.git_url(), "2", &["--mirror"]);
    repo.git(&["branch", "-D", "side"]);
    repo.git(&["update-ref", "refs/heads/main", "main~4"]);
    repo.git(&["symbolic-ref", "-d", "refs/heads/alias"]);
    server.show(repo.view());
    git(&ours, &["remote", "update", "--prune"]);
    assert_eq!(git(&ours, &["for-each-ref"]), repo.git(&["for-each-ref"]));
    assert_eq!(server.errors(), [""; 0]);
}

#[test]
fn skewed_clocks_cost_bytes_but_no_objects() {
    let repo = Repo::empty(Format::Sha1);
    let mut script = String::new();
    for number in 0..60u64 {
        let time = 1_700_000_000 + number.wrapping_mul(7_919) % 61 * 100_000;
        let branch = if number % 3 == 0 { "a" } else { "b" };
        script += &format!("commit refs/heads/{branch}\ncommitter C <c@x> {time} +0000\ndata 1\n{}\n", number % 10);
        if number > 6 && number % 5 == 0 {
            script += &format!("merge refs/heads/{}\n", if branch == "a" { "b" } else { "a" });
        }
        script += &format!("M 100644 inline f{}\ndata 4\n{number:04}\n", number % 7);
    }
    repo.import(script.as_bytes());
    repo.pack();
    let dir = tempfile::tempdir().unwrap();
    for have in ["a~3", "b~9", "a~6", "b~14"] {
        repo.git(&["branch", "-f", "old", have]);
        let server = Server::start(repo.view());
        for version in ["0", "2"] {
            let ours =
                clone(&dir, &format!("{have}{version}"), &server.git_url(), version, &["--single-branch", "-b", "old"]);
            git(&ours, &["-c", &format!("protocol.version={version}"), "fetch", "-q", "origin", "a", "b"]);
            git(&ours, &["fsck", "--strict", "--no-dangling"]);
        }
        assert_eq!(server.errors(), [""; 0]);
    }
}

/// Whether one more request is needed is decided by the ancestors of what the client names, and not held up by wanted
/// trees and blobs.
#[test]
fn as_many_requests_are_made_as_to_git() {
    let commit = |branch: &str, from: &str, time: u32| {
        format!(
            "commit refs/heads/{branch}\ncommitter C <c@x> {time} +0000\ndata 1\nx\n{from}M 100644 inline {branch}{time}\ndata 1\ny\n"
        )
    };
    let repo = Repo::empty(Format::Sha1);
    repo.import(
        [
            commit("main", "", 1_700_000_000),
            commit("main", "", 1_700_000_060),
            commit("cat", "from refs/heads/main\n", 1_700_000_120),
        ]
        .concat()
        .as_bytes(),
    );
    repo.pack();
    let server = Server::start(repo.view());
    let dir = tempfile::tempdir().unwrap();
    let mut clients = Vec::new();
    for version in ["0", "2"] {
        for (name, url) in [("git", repo.url()), ("stateful", server.git_url()), ("http", server.http_url())] {
            clients.push((name, version, clone(&dir, &format!("{name}{version}"), &url, version, &[])));
        }
    }
    // From the parent of `cat`, and tags of a tree and a blob beside it.
    repo.import(
        [commit("main", "from refs/heads/main^0\n", 1_700_000_180), commit("main", "", 1_700_000_240)]
            .concat()
            .as_bytes(),
    );
    repo.git(&["tag", "-a", "-m", "tree", "tree", "main^{tree}"]);
    repo.git(&["tag", "blob", "main:main1700000240"]);
    repo.pack();
    server.show(repo.view());
    for tags in ["--no-tags", "--tags"] {
        let mut requests = Vec::new();
        for (name, version, client) in &clients {
            let version = format!("protocol.version={version}");
            let traced = run(client, &["-c", &version, "fetch", "--progress", tags]);
            assert!(traced.ok, "{}", traced.said);
            requests.push((*name, version, traced.requests, traced.haves));
        }
        for of_version in requests.chunks(3) {
            for ours in &of_version[1..] {
                assert_eq!((ours.2, ours.3), (of_version[0].2, of_version[0].3), "{tags}: {requests:?}");
            }
        }
    }
}
