//! Every kind of change to refs and HEAD arrives, each as one change.

use std::fmt::Write as _;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::{SOURCE, TARGET, World};

/// A world with a repository that is in sync already.
fn synced() -> (World, GitRepo) {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.sync(&repo, "app");
    (world, repo)
}

/// Brings what happened to the repository over, as one change with so many edits.
fn sync_one_change(world: &World, repo: &GitRepo, edits: u64) {
    let summary = world.sync(repo, "app");
    let got = ["delivered", "failed", "changes", "edits"].map(|field| summary[field].as_u64().unwrap());
    assert_eq!(got, [1, 0, 1, edits], "{summary}");
}

#[test]
fn a_first_sync_carries_everything() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    let imported = world.import(&repo, "app");
    assert_eq!(imported["change"], 1);
    assert_eq!(imported["created"], repo.refs().len());
    assert_eq!(imported["objects"], repo.objects().len());
    let summary = world.replicate();
    assert_eq!((&summary["delivered"], &summary["failed"]), (&1.into(), &0.into()));
    world.assert_synced(&repo, "app");
    world.assert_exports_as(&repo, "app", SOURCE);
    assert_eq!(world.show("app", SOURCE)["frontier"], world.show("app", TARGET)["frontier"]);
}

#[test]
fn new_commits_bring_only_new_objects() {
    let (world, repo) = synced();
    repo.commit("main", "dir/file0", "one more\n");
    let imported = world.import(&repo, "app");
    // A blob, two trees, a commit.
    assert_eq!((&imported["updated"], &imported["objects"]), (&1.into(), &4.into()));
    let summary = world.replicate();
    assert_eq!(summary["bytes_copied"], imported["bytes"]);
    world.assert_synced(&repo, "app");
}

#[test]
fn a_forced_push_arrives() {
    let (world, repo) = synced();
    repo.git(&["update-ref", "refs/heads/main", "refs/heads/main~4"]);
    repo.commit("main", "rewritten", "history\n");
    sync_one_change(&world, &repo, 1);
}

#[test]
fn a_deleted_ref_is_deleted() {
    let (world, repo) = synced();
    repo.git(&["update-ref", "-d", "refs/heads/side"]);
    repo.git(&["update-ref", "-d", "refs/tags/v1"]);
    sync_one_change(&world, &repo, 2);
}

#[test]
fn a_moved_tag_moves() {
    let (world, repo) = synced();
    repo.git(&["tag", "-f", "light", "main"]);
    repo.git(&["tag", "-f", "-am", "again", "v1", "main~2"]);
    sync_one_change(&world, &repo, 2);
}

#[test]
fn head_moves_detaches_and_becomes_unborn() {
    let (world, repo) = synced();
    for step in [
        &["symbolic-ref", "HEAD", "refs/heads/side"][..],
        &["update-ref", "--no-deref", "HEAD", "refs/heads/main~1"],
        // A tag is a value for a detached HEAD that is no commit's.
        &["update-ref", "--no-deref", "HEAD", "refs/heads/main"],
        &["symbolic-ref", "HEAD", "refs/heads/not/yet"],
        &["symbolic-ref", "HEAD", "refs/heads/main"],
    ] {
        repo.git(step);
        sync_one_change(&world, &repo, 0);
    }
}

#[test]
fn a_detached_head_alone_brings_its_objects() {
    let (world, repo) = synced();
    let commit = repo.commit("passing", "only", "HEAD has it\n");
    repo.git(&["update-ref", "--no-deref", "HEAD", &commit]);
    repo.git(&["update-ref", "-d", "refs/heads/passing"]);
    sync_one_change(&world, &repo, 0);
}

#[test]
fn a_directory_and_a_file_change_places() {
    let (world, repo) = synced();
    let id = repo.git(&["rev-parse", "main"]);
    repo.git(&["update-ref", "refs/heads/a", &id]);
    sync_one_change(&world, &repo, 1);
    repo.git(&["update-ref", "-d", "refs/heads/a"]);
    repo.git(&["update-ref", "refs/heads/a/b", &id]);
    sync_one_change(&world, &repo, 2);
    repo.git(&["update-ref", "refs/heads/a/c", &id]);
    sync_one_change(&world, &repo, 1);
    repo.update_refs("delete refs/heads/a/b\ndelete refs/heads/a/c\n");
    repo.git(&["update-ref", "refs/heads/a", &id]);
    sync_one_change(&world, &repo, 3);
}

#[test]
fn four_thousand_refs_change_at_once() {
    let (world, repo) = synced();
    let ids = ["main", "main~1"].map(|name| repo.git(&["rev-parse", name]));
    let all = |verb: &str, value: &str| {
        (0..4_000).fold(String::new(), |mut lines, n| {
            let _ = writeln!(lines, "{verb} refs/heads/many/{}/{n}{value}", n % 40);
            lines
        })
    };
    repo.update_refs(all("create", &format!(" {}", ids[0])));
    sync_one_change(&world, &repo, 4_000);
    repo.update_refs(all("update", &format!(" {}", ids[1])));
    sync_one_change(&world, &repo, 4_000);
    assert_eq!(world.show("app", TARGET)["refs"], repo.refs().len());
    repo.update_refs(all("delete", ""));
    sync_one_change(&world, &repo, 4_000);
    assert_eq!(world.show("app", TARGET)["refs"], repo.refs().len());
}

