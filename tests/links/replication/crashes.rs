//! A process that dies, at each of its crash points and at any other moment, leaves the old state or the
//! new one; the next one finishes the work without doing it twice.

use std::time::Duration;

use serde_json::Value;

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::world::{LINK, Run, SOURCE, TARGET, World};

/// Bytes of a part of a transfer.
const PART: u64 = 8 << 20;

/// Runs the command so that it dies at a crash point, the `nth` time it comes by (counted from 1).
fn dies(world: &World, point: &str, nth: u32, args: &[&str]) {
    use std::os::unix::process::ExitStatusExt as _;
    let mut command = world.command(args);
    command.env("FAILPOINTS", format!("{point}={}return->off", skip(nth)));
    let run = Run::of(command);
    // SIGABRT: it was this point and no other end.
    assert_eq!(run.status.signal(), Some(6), "{point} {nth}: {}{}", run.stdout, run.stderr);
}

fn skip(nth: u32) -> String {
    if nth > 1 { format!("{}*off->", nth - 1) } else { String::new() }
}

/// One pack of three parts and a bit, incompressible, and some small change after it.
fn large(world: &World) -> GitRepo {
    let repo = GitRepo::init(world.path("src.git"), &[]);
    for n in 0..3 {
        repo.commit_bytes("main", &format!("big{n}"), &noise(n, (9 << 20) + 12_345));
    }
    repo.git(&["repack", "-adq"]);
    repo
}

/// The target holds nothing of it, or all of it; nothing between.
fn assert_old_or_new(world: &World, name: &str, before: Option<u64>) {
    let status = world.json(&["status", LINK]);
    let repository = &status["repositories"][0];
    let source = repository["source"]["seq"].as_u64();
    let target = repository["target"]["seq"].as_u64();
    assert!(target == before || target == source, "{status}");
    if target.is_some() {
        world.ok(&["verify", name, "--region", TARGET, "--deep"]);
    }
}

/// Packs in the store of a region that its manifest does not name.
fn assert_no_orphans(world: &World, name: &str, region: &str) {
    assert_eq!(world.pack_files(region).len() as u64, world.show(name, region)["packs"].as_u64().unwrap());
}

#[test]
fn between_the_parts_of_a_pack() {
    let elsewhere = World::new();
    let repo = large(&elsewhere);
    for nth in 1..=4 {
        let world = World::new();
        let bytes = world.import(&repo, "app")["bytes"].as_u64().unwrap();
        assert!(bytes > 3 * PART && bytes < 4 * PART);
        dies(&world, "copy-part", nth, &["replicate", LINK]);
        assert_old_or_new(&world, "app", None);
        assert_eq!(world.pack_files(TARGET).len(), 0);
        let summary = world.replicate();
        // At least the parts that were done before the last one are not copied again.
        let most = bytes - (u64::from(nth) - 1).min(3) * PART.min(bytes - 3 * PART);
        let copied = summary["bytes_copied"].as_u64().unwrap();
        assert!(copied <= most, "{nth}: {copied} of {bytes}: {summary}");
        world.assert_synced(&repo, "app");
        assert_no_orphans(&world, "app", TARGET);
    }
}

#[test]
fn again_and_again_until_it_is_done() {
    let world = World::new();
    let repo = large(&world);
    let bytes = world.import(&repo, "app")["bytes"].as_u64().unwrap();
    // Each attempt gets at least one of four parts further and dies. A third one may find nothing left.
    for _ in 0..2 {
        dies(&world, "copy-part", 1, &["replicate", LINK]);
        assert_old_or_new(&world, "app", None);
    }
    let copied = world.replicate()["bytes_copied"].as_u64().unwrap();
    assert!(copied < bytes - PART, "{copied} of {bytes}");
    world.assert_synced(&repo, "app");
    assert_no_orphans(&world, "app", TARGET);
}

#[test]
fn after_the_packs_and_before_the_commit() {
    let world = World::new();
    let repo = large(&world);
    world.import(&repo, "app");
    dies(&world, "copied-packs", 1, &["replicate", LINK]);
    assert_old_or_new(&world, "app", None);
    assert_eq!(world.replicate()["bytes_copied"], 0);
    world.assert_synced(&repo, "app");
    assert_no_orphans(&world, "app", TARGET);
}

#[test]
fn after_the_commit() {
    let elsewhere = World::new();
    let repo = large(&elsewhere);
    for point in ["applied", "before-summary"] {
        let world = World::new();
        world.import(&repo, "app");
        dies(&world, point, 1, &["replicate", LINK]);
        world.assert_synced(&repo, "app");
        let summary = world.replicate();
        assert_eq!((&summary["unchanged"], &summary["bytes_copied"]), (&1.into(), &0.into()));
        assert_no_orphans(&world, "app", TARGET);
    }
}

#[test]
fn on_a_target_that_has_an_older_state() {
    for point in ["copy-part", "copied-packs", "applied", "before-summary"] {
        let world = World::new();
        let repo = GitRepo::with_history(world.path("src.git"), &[]);
        world.sync(&repo, "app");
        repo.commit_bytes("main", "big", &noise(7, 2 << 20));
        repo.git(&["update-ref", "-d", "refs/heads/side"]);
        world.import(&repo, "app");
        dies(&world, point, 1, &["replicate", LINK]);
        assert_old_or_new(&world, "app", Some(1));
        world.replicate();
        world.assert_synced(&repo, "app");
    }
}

