//! Real answers that are cut off, flipped or turned into noise: never a pack that ends well, never a panic.

use std::io::Read;
use std::sync::OnceLock;

use gitferry_git::client::{ClientError, FetchPack, ReceivePack, UploadPack};
use gitferry_git::protocol::Version;
use proptest::prelude::*;

use crate::git_client::fetching::tips;
use crate::git_client::pushing::{command, no_objects};
use crate::git_client::scripted::Scripted;
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::scripted_server::{Damage, GitServer, ways};

fn repo() -> &'static GitRepo {
    static REPO: OnceLock<(tempfile::TempDir, GitRepo)> = OnceLock::new();
    let (_, repo) = REPO.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let repo = GitRepo::with_history(dir.path().join("repo"), &[]);
        repo.commit_bytes("main", "big", &noise(5, 200_000));
        repo.git(&["repack", "-adq"]);
        (dir, repo)
    });
    repo
}

/// Everything that a server can be asked; the pack, as far as it comes.
fn pack_of(server: &GitServer) -> Result<Vec<u8>, ClientError> {
    let mut upload_pack = UploadPack::open(server)?;
    upload_pack.list(&[])?;
    let mut input = upload_pack.fetch(&FetchPack { wants: tips(repo(), &["main"]), ..FetchPack::default() })?;
    let mut pack = Vec::new();
    let failed = match input.read_to_end(&mut pack) {
        Ok(_) => return Ok(pack),
        Err(error) => ClientError::from_io(error).unwrap(),
    };
    // It stays so.
    assert!(input.read(&mut [0; 10]).is_err() && input.read(&mut [0; 10]).is_err());
    Err(failed)
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![Just(Damage::Cut), any::<u8>().prop_map(Damage::Flip), any::<u64>().prop_map(Damage::Noise)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_damaged_pack_ends_well(way in 0..6usize, part in 0.0..1.0f64, near_an_end in any::<bool>(), damage in damage()) {
        let (version, stateless) = ways().nth(way).unwrap();
        let mut server = GitServer::new(repo(), version, stateless);
        let whole = pack_of(&server).unwrap();
        let pack_bytes = whole.len() as f64;
        let at = if near_an_end { pack_bytes - 100.0 + part * 1200.0 } else { part * pack_bytes };
        server.damage = Some((at as u64, damage));
        match pack_of(&server) {
            // Damage to greetings and words for people need not be seen.
            Ok(pack) => prop_assert!(pack == whole),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn no_damaged_report_is_taken_for_success(stateless: bool, bands: bool, at in 0..1500u64, damage in damage()) {
        let dir = tempfile::tempdir().unwrap();
        let to = GitRepo::init(dir.path().join("to"), &[]);
        let alternate = format!("{}/objects\n", repo().path.display());
        std::fs::write(to.path.join("objects/info/alternates"), alternate).unwrap();
        let main = repo().git(&["rev-parse", "main"]);
        let mut server = GitServer::new(&to, Version::V0, stateless);
        if !bands {
            server = server.saying(" side-band-64k", "");
        }
        server.damage = Some((at, damage));
        let Ok(mut target) = ReceivePack::open(&server) else { return Ok(()) };
        let commands = [command("refs/heads/main", "-", &main), command("refs/heads/no..pe", "-", &main)];
        if let Ok(report) = target.push(&commands, Some(&mut no_objects)) {
            prop_assert_eq!(report.refs.len(), 2);
            prop_assert!(report.refs[1].result.is_err());
            let there = to.git(&["for-each-ref", "--format=%(objectname)"]);
            prop_assert!(report.refs[0].result.is_err() || there == main, "{:?}", report);
        }
    }
}

/// The last bytes decide: each of them is looked at, in what real Git has said.
#[test]
fn every_cut_and_every_flip_near_the_end() {
    for version in [Version::V2, Version::V0] {
        let mut server = GitServer::new(repo(), version, true);
        if version == Version::V0 {
            server = server.saying(" side-band-64k", "").saying(" side-band", "");
        }
        let fetch = FetchPack { wants: tips(repo(), &["main"]), ..FetchPack::default() };
        let mut whole = Vec::new();
        std::io::copy(&mut UploadPack::open(&server).unwrap().fetch(&fetch).unwrap(), &mut whole).unwrap();
        let said = server.said.lock().unwrap().clone();
        let [greeting, answer] = &said[..] else { panic!("{} answers", said.len()) };
        let ends_well = |answer: &[u8]| {
            let server = Scripted::new([greeting.clone(), answer.to_owned()]);
            let mut upload_pack = UploadPack::open(&server).unwrap();
            let mut pack = Vec::new();
            let well = upload_pack.fetch(&fetch).is_ok_and(|mut input| std::io::copy(&mut input, &mut pack).is_ok());
            // What was handed out before never looks whole.
            assert!(well || pack != whole);
            well
        };
        assert!(ends_well(answer));
        for at in answer.len() - 100..answer.len() {
            assert!(!ends_well(&answer[..at]), "{version:?} cut at {at} of {}", answer.len());
            let mut flipped = answer.clone();
            flipped[at] ^= 1;
            assert!(!ends_well(&flipped), "{version:?} flipped at {at} of {}", answer.len());
        }
    }
}
