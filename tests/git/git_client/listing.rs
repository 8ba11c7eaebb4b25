//! Refs, beside `git ls-remote`.

use gitferry_git::client::{ClientError, ReceivePack, RemoteRefs, UploadPack};
use gitferry_git::protocol::Version;
use gitferry_git::refs::RefValue;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::scripted_server::{FORMATS, GitServer, VERSIONS, ways};

/// As `git ls-remote --symref` writes them, without peeled tags.
fn as_ls_remote(refs: &RemoteRefs) -> Vec<String> {
    let mut lines = Vec::new();
    match &refs.head {
        Some(RefValue::Symbolic(target)) => {
            lines.push(format!("ref: {target}\tHEAD"));
            lines.extend(refs.object(target.as_bstr()).map(|id| format!("{id}\tHEAD")));
        }
        Some(RefValue::Object(id)) => lines.push(format!("{id}\tHEAD")),
        None => {}
    }
    for entry in refs.refs.iter() {
        lines.extend(refs.symbolic.get(entry.name).map(|target| format!("ref: {target}\t{}", entry.name)));
        lines.push(format!("{}\t{}", entry.id.unwrap(), entry.name));
    }
    lines
}

fn ls_remote(repo: &GitRepo, version: Version, patterns: &[&str]) -> Vec<String> {
    let version = format!("protocol.version={}", VERSIONS.iter().position(|known| *known == version).unwrap());
    let arguments = [&["-c", &version, "ls-remote", "--symref", repo.path.to_str().unwrap()], patterns].concat();
    let output = String::from_utf8(repo.try_git(&arguments).stdout).unwrap();
    output.lines().filter(|line| !line.ends_with("^{}")).map(String::from).collect()
}

#[test]
fn refs_are_those_that_git_lists() {
    let dir = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let repo = GitRepo::with_history(dir.path().join(format), &["--object-format", format]);
        repo.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/side"]);
        repo.git(&["tag", "tree", "main^{tree}"]);
        for detached in [false, true] {
            if detached {
                repo.git(&["update-ref", "--no-deref", "HEAD", "main~2"]);
            }
            for (version, stateless) in ways() {
                let server = GitServer::new(&repo, version, stateless);
                let mut upload_pack = UploadPack::open(&server).unwrap();
                assert_eq!(upload_pack.version(), version);
                // A second look comes to the same, on a new connection if need be.
                for _ in 0..2 {
                    let refs = upload_pack.list(&[]).unwrap();
                    assert_eq!(refs.format.to_string(), format);
                    assert_eq!(as_ls_remote(&refs), ls_remote(&repo, version, &[]), "{version:?} {stateless}");
                    assert!(refs.unusable.is_empty());
                }
                let some = upload_pack.list(&[b"refs/tags/v", b"refs/heads/a", b"refs/tags/v1"]).unwrap();
                let all = ls_remote(&repo, version, &[]);
                let wanted = ["\tHEAD", "\trefs/tags/v", "\trefs/heads/a"];
                let expected: Vec<&String> =
                    all.iter().filter(|line| wanted.iter().any(|part| line.contains(part))).collect();
                let listed = as_ls_remote(&some);
                // What HEAD names is not asked for, so that only its symbolic value can be told.
                let head = all.iter().filter(|line| line.ends_with("\tHEAD") && !line.starts_with("ref:")).count();
                let skipped = usize::from(!detached) * head;
                assert_eq!(listed.len(), expected.len() - skipped, "{version:?} {stateless} {listed:?}");
                assert!(listed.iter().all(|line| expected.contains(&line)), "{listed:?}");
                if version == Version::V2 {
                    assert_eq!(upload_pack.capabilities().agent().unwrap()[..4], *b"git/");
                    assert!(upload_pack.capabilities().fetch_has("wait-for-done"));
                }
            }
        }
    }
}

#[test]
fn nothing_at_all() {
    let dir = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let repo = GitRepo::init(dir.path().join(format), &["--object-format", format]);
        for (version, stateless) in ways() {
            let server = GitServer::new(&repo, version, stateless);
            let refs = UploadPack::open(&server).unwrap().list(&[]).unwrap();
            assert_eq!((refs.refs.len(), refs.format.to_string()), (0, format.to_owned()));
            let unborn = RefValue::Symbolic("refs/heads/main".try_into().unwrap());
            let expected = (version == Version::V2).then_some(unborn);
            assert_eq!(refs.head, expected, "{version:?} {stateless}");
            let target = ReceivePack::open(&server).unwrap();
            assert_eq!((target.refs().refs.len(), target.format().to_string()), (0, format.to_owned()));
            assert!(target.capabilities().has("report-status-v2"));
        }
    }
}

#[test]
fn what_receives_tells_of_borrowed_objects_and_hides_what_is_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let lender = GitRepo::with_history(dir.path().join("lender"), &[]);
    let path = dir.path().join("repo");
    lender.git(&["clone", "-q", "--bare", "--shared", ".", path.to_str().unwrap()]);
    let repo = GitRepo::at(path);
    let only_there = lender.commit("elsewhere", "new", "new");
    repo.git(&["config", "receive.hideRefs", "refs/notes"]);
    repo.git(&["config", "uploadpack.hideRefs", "refs/tags"]);
    for (version, stateless) in ways() {
        let server = GitServer::new(&repo, version, stateless);
        let target = ReceivePack::open(&server).unwrap();
        assert!(target.extra_haves().contains(&crate::git_client::fetching::id(&only_there)));
        assert!(target.refs().object("refs/notes/commits".into()).is_none());
        assert!(target.refs().object("refs/tags/v1".into()).is_some());
        assert_eq!((&target.refs().head, target.shallow().len()), (&None, 0));
        let refs = UploadPack::open(&server).unwrap().list(&[]).unwrap();
        assert!(refs.object("refs/tags/v1".into()).is_none());
    }
}

#[test]
fn shallow_repositories_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let whole = GitRepo::with_history(dir.path().join("whole"), &[]);
    let url = format!("file://{}", whole.path.display());
    whole.git(&["clone", "-q", "--bare", "--depth=2", "--no-single-branch", &url, "../shallow"]);
    let shallow = GitRepo::at(dir.path().join("shallow"));
    for stateless in [false, true] {
        let server = GitServer::new(&shallow, Version::V0, stateless);
        let target = ReceivePack::open(&server).unwrap();
        let mut told: Vec<String> = target.shallow().iter().map(ToString::to_string).collect();
        told.sort();
        let file = std::fs::read_to_string(shallow.path.join("shallow")).unwrap();
        let mut expected: Vec<&str> = file.lines().collect();
        expected.sort_unstable();
        assert_eq!(told, expected);
    }
}

#[test]
fn what_is_no_git_server_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let repo = GitRepo::with_history(dir.path().join("repo"), &[]);
    for (version, stateless) in ways() {
        let server = GitServer::new(&repo, version, stateless).saying("object-format=sha1", "object-format=md5");
        let error = UploadPack::open(&server).err().unwrap();
        assert!(matches!(error, ClientError::Unsupported { .. }) && error.to_string().contains("md5"), "{error}");
    }
    let nothing = GitServer::new(&GitRepo::at(dir.path().join("none")), Version::V2, false);
    let error = UploadPack::open(&nothing).err().unwrap();
    assert!(error.to_string().contains("hung up"), "{error}");
    let old = GitServer::new(&repo, Version::V2, true).saying("ls-refs", "ls-rests");
    assert!(matches!(UploadPack::open(&old), Err(ClientError::Unsupported { .. })));
}