#[test]
fn while_importing() {
    for (point, committed) in [("import-put-packs", false), ("commit-before-head", false), ("commit-after-head", true)]
    {
        let world = World::new();
        let repo = GitRepo::with_history(world.path("src.git"), &[]);
        let import = ["import", "src.git", "app", "--region", SOURCE];
        dies(&world, point, 1, &import);
        let listed = world.json(&["repo", "list", "--region", SOURCE])["repositories"].clone();
        assert_eq!(listed.as_array().unwrap().len(), usize::from(committed), "{point}");
        world.sync(&repo, "app");
        assert_eq!(world.show("app", SOURCE)["frontier"]["seq"], 1, "{point}");
        repo.commit("main", "second", "second\n");
        dies(&world, point, 1, &import);
        assert_eq!(world.show("app", SOURCE)["frontier"]["seq"], 1 + u64::from(committed), "{point}");
        world.ok(&["verify", "app", "--region", SOURCE, "--deep"]);
        assert_eq!(world.import(&repo, "app")["change"] == Value::Null, committed, "{point}");
        assert_eq!(world.show("app", SOURCE)["frontier"]["seq"], 2, "{point}");
        world.replicate();
        world.assert_synced(&repo, "app");
    }
}

#[test]
fn with_a_change_that_is_larger_than_its_row() {
    for point in ["copy-part", "copied-packs", "applied"] {
        let world = World::new();
        let repo = GitRepo::with_history(world.path("src.git"), &[]);
        world.sync(&repo, "app");
        repo.pack_many_refs("refs/heads/x/", 10_000, &repo.git(&["rev-parse", "main"]));
        world.import(&repo, "app");
        dies(&world, point, 1, &["replicate", LINK]);
        assert_old_or_new(&world, "app", Some(1));
        let copied = world.replicate()["bytes_copied"].as_u64().unwrap();
        // Its object was there before each of these points.
        assert_eq!(copied, 0, "{point}");
        world.assert_synced(&repo, "app");
    }
}

#[test]
fn with_a_lease_that_nobody_gives_back() {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    for n in 0..5 {
        repo.commit_bytes("main", &format!("big{n}"), &noise(n, 14 << 20));
    }
    repo.git(&["repack", "-adq"]);
    let bytes = world.import(&repo, "app")["bytes"].as_u64().unwrap();
    assert!(bytes > 64 << 20);
    dies(&world, "copy-part", 6, &["replicate", LINK]);
    // Nobody renews the lease of the dead: the next one waits for it to expire, and goes on.
    let copied = world.replicate()["bytes_copied"].as_u64().unwrap();
    assert!(copied <= bytes - 5 * PART, "{copied} of {bytes}");
    world.ok(&["verify", LINK]);
    assert_no_orphans(&world, "app", TARGET);
}

#[test]
fn while_names_are_swapped() {
    for nth in 1..=2 {
        let world = World::new();
        let repos = ["a", "b"].map(|name| {
            let repo = GitRepo::init(world.path(&format!("{name}.git")), &[]);
            repo.commit("main", "file", name);
            world.import(&repo, name);
            repo
        });
        world.replicate();
        for (from, to) in [("a", "tmp"), ("b", "a"), ("tmp", "b")] {
            world.ok(&["repo", "rename", from, to, "--region", SOURCE]);
        }
        dies(&world, "applied", nth, &["replicate", LINK, "--jobs", "1"]);
        world.replicate();
        world.ok(&["verify", LINK, "--deep"]);
        world.assert_exports_as(&repos[0], "b", TARGET);
        world.assert_exports_as(&repos[1], "a", TARGET);
    }
}

#[test]
fn killed_at_any_moment() {
    let world = World::new();
    let repo = large(&world);
    let mut random = 20_260_101_u64;
    let (mut killed, mut before) = (0, None);
    for round in 0..24 {
        if round % 3 == 0 {
            repo.commit_bytes("main", "more", &noise(round, 3 << 20));
            let mut import = world.command(&["import", "src.git", "app", "--region", SOURCE]).spawn().unwrap();
            killed += kill_after(&mut import, pick(&mut random, 400));
            world.import(&repo, "app");
        }
        let mut child = world.command(&["replicate", LINK]).spawn().unwrap();
        killed += kill_after(&mut child, pick(&mut random, 250));
        assert_old_or_new(&world, "app", before);
        before = world.json(&["status", LINK])["repositories"][0]["target"]["seq"].as_u64();
    }
    assert!(killed > 0);
    world.replicate();
    world.assert_synced(&repo, "app");
}

/// Kills a process after some milliseconds; 1 if it was still there.
fn kill_after(child: &mut std::process::Child, millis: u64) -> u32 {
    std::thread::sleep(Duration::from_millis(millis));
    child.kill().unwrap();
    u32::from(!child.wait().unwrap().success())
}

/// The next number below `bound` (a linear congruential generator: the same on every machine).
fn pick(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % bound
}
