//! Packs, judged by `git index-pack --strict` and `git fsck`.

use std::io::Read;

use gitferry_git::client::{ClientError, FetchPack, UploadPack};
use gitferry_git::protocol::{Filter, Version};
use gix::ObjectId;

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::scripted_server::{FORMATS, GitServer, ways};

pub fn id(text: &str) -> ObjectId {
    ObjectId::from_hex(text.as_bytes()).unwrap()
}

pub fn tips(repo: &GitRepo, names: &[&str]) -> Vec<ObjectId> {
    names.iter().map(|name| id(&repo.git(&["rev-parse", name]))).collect()
}

/// Fetches; the pack and what its header announces.
pub fn fetched(upload_pack: &mut UploadPack<'_>, fetch: &FetchPack) -> (Vec<u8>, u32) {
    let mut input = upload_pack.fetch(fetch).unwrap();
    let mut pack = Vec::new();
    let bytes = std::io::copy(&mut input, &mut pack).unwrap();
    assert_eq!(bytes, pack.len() as u64);
    assert_eq!(input.read(&mut [0; 8]).unwrap(), 0);
    (pack, input.objects())
}

#[test]
fn packs_are_whole_and_thin_ones_complete_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let repo = GitRepo::with_history(dir.path().join(format), &["--object-format", format]);
        // Large enough for several packets, and for deltas.
        let mut big = noise(1, 300_000);
        repo.commit_bytes("main", "big", &big);
        let old = repo.git(&["rev-parse", "main"]);
        big.extend(b"a little more");
        repo.commit_bytes("main", "big", &big);
        // With bitmaps, Git makes no thin packs.
        repo.git(&["-c", "repack.writeBitmaps=false", "repack", "-adfq"]);
        // Version 0 only gives out what refs name.
        repo.git(&["update-ref", "refs/tags/old", &old]);
        for (version, stateless) in ways() {
            for bands in ["side-band-64k", "side-band", ""] {
                if version == Version::V2 && bands != "side-band-64k" {
                    continue;
                }
                let mut server = GitServer::new(&repo, version, stateless);
                if bands != "side-band-64k" {
                    server = server.saying(" side-band-64k", "");
                }
                if bands.is_empty() {
                    server = server.saying(" side-band", "");
                }
                let name = format!("{format}-{version:?}-{stateless}-{bands}");
                let to = GitRepo::init(dir.path().join(&name), &["--object-format", format]);
                let mut upload_pack = UploadPack::open(&server).unwrap();
                let first = FetchPack { wants: vec![id(&old), id(&old)], ofs_delta: true, ..FetchPack::default() };
                let (pack, objects) = fetched(&mut upload_pack, &first);
                to.feed(&["index-pack", "--strict", "--stdin"], &pack);
                assert_eq!(to.objects().len(), objects as usize, "{name}");
                let rest = FetchPack {
                    wants: tips(&repo, &["main", "side", "v2", "refs/notes/commits"]),
                    haves: vec![id(&old), id(&old), ObjectId::from_hex(old.replace('1', "2").as_bytes()).unwrap()],
                    thin: true,
                    ofs_delta: false,
                    ..FetchPack::default()
                };
                let (pack, objects) = fetched(&mut upload_pack, &rest);
                assert!(pack.len() < 10_000, "{name}: {} bytes", pack.len());
                to.feed(&["index-pack", "--strict", "--fix-thin", "--stdin"], &pack);
                for name in ["main", "side"] {
                    to.git(&["update-ref", &format!("refs/heads/{name}"), &repo.git(&["rev-parse", name])]);
                }
                to.git(&["fsck", "--strict", "--no-dangling"]);
                assert!(
                    objects > 0 && repo.git(&["rev-list", "main", "side"]) == to.git(&["rev-list", "main", "side"])
                );
                // The conversation goes on, or a new one begins.
                assert!(upload_pack.list(&[]).unwrap().refs.len() > 5);
            }
        }
    }
}

#[test]
fn a_pack_that_is_not_read_to_its_end_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let repo = GitRepo::with_history(dir.path().join("repo"), &[]);
    repo.commit_bytes("main", "big", &noise(2, 3_000_000));
    for (version, stateless) in ways() {
        let server = GitServer::new(&repo, version, stateless);
        let mut upload_pack = UploadPack::open(&server).unwrap();
        let all = FetchPack { wants: tips(&repo, &["main"]), ..FetchPack::default() };
        let mut input = upload_pack.fetch(&all).unwrap();
        input.read_exact(&mut [0; 1000]).unwrap();
        drop(input);
        let (pack, _) = fetched(&mut upload_pack, &all);
        let to = GitRepo::init(dir.path().join(format!("{version:?}-{stateless}")), &[]);
        to.feed(&["index-pack", "--strict", "--stdin"], &pack);
    }
}

