//! Which objects a server has.

use gitferry_git::client::{ClientError, FetchPack, UploadPack};
use gitferry_git::protocol::Version;
use gix::ObjectId;

use crate::git_client::fetching::{fetched, id, tips};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::scripted_server::{FORMATS, GitServer, ways};

/// Ids that no object has.
fn strangers(format: &str, count: usize) -> Vec<ObjectId> {
    let width = if format == "sha1" { 20 } else { 32 };
    let bytes = |n: usize| (0..width).map(|at| (n >> (8 * (at % 4))) as u8 ^ 0xa5).collect::<Vec<u8>>();
    (0..count).map(|n| ObjectId::from_bytes_or_panic(&bytes(n))).collect()
}

#[test]
fn known_objects_are_told_apart_from_unknown_ones() {
    let dir = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let repo = GitRepo::with_history(dir.path().join(format), &["--object-format", format]);
        let commits: Vec<ObjectId> = repo.git(&["rev-list", "--all"]).lines().map(id).collect();
        let want = tips(&repo, &["main"])[0];
        for (version, stateless) in ways() {
            let mut haves = strangers(format, 3);
            // The first is the tip itself: from there on Git says that it is ready, about strangers, too.
            haves.insert(0, want);
            haves.extend(&commits);
            haves.extend(strangers(format, 9000));
            haves.extend(&commits);
            let server = GitServer::new(&repo, version, stateless);
            let mut upload_pack = UploadPack::open(&server).unwrap();
            let known = upload_pack.known(want, &haves).unwrap();
            let mut expected = vec![want];
            expected.extend(commits.iter().filter(|commit| **commit != want));
            assert_eq!(known, expected, "{format} {version:?} {stateless}");
            assert!(upload_pack.known(want, &strangers(format, 300)).unwrap().is_empty());
            assert!(upload_pack.known(want, &[]).unwrap().is_empty());
            fetched(&mut upload_pack, &FetchPack { wants: vec![want], haves: known, ..FetchPack::default() });
        }
    }
}

/// Thousands of acknowledgments do not fit into a pipe.
#[test]
fn many_known_objects_do_not_block() {
    let dir = tempfile::tempdir().unwrap();
    let repo = GitRepo::init(dir.path().join("repo"), &[]);
    let mut script = String::new();
    for n in 0..3000 {
        script += &format!("commit refs/heads/main\ncommitter C <c@example.com> {n} +0000\ndata 1\nx\n");
    }
    repo.feed(&["fast-import", "--quiet"], script.as_bytes());
    let commits: Vec<ObjectId> = repo.git(&["rev-list", "main"]).lines().map(id).collect();
    for (version, stateless) in ways() {
        let server = GitServer::new(&repo, version, stateless);
        let mut upload_pack = UploadPack::open(&server).unwrap();
        assert_eq!(upload_pack.known(commits[0], &commits).unwrap(), commits, "{version:?} {stateless}");
        let fetch = FetchPack { wants: vec![commits[0]], haves: commits.clone(), ..FetchPack::default() };
        assert_eq!(fetched(&mut upload_pack, &fetch).1, 0);
        let many = [strangers("sha1", 70_000), commits.clone()].concat();
        let fetch = FetchPack { haves: many, ..fetch };
        assert_eq!(fetched(&mut upload_pack, &fetch).1, 3001);
    }
}

#[test]
fn older_servers() {
    let dir = tempfile::tempdir().unwrap();
    let repo = GitRepo::with_history(dir.path().join("repo"), &[]);
    let main = tips(&repo, &["main"])[0];
    let haves = [vec![main], strangers("sha1", 10), tips(&repo, &["main~1"])].concat();
    for stateless in [false, true] {
        // Without wait-for-done the pack comes with the acknowledgments, and the conversation is over.
        let server = GitServer::new(&repo, Version::V2, stateless).saying(" wait-for-done", "");
        let mut upload_pack = UploadPack::open(&server).unwrap();
        for _ in 0..2 {
            assert_eq!(upload_pack.known(main, &haves).unwrap(), [vec![main], tips(&repo, &["main~1"])].concat());
        }
        fetched(&mut upload_pack, &FetchPack { wants: vec![main], ..FetchPack::default() });
        let server = GitServer::new(&repo, Version::V0, stateless).saying(" multi_ack_detailed", "");
        let error = UploadPack::open(&server).unwrap().known(main, &haves).unwrap_err();
        assert!(matches!(error, ClientError::Unsupported { .. }), "{error}");
    }
    for (version, stateless) in ways() {
        let server = GitServer::new(&repo, version, stateless);
        let error = UploadPack::open(&server).unwrap().known(strangers("sha1", 1)[0], &haves).unwrap_err();
        assert!(matches!(error, ClientError::Remote { .. }), "{error}");
    }
}
