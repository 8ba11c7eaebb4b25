//! Repositories that are renamed, deleted, made again: the target follows, whoever holds a name when.

use std::collections::BTreeMap;

use serde_json::Value;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

/// A world with three small, different repositories in sync.
fn synced() -> (World, [GitRepo; 3]) {
    let world = World::new();
    let repos = ["a", "b", "c"].map(|name| {
        let repo = GitRepo::init(world.path(&format!("{name}.git")), &[]);
        repo.commit("main", "file", name);
        world.import(&repo, name);
        repo
    });
    world.replicate();
    (world, repos)
}

fn rename(world: &World, from: &str, to: &str) {
    world.ok(&["repo", "rename", from, to, "--region", SOURCE]);
}

/// Name → id of what a region lists.
fn listed(world: &World, region: &str) -> BTreeMap<String, String> {
    let all = world.json(&["repo", "list", "--region", region])["repositories"].clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.as_array().unwrap().iter().map(|item| (text(&item["name"]), text(&item["id"]))).collect()
}

fn replicate_and_compare(world: &World) {
    let summary = world.replicate();
    assert_eq!(summary["failed"], 0, "{summary}");
    world.ok(&["verify", LINK, "--deep"]);
    assert_eq!(listed(world, SOURCE), listed(world, TARGET));
    let status = world.json(&["status", LINK]);
    for repository in status["repositories"].as_array().unwrap() {
        assert_eq!((&repository["standing"], &repository["waits_for_name"]), (&"equal".into(), &false.into()));
    }
}

#[test]
fn a_renamed_repository_keeps_its_id_and_its_packs() {
    let (world, repos) = synced();
    let before = (listed(&world, TARGET)["a"].clone(), world.pack_files(TARGET));
    rename(&world, "a", "deep/er/a");
    replicate_and_compare(&world);
    assert_eq!((listed(&world, TARGET)["deep/er/a"].clone(), world.pack_files(TARGET)), before);
    world.assert_exports_as(&repos[0], "deep/er/a", TARGET);
    world.ends(2, &["repo", "show", "a", "--region", TARGET]).says(&["no repository a", "repo list"]);
}

#[test]
fn two_names_are_swapped_in_one_pass() {
    let (world, [a, b, _]) = synced();
    for (from, to) in [("a", "tmp"), ("b", "a"), ("tmp", "b")] {
        rename(&world, from, to);
    }
    replicate_and_compare(&world);
    world.assert_exports_as(&a, "b", TARGET);
    world.assert_exports_as(&b, "a", TARGET);
}

#[test]
fn three_names_go_round_again_and_again() {
    let (world, _) = synced();
    for _ in 0..4 {
        for (from, to) in [("a", "tmp"), ("b", "a"), ("c", "b"), ("tmp", "c")] {
            rename(&world, from, to);
        }
        replicate_and_compare(&world);
    }
}

#[test]
fn a_swap_delivered_one_repository_at_a_time_settles_too() {
    let (world, [a, b, _]) = synced();
    let ids = listed(&world, SOURCE);
    for (from, to) in [("a", "tmp"), ("b", "a"), ("tmp", "b")] {
        rename(&world, from, to);
    }
    world.ok(&["replicate", LINK, &ids["a"]]);
    // Its new name is still held at the target: it waits, reachable by its id.
    let status = world.ends(1, &["status", LINK, "--json"]).json();
    let waiting: Vec<&Value> =
        status["repositories"].as_array().unwrap().iter().filter(|r| r["waits_for_name"] == true).collect();
    assert_eq!(waiting.len(), 1, "{status}");
    assert_eq!((&waiting[0]["id"], &waiting[0]["standing"]), (&ids["a"].as_str().into(), &"equal".into()));
    world.assert_exports_as(&a, &ids["a"], TARGET);
    world.assert_exports_as(&b, "b", TARGET);
    world.ok(&["replicate", LINK, &ids["b"]]);
    // The delivery that frees the name hands it over.
    world.ok(&["status", LINK]);
    replicate_and_compare(&world);
    world.assert_exports_as(&a, "b", TARGET);
}

#[test]
fn a_name_that_is_used_again_is_handed_over_one_repository_at_a_time() {
    let (world, [_, b, _]) = synced();
    let old = listed(&world, SOURCE)["a"].clone();
    world.ok(&["repo", "delete", "a", "--region", SOURCE]);
    world.import(&b, "a");
    let new = listed(&world, SOURCE)["a"].clone();
    world.ok(&["replicate", LINK, &new]);
    world.ends(1, &["status", LINK]);
    world.ends(1, &["verify", LINK]);
    world.ok(&["replicate", LINK, &old]);
    assert_eq!(listed(&world, TARGET)["a"], new);
    replicate_and_compare(&world);
}

#[test]
fn a_deleted_repository_is_a_tombstone_with_all_its_packs() {
    let (world, repos) = synced();
    let id = listed(&world, SOURCE)["a"].clone();
    let packs = (world.pack_files(SOURCE), world.pack_files(TARGET));
    world.ok(&["repo", "delete", "a", "--region", SOURCE]);
    replicate_and_compare(&world);
    assert_eq!((world.pack_files(SOURCE), world.pack_files(TARGET)), packs);
    assert!(!listed(&world, TARGET).contains_key("a"));
    let all = world.json(&["repo", "list", "--deleted", "--region", TARGET])["repositories"].clone();
    let tombstone = all.as_array().unwrap().iter().find(|item| item["id"] == id.as_str()).unwrap();
    assert_eq!(tombstone["state"], "deleted");
    assert!(tombstone["deleted"].is_string());
    // Everything is still there for whoever asks by id.
    world.assert_exports_as(&repos[0], &id, TARGET);
    world.ok(&["verify", &id, "--region", TARGET, "--deep"]);
    world.ends(2, &["repo", "delete", &id, "--region", SOURCE]).says(&["deleted"]);
    assert_eq!(world.replicate()["delivered"], 0);
}

