//! Regions whose stores are lost, empty, swapped or rolled back: an error that says so, and never an empty region.

use std::path::Path;

use gitferry_config::Config;
use gitferry_service::open;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

/// Two regions that hold a repository.
fn synced() -> (World, GitRepo) {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.sync(&repo, "app");
    (world, repo)
}

/// Every command that comes to the source says what is wrong with it, with its exit code, and makes nothing.
fn assert_refused(world: &World, repo: &GitRepo, words: &[&str]) {
    let path = repo.path.to_str().unwrap();
    for args in [
        &["repo", "list", "--region", SOURCE][..],
        &["status", LINK],
        &["verify", LINK],
        &["replicate", LINK],
        &["import", path, "app", "--region", SOURCE],
        &["repo", "create", "new", "--region", SOURCE],
    ] {
        let run = world.run(args);
        assert!(run.status.code() == Some(2) || run.status.code() == Some(3), "{args:?}: {}{}", run.stdout, run.stderr);
        let said = format!("{}{}", run.stdout, run.stderr);
        for word in [&["us-east-1", "cannot be used"], words].concat() {
            assert!(said.contains(word), "{args:?}: {word:?} is not in: {said}");
        }
    }
}

fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

#[test]
fn a_store_that_is_lost_is_an_error_everywhere_and_nothing_is_made() {
    let (world, repo) = synced();
    for (lost, words) in [
        ("us-east-1", &["missing", "not mounted"][..]),
        ("us-east-1/table.db", &["table", "missing"]),
        ("us-east-1/objects", &["object store", "missing"]),
    ] {
        let (path, aside) = (world.path(lost), world.path("aside"));
        rename(&path, &aside);
        assert_refused(&world, &repo, words);
        assert!(!path.exists(), "{lost} was made anew");
        rename(&aside, &path);
        world.ok(&["verify", LINK, "--deep"]);
    }
}

#[test]
fn an_empty_or_foreign_store_is_an_error_everywhere() {
    let (world, repo) = synced();
    let (table, objects) = (world.path(SOURCE).join("table.db"), world.path(SOURCE).join("objects"));
    let aside = world.path("aside");
    // A mount point without its disk.
    rename(&objects, &aside);
    std::fs::create_dir(&objects).unwrap();
    assert_refused(&world, &repo, &["object store lacks the identity"]);
    std::fs::remove_dir_all(&objects).unwrap();
    rename(&aside, &objects);
    // A table that another process made meanwhile.
    rename(&table, &aside);
    drop(gitferry_store::table::SqliteTable::open(&table, "another").unwrap());
    assert_refused(&world, &repo, &["table lacks the identity"]);
    // And that of the other region.
    for log in ["table.db-wal", "table.db-shm"] {
        let _ = std::fs::remove_file(world.path(SOURCE).join(log));
    }
    std::fs::copy(world.path(TARGET).join("table.db"), &table).unwrap();
    assert_refused(&world, &repo, &["do not belong together"]);
    rename(&aside, &table);
    world.ok(&["verify", LINK, "--deep"]);
    // Whole regions under each other's names.
    rename(&world.path(SOURCE), &aside);
    rename(&world.path(TARGET), &world.path(SOURCE));
    rename(&aside, &world.path(TARGET));
    assert_refused(&world, &repo, &["its stores are those of region"]);
}

#[test]
fn a_table_that_was_rolled_back_takes_nothing_until_a_person_decides() {
    let (world, repo) = synced();
    let (table, old) = (world.path(SOURCE).join("table.db"), world.path("old.db"));
    std::fs::copy(&table, &old).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config::load(&world.path("gitferry.toml")).unwrap();
    // What every process that writes does at its start, and now and then.
    runtime
        .block_on(async { open::writable_region(&config, SOURCE).await.unwrap().stores().raise_mark().await.unwrap() });
    repo.commit("main", "more", "more\n");
    world.sync(&repo, "app");
    let _ = std::fs::remove_file(world.path(SOURCE).join("table.db-wal"));
    std::fs::copy(&old, &table).unwrap();
    assert_refused(&world, &repo, &["rolled back", "--accept-older-table"]);
    world.ok(&["region", "init", SOURCE, "--accept-older-table"]);
    world.ok(&["repo", "list", "--region", SOURCE]);
    // The replica has what was lost, and says so.
    world.ends(1, &["replicate", LINK]).says(&["app", "ahead of its source"]);
}

#[test]
fn a_region_is_made_once_and_only_when_asked() {
    let world = World::with(&[SOURCE, TARGET], "");
    let identity = |region: &str| std::fs::read(world.path(region).join("objects/identity")).unwrap();
    let before = identity(SOURCE);
    world.ok(&["region", "init"]);
    assert_eq!(identity(SOURCE), before);
    assert_ne!(identity(TARGET), before);
    // A configuration alone makes nothing.
    let text = std::fs::read_to_string(world.path("gitferry.toml")).unwrap();
    std::fs::write(world.path("gitferry.toml"), text.replace(TARGET, "ap-south-1")).unwrap();
    for args in [&["repo", "list", "--region", "ap-south-1"][..], &["repo", "create", "a", "--region", "ap-south-1"]] {
        world.ends(2, args).says(&["ap-south-1", "gitferry region init ap-south-1"]);
    }
    assert!(!world.path("ap-south-1").exists());
    // Killed between the two stores, it is finished by the next run.
    std::fs::create_dir_all(world.path("ap-south-1/objects")).unwrap();
    let half = String::from_utf8(before).unwrap().replace(SOURCE, "ap-south-1");
    std::fs::write(world.path("ap-south-1/objects/identity"), half).unwrap();
    world.ok(&["region", "init", "ap-south-1"]);
    world.ok(&["repo", "create", "a", "--region", "ap-south-1"]);
}

#[test]
fn a_head_of_a_newer_gitferry_stops_its_reader() {
    let (world, _) = synced();
    let table = rusqlite::Connection::open(world.path(SOURCE).join("table.db")).unwrap();
    let newer = "UPDATE item SET document = json_set(document, '$.version', 4) WHERE sk = 'head'";
    table.execute_batch(newer).unwrap();
    drop(table);
    let run = world.ends(2, &["repo", "show", "app", "--region", SOURCE]);
    run.says(&["newer gitferry (format 4, this build reads up to 3)", "upgrade"]);
    let run = world.run(&["replicate", LINK]);
    assert!(!run.status.success() && format!("{}{}", run.stdout, run.stderr).contains("newer gitferry"));
}