#[test]
fn parts_of_histories_and_of_trees() {
    let dir = tempfile::tempdir().unwrap();
    let repo = GitRepo::with_history(dir.path().join("repo"), &[]);
    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    for (version, stateless) in ways() {
        let server = GitServer::new(&repo, version, stateless);
        let mut upload_pack = UploadPack::open(&server).unwrap();
        let whole = FetchPack { wants: tips(&repo, &["main"]), ..FetchPack::default() };
        let to = GitRepo::init(dir.path().join(format!("{version:?}-{stateless}")), &[]);
        let kinds = |fetch: &FetchPack, upload_pack: &mut UploadPack<'_>| {
            let (pack, _) = fetched(upload_pack, fetch);
            let _ = std::fs::remove_dir_all(to.path.join("objects/pack"));
            std::fs::create_dir(to.path.join("objects/pack")).unwrap();
            to.feed(&["index-pack", "--stdin"], &pack);
            let all = to.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objecttype)"]);
            ["commit", "tree", "blob"].map(|kind| all.lines().filter(|line| *line == kind).count())
        };
        let [commits, trees, blobs] = kinds(&whole, &mut upload_pack);
        assert!(commits > 8 && trees > 8 && blobs > 3);
        for (filter, expected) in [("tree:0", [commits, 0, 0]), ("blob:none", [commits, trees, 0])] {
            let filter = Some(Filter::parse(filter.as_bytes()).unwrap());
            assert_eq!(kinds(&FetchPack { filter, ..whole.clone() }, &mut upload_pack), expected);
        }
        let deepen = FetchPack { deepen: Some(1), ..whole.clone() };
        assert_eq!(kinds(&deepen, &mut upload_pack)[0], 1);
        assert_eq!(upload_pack.fetch(&deepen).unwrap().shallow(), tips(&repo, &["main"]));
    }
    repo.git(&["config", "uploadpack.allowFilter", "false"]);
    for (version, stateless) in ways() {
        let server = GitServer::new(&repo, version, stateless);
        let filter = Some(Filter::parse(b"tree:0").unwrap());
        let fetch = FetchPack { wants: tips(&repo, &["main"]), filter, ..FetchPack::default() };
        let error = UploadPack::open(&server).unwrap().fetch(&fetch).err().unwrap();
        assert!(matches!(error, ClientError::Unsupported { .. }), "{error}");
    }
}

#[test]
fn a_shallow_source_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let whole = GitRepo::with_history(dir.path().join("whole"), &[]);
    let url = format!("file://{}", whole.path.display());
    whole.git(&["clone", "-q", "--bare", "--depth=2", &url, "../shallow"]);
    let shallow = GitRepo::at(dir.path().join("shallow"));
    for (version, stateless) in ways() {
        let server = GitServer::new(&shallow, version, stateless);
        let mut upload_pack = UploadPack::open(&server).unwrap();
        let fetch = FetchPack { wants: tips(&shallow, &["main"]), ..FetchPack::default() };
        let error = upload_pack.fetch(&fetch).err().unwrap();
        assert!(matches!(error, ClientError::Shallow { .. }), "{version:?} {error}");
        assert!(error.to_string().contains("shallow") && error.to_string().contains(server.path_text()), "{error}");
        // The other way round: a target that is shallow gets what it lacks.
        let source = GitServer::new(&whole, version, stateless);
        let boundary = std::fs::read_to_string(shallow.path.join("shallow")).unwrap();
        let update = FetchPack {
            wants: tips(&whole, &["main", "v2"]),
            haves: tips(&shallow, &["main"]),
            shallow: boundary.lines().map(id).collect(),
            thin: true,
            ..FetchPack::default()
        };
        let (_, objects) = fetched(&mut UploadPack::open(&source).unwrap(), &update);
        // Without that line the tags' commits would be taken as known: both tags and what lies behind the boundary.
        assert!(objects >= 2, "{objects}");
    }
}

#[test]
fn what_the_server_refuses_comes_in_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let repo = GitRepo::with_history(dir.path().join("repo"), &[]);
    for (version, stateless) in ways() {
        let server = GitServer::new(&repo, version, stateless);
        let mut upload_pack = UploadPack::open(&server).unwrap();
        let nowhere = FetchPack { wants: vec![id(&"12".repeat(20))], ..FetchPack::default() };
        let error = upload_pack.fetch(&nowhere).err().unwrap();
        assert!(
            matches!(&error, ClientError::Remote { message, .. } if message.starts_with(b"upload-pack: not our ref")),
            "{error}"
        );
        assert!(upload_pack.fetch(&FetchPack::default()).is_err());
        // It can be used again.
        let all = FetchPack { wants: tips(&repo, &["main"]), ..FetchPack::default() };
        fetched(&mut upload_pack, &all);
    }
}
