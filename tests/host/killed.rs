//! The process dies in the middle of pushes: the old state or the new one is there, and nothing stays behind.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use gitferry_engine::region::Region;

use crate::said;
use gitferry_test_support::git::{self, GitRepo, noise};
use gitferry_test_support::pair::{EU, Pair, REGIONS, US, wait};

/// Bytes that a push brings: more than one write to the quarantine file.
const PUSH_BYTES: usize = 3 << 20;

/// The refs as the host shows them.
fn listed(repo: &GitRepo, url: &str) -> String {
    repo.git(&["ls-remote", url, "refs/heads/*"])
}

/// All values that branches have in a repository, in the form of [`listed`].
fn heads(repo: &GitRepo) -> String {
    repo.git(&["for-each-ref", "--format=%(objectname)%09%(refname)", "refs/heads/"])
}

fn verify(pair: &Pair, name: &str) {
    pair.ok(&["verify", name, "--region", REGIONS[US], "--deep"]);
}

/// A commit with many bytes, and a second branch that moves with it.
fn change(repo: &GitRepo, round: u64) {
    let id = repo.commit_bytes("main", "big", &noise(round, PUSH_BYTES));
    repo.git(&["update-ref", "refs/heads/side", &id]);
}

/// All files of packs of a region.
fn pack_files(pair: &Pair, region: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![pair.path("data").join(REGIONS[region]).join("objects/repositories")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.parent().unwrap().ends_with("objects/pack") {
                found.push(path);
            }
        }
    }
    found
}

/// Makes a file old.
fn age(path: &Path) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let file = std::fs::File::open(path).unwrap();
    file.set_times(std::fs::FileTimes::new().set_modified(long_ago)).unwrap();
}

fn staged(pair: &Pair, region: usize) -> Vec<PathBuf> {
    std::fs::read_dir(pair.staging(region)).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Keys of the packs that the region's manifest names.
fn live(pair: &Pair, name: &str) -> Vec<PathBuf> {
    let data = pair.path("data").join(REGIONS[US]);
    let region = Region::open_embedded("test", &data.join("objects"), &data.join("table.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let item = runtime.block_on(region.repositories().get(name)).unwrap();
    let packs = runtime.block_on(region.reader().manifest(&item)).unwrap().0.packs;
    packs.into_iter().map(|pack| data.join("objects").join(pack.key)).collect()
}

/// As if everything that is left over had been there for long: then the next start removes it.
fn assert_leftovers_are_swept(pair: &mut Pair, name: &str) {
    pair.kill();
    for path in staged(pair, US) {
        age(&path);
    }
    let live = live(pair, name);
    for path in pack_files(pair, US) {
        if live.contains(&path.with_extension("pack")) {
            continue;
        }
        age(&path);
    }
    pair.restart();
    let swept = || staged(pair, US).is_empty() && pack_files(pair, US).len() == 2 * live.len();
    wait(swept, || format!("{:?} {:?}\n{}", staged(pair, US), pack_files(pair, US), pair.log()));
    verify(pair, name);
}

#[test]
fn at_every_crash_point_of_a_push() {
    let mut pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    repo.git(&["push", "-q", "--mirror", &url]);
    for (round, (point, done)) in
        [("push-put-packs", false), ("commit-before-head", false), ("commit-after-head", true)].into_iter().enumerate()
    {
        let before = heads(&repo);
        change(&repo, round as u64);
        pair.restart_with(Some(&format!("{point}=return->off")));
        let output = repo.try_git(&["push", "--atomic", &url, "main", "+side"]);
        assert!(!output.status.success(), "{point}: {}", said(&output));
        use std::os::unix::process::ExitStatusExt as _;
        // SIGABRT: it was this point and no other end.
        assert_eq!(pair.ended().signal(), Some(6), "{point}: {}", pair.log());
        pair.restart();
        assert_eq!(listed(&repo, &url), if done { heads(&repo) } else { before }, "{point}");
        verify(&pair, "app");
        repo.git(&["push", "-q", "--atomic", &url, "main", "+side"]);
        assert_eq!(listed(&repo, &url), heads(&repo), "{point}");
        pair.assert_clones_as(&repo, &url);
    }
    assert_leftovers_are_swept(&mut pair, "app");
    pair.wait_until_same(&repo, "app");
    pair.assert_clones_as(&repo, &pair.url(EU, "app"));
}

#[test]
fn at_any_moment() {
    killed_at_random(20_260_101, 8);
}

#[test]
#[ignore = "slow: a hundred kills"]
fn at_very_many_moments() {
    for seed in 1..=10 {
        killed_at_random(seed, 10);
    }
}

fn killed_at_random(seed: u64, rounds: u64) {
    let mut pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    repo.git(&["push", "-q", "--mirror", &url]);
    let mut random = seed;
    let (mut interrupted, mut before) = (0, heads(&repo));
    for round in 0..rounds {
        change(&repo, seed * 1000 + round);
        let mut command = git::command(&repo.path);
        command.args(["push", "--atomic", &url, "main", "+side"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut push = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(pick(&mut random, 400)));
        pair.kill();
        let answered = push.wait().unwrap().success();
        interrupted += u32::from(!answered);
        pair.restart();
        let now = listed(&repo, &url);
        // What was answered is there; what was not is there wholly or not at all.
        assert!(now == heads(&repo) || (!answered && now == before), "{seed} {round}: {now} after {before}");
        verify(&pair, "app");
        repo.git(&["push", "-q", "--atomic", &url, "main", "+side"]);
        before = heads(&repo);
        assert_eq!(listed(&repo, &url), before);
    }
    assert!(interrupted > 0, "no push was still under way when its host died");
    pair.assert_clones_as(&repo, &url);
    assert_leftovers_are_swept(&mut pair, "app");
    pair.wait_until_same(&repo, "app");
}

/// The next number below `bound` (a linear congruential generator: the same on every machine).
fn pick(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % bound
}
