//! Every kind of change arrives.

use crate::support::git::GitRepo;
use crate::support::{LINK, SOURCE, TARGET, World};

/// A world with a repository that is in sync already.
fn synced() -> (World, GitRepo) {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.sync(&repo, "app");
    (world, repo)
}

#[test]
fn a_first_sync_carries_everything() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    let imported = world.import(&repo, "app");
    assert_eq!(imported["change"], 1);
    assert_eq!(imported["created"], repo.refs().len());
    let summary = world.replicate();
    assert_eq!((&summary["delivered"], &summary["failed"]), (&1.into(), &0.into()));
    world.assert_synced(&repo, "app");
    let again = world.replicate();
    assert_eq!((&again["unchanged"], &again["bytes_copied"]), (&1.into(), &0.into()));
    let _ = (LINK, SOURCE, TARGET);
}

#[test]
fn new_commits_bring_only_new_objects() {
    let (world, repo) = synced();
    repo.commit("main", "dir/file0", "one more\n");
    let imported = world.import(&repo, "app");
    // A blob, two trees, a commit.
    assert_eq!((&imported["updated"], &imported["objects"]), (&1.into(), &4.into()));
    world.replicate();
    world.assert_synced(&repo, "app");
}
