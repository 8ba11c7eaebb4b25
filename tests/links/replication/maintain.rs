//! `gitferry maintain`: a region is cleaned up by hand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::{SOURCE, World};

/// Longer than any recovery window that a test has.
const LONG_AGO: Duration = Duration::from_secs(60 * 24 * 60 * 60);

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Copies of a pack and its index under a nonce of their own, stored long ago: what a killed push leaves.
fn leave_orphans(world: &World) -> Vec<PathBuf> {
    let files = files_below(&world.path("us-east-1/objects/repositories"));
    let packs = files.iter().filter(|path| path.to_string_lossy().contains("/pack/pack-"));
    packs
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            let (stem, ending) = name.rsplit_once('.').unwrap();
            let (of, _) = stem.rsplit_once('-').unwrap();
            let orphan = path.with_file_name(format!("{of}-0123456789ab7def8123456789abcdef.{ending}"));
            std::fs::copy(path, &orphan).unwrap();
            let file = std::fs::File::options().write(true).open(&orphan).unwrap();
            file.set_modified(std::fs::metadata(path).unwrap().modified().unwrap() - LONG_AGO).unwrap();
            orphan
        })
        .collect()
}

#[test]
fn what_a_killed_push_left_goes_and_a_dry_run_only_counts_it() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.import(&repo, "app");
    let orphans = leave_orphans(&world);
    assert_eq!(orphans.len(), 2, "{orphans:?}");
    let before = files_below(&world.path("us-east-1/objects"));
    let run = |args: &[&str]| -> Value { world.json(&[&["maintain", "--region", SOURCE], args].concat()) };
    let planned = run(&["--dry-run"]);
    assert_eq!((&planned["dry_run"], &planned["swept"]["orphans"]), (&true.into(), &2.into()), "{planned}");
    assert_eq!(files_below(&world.path("us-east-1/objects")), before, "a dry run removes nothing");
    let done = run(&[]);
    assert_eq!((&done["dry_run"], &done["swept"]["orphans"]), (&false.into(), &2.into()), "{done}");
    assert!(orphans.iter().all(|orphan| !orphan.exists()));
    assert_eq!(run(&["--dry-run"])["swept"]["orphans"], 0);
    world.ok(&["verify", "app", "--region", SOURCE, "--deep"]);
}

#[test]
fn a_region_that_fails_keeps_no_other_from_being_cleaned_up() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.import(&repo, "app");
    world.replicate();
    let orphans = leave_orphans(&world);
    std::fs::write(world.path("eu-west-1/table.db"), "not a table").unwrap();
    let run = world.run(&["maintain"]);
    assert_eq!(run.status.code(), Some(3), "{run:?}");
    assert!(run.stderr.contains("region eu-west-1"), "{run:?}");
    assert!(run.stdout.contains("us-east-1: removed") && run.stdout.contains("2 orphaned files"), "{run:?}");
    assert!(orphans.iter().all(|orphan| !orphan.exists()));
    world.ends(2, &["maintain", "--region", "mars"]).says(&["region mars"]);
}
