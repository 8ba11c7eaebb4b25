//! Names that change hands while a worker replicates: the target ends with the source's names, whichever of the
//! repositories is delivered first.

use std::collections::BTreeMap;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::running::Running;
use gitferry_test_support::waiting::wait;
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

fn worker(world: &World) -> Running {
    // Far between sweeps: what the deliveries themselves leave undone stays undone.
    Running::start(world, &[], &["--outbox-every", "100ms", "--sweep-every", "1h", "--jobs", "4"])
}

/// Name and id of all that a region shows.
fn listed(world: &World, region: &str) -> BTreeMap<String, String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let all = world.json(&["repo", "list", "--region", region])["repositories"].clone();
    let shown = |item: &serde_json::Value| {
        let (name, id) = (text(&item["name"]), text(&item["id"]));
        let found = world.run(&["repo", "show", &name, "--region", region, "--json"]);
        found.status.success().then(|| (name, if found.json()["id"] == id.as_str() { id } else { "another".into() }))
    };
    all.as_array().unwrap().iter().filter_map(shown).collect()
}

fn settles(world: &World) {
    wait("the names are the same", || listed(world, SOURCE) == listed(world, TARGET));
    world.ok(&["status", LINK]);
    world.ok(&["verify", LINK, "--deep"]);
}

fn place() -> (World, GitRepo) {
    let world = World::new();
    let repo = GitRepo::init(world.path("a.git"), &[]);
    repo.commit("main", "file", "one");
    for name in ["x", "y", "z"] {
        world.import(&repo, name);
    }
    (world, repo)
}

#[test]
fn a_repository_that_is_deleted_and_made_anew_keeps_its_name_at_the_replica() {
    let (world, repo) = place();
    let worker = worker(&world);
    settles(&world);
    for _ in 0..3 {
        world.ok(&["repo", "delete", "x", "--region", SOURCE]);
        world.import(&repo, "x");
    }
    settles(&world);
    assert_eq!(worker.stop().0, Some(0));
}

#[test]
fn names_that_are_swapped_go_round_at_the_replica() {
    let (world, _) = place();
    let worker = worker(&world);
    settles(&world);
    for _ in 0..3 {
        for (from, to) in [("x", "t"), ("y", "x"), ("z", "y"), ("t", "z")] {
            world.ok(&["repo", "rename", from, to, "--region", SOURCE]);
        }
        settles(&world);
    }
    assert_eq!(worker.stop().0, Some(0));
}

#[test]
fn a_name_that_the_target_frees_itself_is_found_by_a_sweep() {
    let (world, repo) = place();
    world.replicate();
    world.ok(&["import", repo.path.to_str().unwrap(), "own", "--region", TARGET]);
    world.ok(&["repo", "rename", "x", "own", "--region", SOURCE]);
    world.replicate();
    world.ends(1, &["status", LINK]);
    let worker = Running::start(&world, &[], &["--sweep-every", "300ms"]);
    world.ok(&["repo", "rename", "own", "elsewhere", "--region", TARGET]);
    wait("the replica has its name", || listed(&world, TARGET).get("own") == listed(&world, SOURCE).get("own"));
    assert_eq!(worker.stop().0, Some(0));
}
