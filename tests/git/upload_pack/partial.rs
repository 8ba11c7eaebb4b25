//! Partial clones, and what they fetch later.

use crate::upload_pack::cloning::{all_objects, assert_same_clones, clone, sorted};
use crate::upload_pack::repo::{FORMATS, Repo, git, git_fails};
use gitferry_test_support::serving::Server;

const FILTERS: [&str; 16] = [
    "blob:none",
    "blob:limit=400",
    "blob:limit=1k",
    "tree:0",
    "tree:1",
    "tree:2",
    "tree:3",
    "combine:tree:3+blob:limit=300",
    "object:type=commit",
    "object:type=tree",
    "object:type=blob",
    "object:type=tag",
    "combine:object:type=blob+blob:limit=400",
    "sparse:oid=patterns:list",
    "combine:sparse:oid=patterns:list+blob:limit=1k",
    "combine:sparse:oid=patterns:list+tree:3",
];

/// A branch with a list of sparse patterns.
fn add_patterns(repo: &Repo) {
    let list = "/*\n!/*/\n/dir0/\n!file3\n/dir2/sub/file?\n";
    let script = format!(
        "commit refs/heads/patterns\ncommitter C <c@x> 1690000000 +0000\ndata 1\nx\n\
         M 100644 inline list\ndata {}\n{list}\nM 100644 inline dir1/x\ndata 1\ny\nM 100644 inline dir0/x\ndata 1\nz\n",
        list.len()
    );
    repo.import(script.as_bytes());
    repo.pack();
}

#[test]
fn partial_clones_lack_what_they_should_and_get_it_when_they_need_it() {
    for format in FORMATS {
        let repo = Repo::with_history(format);
        add_patterns(&repo);
        let server = Server::start(repo.view());
        let dir = tempfile::tempdir().unwrap();
        for filter in FILTERS {
            let argument = format!("--filter={filter}");
            let arguments = ["--no-checkout", &argument];
            let theirs = clone(&dir, &format!("t{filter}"), &repo.url(), "2", &arguments);
            for (transport, url, version) in
                [("g", server.git_url(), "2"), ("h", server.http_url(), "2"), ("g", server.git_url(), "0")]
            {
                let ours = clone(&dir, &format!("o{transport}{version}{filter}"), &url, version, &arguments);
                assert!(
                    sorted(&all_objects(&ours)) == sorted(&all_objects(&theirs)),
                    "{filter}: other objects than from git"
                );
                assert_same_clones(&ours, &theirs);
                if filter.starts_with("object:type=") && filter != "object:type=commit" || filter.contains("type=blob")
                {
                    continue; // Git follows histories only where all commits are there.
                }
                git(&ours, &["checkout", "-q", "main"]);
                for path in ["dir0/sub/file0", "dir1/sub/file7", "dir2/sub/file5"] {
                    let blob = git(repo.path(), &["show", &format!("main:{path}")]);
                    assert_eq!(std::fs::read_to_string(ours.join(path)).unwrap().trim_end(), blob);
                }
                assert_eq!(git(&ours, &["log", "-p", "origin/side"]), git(repo.path(), &["log", "-p", "side"]));
                git(&ours, &["fsck"]);
            }
        }
        assert_eq!(server.errors(), [""; 0]);
    }
}

#[test]
fn a_partial_clone_fetches_new_commits_without_deltas_on_what_it_lacks() {
    let repo = Repo::with_history(FORMATS[0]);
    let server = Server::start(repo.view());
    let dir = tempfile::tempdir().unwrap();
    let ours = clone(&dir, "ours", &server.http_url(), "2", &["--filter=blob:none", "--no-checkout"]);
    repo.commit("main", 5, "new");
    repo.git(&["repack", "-q", "-a", "-d", "-f"]);
    server.show(repo.view());
    server.sent();
    git(&ours, &["fetch", "-q"]);
    // Commits, root trees and directories: no blobs, and no fetch for bases of deltas.
    assert_eq!(server.sent().iter().map(|pack| pack.objects).collect::<Vec<_>>(), [15]);
    git(&ours, &["checkout", "-q", "origin/main"]);
    assert!(ours.join("dir1/new").exists());
}

#[test]
fn filters_that_are_not_supported_are_refused_by_name() {
    let repo = Repo::with_history(FORMATS[0]);
    let server = Server::start(repo.view());
    let dir = tempfile::tempdir().unwrap();
    let hidden = repo.git(&["hash-object", "-w", "--stdin"]);
    repo.git(&["update-ref", "refs/hidden/list", &hidden]);
    repo.pack();
    let hidden = format!("sparse:oid={hidden}");
    for version in ["0", "2"] {
        for (filter, told) in [
            ("sparse:oid=nowhere:patterns", "names no blob that a ref reaches"),
            ("sparse:oid=main:nothing/there", "names no blob that a ref reaches"),
            ("sparse:oid=main:dir0", "names no blob that a ref reaches"),
            (&hidden, "names no blob that a ref reaches"),
        ] {
            let version = format!("protocol.version={version}");
            let argument = format!("--filter={filter}");
            let error = git_fails(dir.path(), &["-c", &version, "clone", &argument, &server.git_url(), "no"]);
            assert!(error.contains(filter) && error.contains(told), "{error}");
            assert!(!dir.path().join("no").exists());
        }
    }
}
