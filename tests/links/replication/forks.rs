//! Two histories: reported, and nothing is overwritten.

use std::path::Path;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

/// The files of a region's table. No process has it open between two commands.
fn table_files(world: &World, region: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(world.path(region)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("table.db")).collect()
}

fn back_up(world: &World, region: &str) {
    let to = world.path("backup");
    std::fs::create_dir_all(&to).unwrap();
    for file in table_files(world, region) {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

fn restore(world: &World, region: &str) {
    for file in table_files(world, region) {
        std::fs::remove_file(file).unwrap();
    }
    for entry in std::fs::read_dir(world.path("backup")).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, world.path(region).join(from.file_name().unwrap())).unwrap();
    }
}

/// A source that was at change 1, went to 2 with its target, and is at change 1 again.
fn rolled_back() -> (World, GitRepo) {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.sync(&repo, "app");
    back_up(&world, SOURCE);
    repo.commit("main", "lost", "by the backup\n");
    world.sync(&repo, "app");
    restore(&world, SOURCE);
    (world, repo)
}

fn assert_fork(world: &World, words: &[&str]) {
    let before = (world.show("app", TARGET), world.pack_files(TARGET));
    let run = world.ends(1, &["replicate", LINK]);
    run.says(&["app", "fork", "nothing was overwritten"]);
    run.says(words);
    let run = world.ends(1, &["replicate", LINK, "--json"]);
    assert_eq!(run.json()["failed"], 1);
    assert!(run.json()["reports"][0]["error"].as_str().unwrap().contains("fork"));
    let status = world.ends(1, &["status", LINK, "--json"]).json();
    assert_eq!(status["repositories"][0]["standing"], "fork", "{status}");
    let verify = world.ends(1, &["verify", LINK, "--deep", "--json"]).json();
    assert_eq!(verify["ok"], false);
    let difference = verify["differences"][0].as_str().unwrap();
    assert!(difference.contains("app") && difference.contains("fork"), "{verify}");
    for word in words {
        assert!(difference.contains(word), "{word:?} is not in {difference}");
    }
    assert_eq!((world.show("app", TARGET), world.pack_files(TARGET)), before);
}

#[test]
fn a_target_ahead_of_its_source() {
    let (world, repo) = rolled_back();
    assert_fork(&world, &["ahead"]);
    // The target still is what it was.
    world.assert_exports_as(&repo, "app", TARGET);
}

#[test]
fn a_source_that_was_rolled_back_takes_no_change_of_what_its_replica_knows_better() {
    let (world, repo) = rolled_back();
    world.import(&repo, "late");
    world.ok(&["replicate", LINK, "late"]);
    restore(&world, SOURCE);
    let before = (world.show("app", SOURCE), world.pack_files(SOURCE));
    let path = repo.path.to_str().unwrap();
    for args in [
        &["import", path, "app", "--region", SOURCE][..],
        &["import", path, "late", "--region", SOURCE],
        &["repo", "create", "late", "--region", SOURCE],
        &["repo", "rename", "app", "mine", "--region", SOURCE],
        &["repo", "set-head", "app", "side", "--region", SOURCE],
        &["repo", "delete", "app", "--region", SOURCE],
    ] {
        world.ends(2, args).says(&[
            "us-east-1 was rolled back",
            "eu-west-1 holds changes that us-east-1 lacks",
            "verify dr",
        ]);
    }
    assert_eq!(world.show("app", SOURCE), before.0);
    world.ok(&["repo", "create", "other", "--region", SOURCE]);
    // The newer table ends it.
    let id = before.0["id"].as_str().unwrap();
    world.ends(2, &["repo", "delete", id, "--region", SOURCE]).says(&["was rolled back"]);
}

#[test]
fn another_change_under_the_same_number() {
    let (world, _) = rolled_back();
    let other = GitRepo::at(world.path("src.git"));
    other.git(&["update-ref", "refs/heads/main", "main~1"]);
    other.commit("main", "different", "history\n");
    assert_eq!(world.import_unawares(&other, "app")["change"], 2);
    assert_fork(&world, &["two histories"]);
}