#[test]
fn names_need_not_be_text() {
    let (world, repo) = synced();
    let id = repo.git(&["rev-parse", "main"]);
    let names: [&[u8]; 4] =
        [b"refs/heads/latin-\xe9", b"refs/heads/\xff\xfe", b"refs/tags/\xc3\xa9", b"refs/x/\xf0\x9f\xa6\x80"];
    let mut lines = Vec::new();
    for name in names {
        lines.extend([b"create ", name, b" ", id.as_bytes(), b"\n"].concat());
    }
    repo.update_refs(lines);
    sync_one_change(&world, &repo, 4);
    repo.update_refs([b"delete ", names[1], b"\n"].concat());
    sync_one_change(&world, &repo, 1);
}

#[test]
fn symbolic_refs_inside_refs_stay_symbolic() {
    let (world, repo) = synced();
    repo.git(&["symbolic-ref", "refs/heads/default", "refs/heads/main"]);
    repo.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/side"]);
    sync_one_change(&world, &repo, 2);
    // Where it points moves: the symbolic ref itself has no edit.
    repo.commit("main", "more", "more\n");
    sync_one_change(&world, &repo, 1);
    repo.git(&["symbolic-ref", "refs/heads/default", "refs/heads/side"]);
    sync_one_change(&world, &repo, 1);
    let id = repo.git(&["rev-parse", "main"]);
    repo.git(&["update-ref", "--no-deref", "refs/heads/default", &id]);
    sync_one_change(&world, &repo, 1);
}

#[test]
fn notes_and_replace_refs_are_refs_like_any_other() {
    let (world, repo) = synced();
    repo.git(&["replace", "main~1", "main~2"]);
    repo.git(&["notes", "--ref", "review", "add", "-m", "fine", "main~2"]);
    sync_one_change(&world, &repo, 2);
    repo.git(&["notes", "append", "-m", "more", "main"]);
    repo.git(&["replace", "-d", "main~1"]);
    sync_one_change(&world, &repo, 2);
}

#[test]
fn tags_of_trees_and_blobs_arrive() {
    let (world, repo) = synced();
    let blob = String::from_utf8(repo.feed(&["hash-object", "-w", "--stdin"], b"tagged itself\n")).unwrap();
    repo.git(&["tag", "blob", blob.trim()]);
    repo.git(&["tag", "-am", "a blob", "blob-annotated", blob.trim()]);
    repo.git(&["tag", "tree", "main^{tree}"]);
    sync_one_change(&world, &repo, 3);
}

#[test]
fn an_empty_repository_is_one_too() {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    repo.git(&["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    world.sync(&repo, "app");
    assert_eq!(world.import(&repo, "app")["change"], serde_json::Value::Null);
    repo.commit("trunk", "first", "first\n");
    sync_one_change(&world, &repo, 1);
}

#[test]
fn losing_every_ref_must_be_meant() {
    let (world, repo) = synced();
    for line in repo.refs() {
        let name = String::from_utf8(line).unwrap();
        repo.git(&["update-ref", "-d", name.split(' ').next().unwrap()]);
    }
    let before = world.show("app", SOURCE);
    let import = ["import", "src.git", "app", "--region", SOURCE];
    world.ends(2, &import).says(&["app", "--allow-empty"]);
    assert_eq!(world.show("app", SOURCE), before);
    world.ok(&[&import[..], &["--allow-empty"]].concat());
    world.replicate();
    world.assert_synced(&repo, "app");
    assert_eq!(world.show("app", TARGET)["refs"], 0);
}

#[test]
fn an_import_may_be_narrowed() {
    let (world, repo) = synced();
    let narrowed = GitRepo::at(repo.path.clone());
    repo.commit("main", "more", "more\n");
    repo.commit("side", "more", "more\n");
    repo.git(&["update-ref", "-d", "refs/tags/light"]);
    let import = ["import", "src.git", "app", "--region", SOURCE, "--json", "--refs"];
    let run = world.ends(0, &[&import[..], &["refs/heads/*", "^refs/heads/side"]].concat()).json();
    // The tag is not meant, so it is not gone.
    let got = ["created", "updated", "deleted"].map(|field| run[field].as_u64().unwrap());
    assert_eq!(got, [0, 1, 0], "{run}");
    world.replicate();
    world.ok(&["verify", "dr", "--deep"]);
    let run = world.ends(0, &[&import[..], &["refs/tags/"]].concat()).json();
    assert_eq!(run["deleted"], 1);
    world.sync(&narrowed, "app");
    world.ends(2, &[&import[..], &["heads/*"]].concat()).says(&["heads/*", "refs/"]);
}

#[test]
fn many_changes_arrive_in_one_pass() {
    let (world, repo) = synced();
    let ids = ["main~1", "main~2"].map(|name| repo.git(&["rev-parse", name]));
    for n in 0..130 {
        repo.git(&["update-ref", "refs/heads/moving", &ids[n % 2]]);
        if n % 40 == 0 {
            repo.commit("main", "file", &format!("{n}\n"));
        }
        assert_eq!(world.import(&repo, "app")["change"], n + 2);
    }
    let summary = world.replicate();
    assert_eq!((&summary["changes"], &summary["delivered"]), (&130.into(), &1.into()));
    world.assert_synced(&repo, "app");
}
