//! Several processes on one link at a time: all end well, the work is done once.

use std::process::Stdio;

use serde_json::Value;

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::world::{LINK, Run, SOURCE, TARGET, World};

/// Runs the command several times at once; what each printed.
fn together(world: &World, count: usize, args: &[&str]) -> Vec<Run> {
    let start = |_| world.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<std::process::Child> = (0..count).map(start).collect();
    let ended = |child: std::process::Child| {
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    };
    children.into_iter().map(ended).collect()
}

fn assert_all_ended_well(runs: &[Run]) -> Vec<Value> {
    for run in runs {
        assert_eq!(run.status.code(), Some(0), "{}{}", run.stdout, run.stderr);
    }
    runs.iter().map(Run::json).collect()
}

/// One copy of each pack, and nothing that no manifest names.
fn assert_one_copy(world: &World, names: &[&str]) {
    let named: u64 = names.iter().map(|name| world.show(name, TARGET)["packs"].as_u64().unwrap()).sum();
    assert_eq!(world.pack_files(TARGET).len() as u64, named);
    for name in names {
        assert_eq!(world.show(name, TARGET)["packs"], world.show(name, SOURCE)["packs"]);
    }
}

#[test]
fn several_replicate_small_repositories() {
    let world = World::new();
    let names = ["a", "b", "c", "d"];
    let repos = names.map(|name| GitRepo::with_history(world.path(&format!("{name}.git")), &[]));
    for round in 0..4 {
        for (name, repo) in names.iter().zip(&repos) {
            repo.commit("main", name, &format!("{round}\n"));
            world.import(repo, name);
        }
        let summaries = assert_all_ended_well(&together(&world, 3, &["replicate", LINK, "--json"]));
        let delivered: u64 = summaries.iter().map(|summary| summary["delivered"].as_u64().unwrap()).sum();
        assert!(delivered >= 4, "{summaries:?}");
        assert_one_copy(&world, &names);
        world.ok(&["verify", LINK, "--deep"]);
    }
    for (name, repo) in names.iter().zip(&repos) {
        world.assert_exports_as(repo, name, TARGET);
        assert_eq!(world.show(name, TARGET)["frontier"]["seq"], 4);
    }
}

#[test]
fn two_replicate_a_large_one_and_copy_it_once() {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    for n in 0..7 {
        repo.commit_bytes("main", &format!("big{n}"), &noise(n, 10 << 20));
    }
    let imported = world.import(&repo, "app");
    assert!(imported["bytes"].as_u64().unwrap() > 64 << 20);
    let summaries = assert_all_ended_well(&together(&world, 2, &["replicate", LINK, "--json"]));
    // The lease: the second one waits and finds nothing left to do.
    let copied: u64 = summaries.iter().map(|summary| summary["bytes_copied"].as_u64().unwrap()).sum();
    assert_eq!(copied, imported["bytes"].as_u64().unwrap(), "{summaries:?}");
    assert_one_copy(&world, &["app"]);
    world.ok(&["verify", LINK]);
}

#[test]
fn several_replicate_a_change_that_is_larger_than_its_row() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    for round in 0..3 {
        let value = repo.commit("main", "file", &format!("{round}\n"));
        repo.pack_many_refs(&format!("refs/heads/{round}/"), 8_000, &value);
        world.import(&repo, "app");
        assert_all_ended_well(&together(&world, 3, &["replicate", LINK, "--json"]));
        assert_one_copy(&world, &["app"]);
        world.ok(&["verify", LINK, "--deep"]);
    }
    world.assert_synced(&repo, "app");
}

#[test]
fn imports_and_replications_at_the_same_time() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.import(&repo, "app");
    std::thread::scope(|scope| {
        let importing = scope.spawn(|| {
            for n in 0..15 {
                repo.commit("main", "file", &format!("{n}\n"));
                world.import(&repo, "app");
            }
        });
        while !importing.is_finished() {
            assert_all_ended_well(&together(&world, 2, &["replicate", LINK, "--json"]));
        }
        importing.join().unwrap();
    });
    world.replicate();
    assert_eq!(world.show("app", TARGET)["frontier"]["seq"], 16);
    assert_one_copy(&world, &["app"]);
    world.assert_synced(&repo, "app");
}

#[test]
fn two_imports_of_one_source_make_one_change() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.import(&repo, "app");
    for round in 2..6 {
        repo.commit("main", "file", &format!("{round}\n"));
        let runs = together(&world, 3, &["import", "src.git", "app", "--region", SOURCE, "--json"]);
        let changes = assert_all_ended_well(&runs);
        // Two that make the very same change in the same millisecond may both say that they made it.
        let made: Vec<&Value> = changes.iter().map(|imported| &imported["change"]).filter(|c| !c.is_null()).collect();
        assert!(!made.is_empty() && made.iter().all(|change| **change == round), "{changes:?}");
        assert_eq!(world.show("app", SOURCE)["frontier"]["seq"], round);
    }
    assert_eq!(world.pack_files(SOURCE).len() as u64, world.show("app", SOURCE)["packs"].as_u64().unwrap());
    world.replicate();
    world.assert_synced(&repo, "app");
}

#[test]
fn two_first_imports_under_one_name_make_one_repository() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    let runs = together(&world, 3, &["import", "src.git", "app", "--region", SOURCE, "--json"]);
    let listed = world.json(&["repo", "list", "--region", SOURCE, "--deleted"])["repositories"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert!(runs.iter().any(|run| run.status.success()));
    for run in &runs {
        assert!(matches!(run.status.code(), Some(0 | 2 | 3)), "{}", run.stderr);
    }
    assert_eq!(world.pack_files(SOURCE).len() as u64, world.show("app", SOURCE)["packs"].as_u64().unwrap());
    world.replicate();
    world.assert_synced(&repo, "app");
}