#[test]
fn a_source_that_has_gone_further_on_another_history() {
    let (world, _) = rolled_back();
    let other = GitRepo::at(world.path("src.git"));
    for n in 0..3 {
        other.commit("side", "different", &format!("{n}\n"));
        world.import_unawares(&other, "app");
    }
    assert_fork(&world, &["never been"]);
}

#[test]
fn a_source_that_was_rolled_back_to_before_a_repository() {
    let (world, repo) = rolled_back();
    world.import(&repo, "late");
    world.ok(&["replicate", LINK, "late"]);
    restore(&world, SOURCE);
    let verify = world.ends(1, &["verify", LINK, "--json"]).json();
    let all = verify["differences"].as_array().unwrap();
    assert!(all.iter().any(|text| text.as_str().unwrap().starts_with("late: it is in eu-west-1")), "{verify}");
    world.assert_exports_as(&repo, "late", TARGET);
}

#[test]
fn a_replica_on_another_history_than_the_target_further_on() {
    // The primary lost a change that its replica has; a third region has only what came after.
    let links = "[links.ab]\nsource = \"us-east-1\"\ntarget = \"b\"\n[links.ac]\nsource = \"us-east-1\"\ntarget = \"c\"\n\
                 [links.bc]\nsource = \"b\"\ntarget = \"c\"\nmode = \"standby\"\n";
    let world = World::with(&[SOURCE, "b", "c"], links);
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.import(&repo, "app");
    back_up(&world, SOURCE);
    repo.commit("main", "lost", "by the backup\n");
    world.import(&repo, "app");
    world.ok(&["replicate", "ab"]);
    restore(&world, SOURCE);
    for n in 0..3 {
        repo.commit("side", "different", &format!("{n}\n"));
        world.import_unawares(&repo, "app");
    }
    world.ok(&["replicate", "ac"]);
    let before = world.show("app", "c");
    world.ends(1, &["replicate", "bc"]).says(&["app", "fork", "nothing was overwritten"]);
    assert_eq!(world.ends(1, &["status", "bc", "--json"]).json()["repositories"][0]["standing"], "fork");
    assert!(world.ends(1, &["verify", "bc"]).stdout.contains("app: fork"));
    assert_eq!(world.show("app", "c"), before);
}

#[test]
fn a_target_that_was_restored_catches_up() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.sync(&repo, "app");
    back_up(&world, TARGET);
    repo.commit("main", "more", "more\n");
    world.sync(&repo, "app");
    restore(&world, TARGET);
    assert_eq!(world.replicate()["changes"], 1);
    world.assert_synced(&repo, "app");
}

#[test]
fn a_fork_of_one_repository_holds_up_no_other() {
    let (world, repo) = rolled_back();
    let other = GitRepo::with_history(world.path("other.git"), &[]);
    world.import(&other, "other");
    let summary = world.ends(1, &["replicate", LINK, "--json"]).json();
    assert_eq!((&summary["delivered"], &summary["failed"]), (&1.into(), &1.into()));
    world.assert_exports_as(&other, "other", TARGET);
    world.assert_exports_as(&repo, "app", TARGET);
}

#[test]
fn nobody_writes_to_a_replica() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.sync(&repo, "app");
    let before = world.show("app", TARGET);
    repo.commit("main", "more", "more\n");
    let path: &Path = &repo.path;
    for args in [
        &["import", path.to_str().unwrap(), "app", "--region", TARGET][..],
        &["repo", "rename", "app", "mine", "--region", TARGET],
        &["repo", "delete", "app", "--region", TARGET],
    ] {
        world.ends(2, args).says(&["app in eu-west-1 is a replica", "written in us-east-1", "hint"]);
    }
    assert_eq!(world.show("app", TARGET), before);
}