#[test]
fn a_name_that_is_used_again_is_another_repository() {
    let (world, [a, b, _]) = synced();
    let old = listed(&world, SOURCE)["a"].clone();
    world.ok(&["repo", "delete", "a", "--region", SOURCE]);
    world.import(&b, "a");
    replicate_and_compare(&world);
    assert_ne!(listed(&world, TARGET)["a"], old);
    world.assert_exports_as(&b, "a", TARGET);
    world.assert_exports_as(&a, &old, TARGET);
}

#[test]
fn what_was_deleted_before_the_target_had_it_never_comes() {
    let (world, repos) = synced();
    world.import(&repos[0], "short");
    world.ok(&["repo", "delete", "short", "--region", SOURCE]);
    replicate_and_compare(&world);
    let all = world.json(&["repo", "list", "--deleted", "--region", TARGET])["repositories"].clone();
    assert_eq!(all.as_array().unwrap().len(), 3);
}

/// Links in both directions, and both regions make a repository of one name before either link has carried it.
#[test]
fn two_regions_that_make_one_name_at_a_time_are_told_and_one_command_ends_it() {
    let links = "[links.there]\nsource = \"us-east-1\"\ntarget = \"eu-west-1\"\n\
                 [links.back]\nsource = \"eu-west-1\"\ntarget = \"us-east-1\"\n";
    let world = World::with(&[SOURCE, TARGET], links);
    let repos = ["first", "later"].map(|name| {
        let repo = GitRepo::init(world.path(&format!("{name}.git")), &[]);
        repo.commit("main", "file", name);
        repo
    });
    world.import(&repos[0], "both");
    world.ok(&["import", "later.git", "both", "--region", TARGET]);
    let id = |region: &str| world.show("both", region)["id"].as_str().unwrap().to_owned();
    let (first, later) = (id(SOURCE), id(TARGET));
    for link in ["there", "back"] {
        world.run(&["replicate", link]);
    }
    let command = format!("gitferry repo rename {later} both-2 --region {TARGET}");
    for link in ["there", "back"] {
        // Never silent: each way to look at it says so, and what ends it.
        for args in [&["replicate", link][..], &["status", link], &["verify", link]] {
            let run = world.ends(1, args);
            let said = format!("{}{}", run.stdout, run.stderr);
            for word in ["both created a repository both", &first, &later, &command] {
                assert!(said.contains(word), "{args:?}: {word:?} is not in: {said}");
            }
        }
        let status = world.ends(1, &["status", link, "--json"]).json();
        let forks = status["repositories"].as_array().unwrap().iter().filter(|one| one["standing"] == "fork");
        assert_eq!(forks.count(), 1, "{status}");
        let backup = world.ends(1, &["backup", link, "--max-age", "1h", "--json"]).json();
        assert!(backup["findings"].to_string().contains(&later), "{backup}");
    }
    // Nothing was lost or mixed.
    world.assert_exports_as(&repos[0], &first, TARGET);
    world.assert_exports_as(&repos[1], &later, SOURCE);
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    world.ok(&arguments);
    for link in ["there", "back", "there", "back"] {
        world.ok(&["replicate", link]);
    }
    for region in [SOURCE, TARGET] {
        world.assert_exports_as(&repos[0], "both", region);
        world.assert_exports_as(&repos[1], "both-2", region);
    }
    for link in ["there", "back"] {
        world.ok(&["status", link]);
        world.ok(&["verify", link, "--deep"]);
    }
}

#[test]
fn a_name_that_the_target_gave_away_itself_is_waited_for() {
    let (world, repos) = synced();
    let own = GitRepo::init(world.path("own.git"), &[]);
    own.commit("main", "file", "the target's own");
    world.ok(&["import", "own.git", "taken", "--region", TARGET]);
    world.import(&repos[0], "taken");
    let summary = world.replicate();
    assert_eq!((&summary["failed"], &summary["delivered"]), (&0.into(), &1.into()));
    world.assert_exports_as(&own, "taken", TARGET);
    let id = listed(&world, SOURCE)["taken"].clone();
    world.assert_exports_as(&repos[0], &id, TARGET);
    let shown = world.ends(1, &["status", LINK]).stdout;
    world.ends(1, &["verify", LINK]);
    assert!(shown.contains("holds this name") && shown.contains(&id), "{shown}");
    // The holder lets go: the next pass hands it over, with nothing else to do.
    world.ok(&["repo", "rename", "taken", "elsewhere", "--region", TARGET]);
    assert_eq!(world.replicate()["unchanged"], 4);
    world.assert_exports_as(&repos[0], "taken", TARGET);
    world.assert_exports_as(&own, "elsewhere", TARGET);
}

#[test]
fn names_are_unique_in_a_region() {
    let (world, _) = synced();
    world.ends(2, &["repo", "create", "a", "--region", SOURCE]).says(&["a in us-east-1 already"]);
    world.ends(2, &["repo", "rename", "a", "b", "--region", SOURCE]).says(&["b in us-east-1 already"]);
    let same = world.show("a", SOURCE);
    rename(&world, "a", "a");
    assert_eq!(world.show("a", SOURCE), same);
}
