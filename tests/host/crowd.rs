//! Many clients at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::said;
use gitferry_test_support::git::{self, GitRepo};
use gitferry_test_support::pair::{Pair, REGIONS, US};

#[test]
fn fifty_clones_while_somebody_pushes() {
    const CLONES: usize = 50;
    /// Clones that run at a time.
    const AT_ONCE: usize = 10;
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    repo.git(&["push", "-q", "--mirror", &url]);
    // Every exact state that the repository is ever in, written down before it can be seen.
    let states = Mutex::new(vec![repo.refs()]);
    let (next, enough) = (Mutex::new(0..CLONES), AtomicBool::new(false));
    let pushes = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            let mut pushes = 0;
            while !enough.load(Ordering::Relaxed) {
                // Several refs in one step; now and then one is rewound or goes.
                let number = pushes;
                let id = repo.commit("main", &format!("dir/new{}", number % 7), &format!("push {number}\n"));
                repo.git(&["update-ref", "refs/heads/side", if number % 2 == 0 { &id } else { "main~3" }]);
                match number % 3 {
                    0 => repo.git(&["tag", "-f", "-am", "moving", "moving", "main"]),
                    1 => repo.git(&["update-ref", &format!("refs/heads/n{number}"), &id]),
                    _ => repo.git(&["update-ref", "-d", &format!("refs/heads/n{}", number - 1)]),
                };
                states.lock().unwrap().push(repo.refs());
                repo.git(&["push", "-q", "--atomic", "--mirror", &url]);
                pushes += 1;
            }
            pushes
        });
        let cloning: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(number) = { next.lock().unwrap().next() } {
                        clone_one_state(&pair, &url, number, &states);
                    }
                })
            })
            .collect();
        for clone in cloning {
            let ended = clone.join();
            enough.fetch_or(ended.is_err(), Ordering::Relaxed);
            ended.unwrap();
        }
        enough.store(true, Ordering::Relaxed);
        pushing.join().unwrap()
    });
    assert!(pushes > 1, "nothing was pushed while clones ran");
    pair.assert_clones_as(&repo, &url);
    pair.ok(&["verify", "app", "--region", REGIONS[US], "--deep"]);
}

/// Clones, and finds what came sound and exactly one of the states.
fn clone_one_state(pair: &Pair, url: &str, number: usize, states: &Mutex<Vec<Vec<Vec<u8>>>>) {
    let to = pair.path(&format!("clone-{number}"));
    let version = format!("protocol.version={}", number % 3);
    let output = git::command(pair.dir()).args(["-c", &version, "clone", "-q", "--mirror", url]).arg(&to).output();
    let output = output.unwrap();
    assert!(output.status.success(), "clone {number}: {}\n{}", said(&output), pair.log());
    let clone = GitRepo::at(&to);
    let refs = clone.refs();
    assert!(states.lock().unwrap().contains(&refs), "clone {number} shows a state that never was: {refs:?}");
    clone.git(&["fsck", "--strict", "--no-dangling", "--connectivity-only"]);
    clone.git(&["fsck", "--strict", "--no-dangling"]);
    std::fs::remove_dir_all(to).unwrap();
}

/// What one pusher did: the ref, what it is to be, and whether the host said yes.
type Attempt = (String, String, bool);

#[test]
fn twenty_pushers_to_one_repository_and_every_yes_is_in_the_ledger() {
    const PUSHERS: usize = 20;
    const PUSHES: usize = 3;
    let pair = Pair::open();
    let base = GitRepo::with_history(pair.path("base.git"), &[]);
    let url = pair.url(US, "app");
    base.git(&["push", "-q", &url, "main"]);
    let attempts: Vec<Attempt> = std::thread::scope(|scope| {
        let pushing: Vec<_> = (0..PUSHERS)
            .map(|number| {
                scope.spawn({
                    let (pair, url) = (&pair, &url);
                    move || push_often(pair, url, number, PUSHES)
                })
            })
            .collect();
        pushing.into_iter().flat_map(|pusher| pusher.join().unwrap()).collect()
    });
    let own = |(name, _, done): &&Attempt| *done && name.starts_with("refs/heads/own-");
    assert_eq!(attempts.iter().filter(own).count(), PUSHERS * PUSHES, "nobody else wants those");
    assert!(attempts.iter().any(|(name, _, done)| *done && name == "refs/heads/shared"));

    // The ledger is a chain of steps from one value of each ref to the next; every yes is one of them, once.
    let log = pair.ok(&["log", "app", "--region", REGIONS[US], "--json", "--edits", "0"]);
    let mut changes: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    changes.reverse();
    let mut refs: BTreeMap<String, String> = BTreeMap::new();
    let mut steps: BTreeSet<(String, String)> = BTreeSet::new();
    let mut prev = None;
    for change in &changes {
        assert!(prev.is_none() || change["prev"].as_str() == prev, "{change}");
        prev = change["hash"].as_str();
        for edit in change["edits"].as_array().unwrap() {
            let (name, new) = (edit["name"].as_str().unwrap(), edit["new"].as_str().unwrap());
            assert_eq!(edit["old"].as_str(), refs.get(name).map(String::as_str), "{name}");
            refs.insert(name.into(), new.into());
            steps.insert((name.into(), new.into()));
        }
    }
    for (name, id, done) in &attempts {
        assert_eq!(steps.contains(&(name.clone(), id.clone())), *done, "{name} to {id}: the answer and the ledger");
    }
    let listed = base.git(&["ls-remote", &url, "refs/*"]);
    let listed: BTreeMap<String, String> =
        listed.lines().map(|line| line.split_once('\t').map(|(id, name)| (name.into(), id.into())).unwrap()).collect();
    assert_eq!(listed, refs);
    pair.ok(&["verify", "app", "--region", REGIONS[US], "--deep"]);
}

/// Pushes a branch of its own and one that everybody wants, by force and without.
fn push_often(pair: &Pair, url: &str, number: usize, pushes: usize) -> Vec<Attempt> {
    let path = pair.path(&format!("own-{number}"));
    git::command(pair.dir()).args(["clone", "-q", "--bare", url]).arg(&path).status().unwrap();
    let repo = GitRepo::at(path);
    let mut attempts = Vec::new();
    let mut push = |args: &[&str], name: &str, id: String| {
        let output = repo.try_git(&[&["push", "-q"], args, &[url, &format!("{id}:{name}")]].concat());
        let rejected = ["fetch first", "non-fast-forward", "stale info"];
        assert!(
            output.status.success() || rejected.iter().any(|reason| said(&output).contains(reason)),
            "{name}: {}",
            said(&output)
        );
        attempts.push((name.to_owned(), id, output.status.success()));
    };
    for round in 0..pushes {
        let own = format!("own-{number}");
        let id = repo.commit(&own, &format!("file-{number}"), &format!("{round}\n"));
        push(&[], &format!("refs/heads/{own}"), id);
        let id = repo.commit(&format!("shared-{number}"), "shared", &format!("{number} {round}\n"));
        push(if round % 2 == 0 { &["--force"] } else { &[] }, "refs/heads/shared", id);
    }
    attempts
}
