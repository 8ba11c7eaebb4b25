//! Disks that are full, read-only or hold nonsense, and names that nobody knows.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::faults::disk::{assert_same, damage, half, state, table};
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

/// A small file system in memory; gone when it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one, where that is allowed.
    fn mount(path: PathBuf, bytes: u64) -> Option<Disk> {
        std::fs::create_dir_all(&path).unwrap();
        let disk = Disk(path);
        disk.run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).then_some(disk)
    }

    fn remount(&self, options: &str) {
        assert!(self.run("mount", &["-o", &format!("remount,{options}")]));
    }

    fn run(&self, program: &str, args: &[&str]) -> bool {
        let output = Command::new(program).args(args).arg(&self.0).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.run("umount", &[]);
    }
}

/// A world in which a region lies on a disk of its own; `None`, and a loud word, where nobody may mount.
fn on_disk(test: &str, region: &str, bytes: u64) -> Option<(World, Disk)> {
    let world = World::with(&[SOURCE, TARGET], &format!("[links.{LINK}]\nsource = {SOURCE:?}\ntarget = {TARGET:?}\n"));
    let disk = Disk::mount(world.path(region), bytes);
    if disk.is_none() {
        eprintln!("SKIPPED {test}: only root may mount a small disk");
    }
    // The region is made anew on it.
    disk.map(|disk| {
        world.ok(&["region", "init"]);
        (world, disk)
    })
}

fn small_then_large(world: &World) -> GitRepo {
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    world.sync(&source, "team/app");
    source.commit_bytes("main", "large", &noise(3, 12 << 20));
    source
}

#[test]
fn a_full_disk_of_the_target_changes_nothing_and_is_gone_on_with() {
    let Some((world, disk)) = on_disk("a_full_disk_of_the_target", TARGET, 6 << 20) else { return };
    let source = small_then_large(&world);
    world.import(&source, "team/app");
    let before = state(&world, TARGET);
    for _ in 0..2 {
        let run = world.ends(3, &["replicate", LINK]);
        run.says(&["team/app", TARGET, "No space left", "free disk space"]);
        assert_same(&before, &state(&world, TARGET));
    }
    // What was there can still be read.
    world.ok(&["verify", "team/app", "--region", TARGET, "--deep"]);
    disk.remount("size=64m");
    assert_eq!(world.replicate()["delivered"], 1);
    world.assert_synced(&source, "team/app");
}

#[test]
fn a_full_disk_of_the_source_region_refuses_the_import() {
    let Some((world, disk)) = on_disk("a_full_disk_of_the_source_region", SOURCE, 6 << 20) else { return };
    let source = small_then_large(&world);
    let before = state(&world, SOURCE);
    let args = ["import", source.path.to_str().unwrap(), "team/app", "--region", SOURCE];
    for _ in 0..2 {
        world.ends(3, &args).says(&["No space left", "free disk space", SOURCE]);
        assert_same(&before, &state(&world, SOURCE));
    }
    disk.remount("size=64m");
    world.sync(&source, "team/app");
}

#[test]
fn a_table_without_room_changes_nothing() {
    let Some((world, disk)) = on_disk("a_table_without_room", TARGET, 6 << 20) else { return };
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    world.sync(&source, "team/app");
    source.commit("main", "more", "more\n");
    world.import(&source, "team/app");
    let before = state(&world, TARGET);
    // Not one page is left for anybody.
    let filler = world.path(TARGET).join("filler");
    std::process::Command::new("dd")
        .args(["if=/dev/zero", "bs=4096", "status=none", &format!("of={}", filler.display())])
        .output()
        .unwrap();
    // Not even SQLite's shared memory has room, so that nothing can be read either.
    world.ends(3, &["replicate", LINK]).says(&[TARGET, "table.db", "free disk space"]);
    std::fs::remove_file(filler).unwrap();
    assert_same(&before, &state(&world, TARGET));
    assert_eq!(world.replicate()["delivered"], 1);
    world.assert_synced(&source, "team/app");
    drop(disk);
}

#[test]
fn a_read_only_target_is_read_and_not_written() {
    let Some((world, disk)) = on_disk("a_read_only_target", TARGET, 32 << 20) else { return };
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    world.sync(&source, "team/app");
    // With the log in the file, there is nothing that only a writer could make readable.
    table(&world, TARGET).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    source.commit("main", "more", "more\n");
    world.import(&source, "team/app");
    disk.remount("ro");
    let run = world.ends(3, &["replicate", LINK]);
    run.says(&["team/app", TARGET, "ead-only", "fix permissions"]);
    world.ok(&["verify", "team/app", "--region", TARGET, "--deep"]);
    let status = world.run(&["status", LINK, "--json"]).json();
    assert_eq!(status["repositories"][0]["pending_changes"], 1);
    disk.remount("rw");
    assert_eq!(world.replicate()["delivered"], 1);
    world.assert_synced(&source, "team/app");
}

#[test]
fn a_read_only_region_takes_no_import() {
    let Some((world, disk)) = on_disk("a_read_only_region", SOURCE, 32 << 20) else { return };
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    world.sync(&source, "team/app");
    source.commit("main", "more", "more\n");
    disk.remount("ro");
    let args = ["import", source.path.to_str().unwrap(), "team/app", "--region", SOURCE];
    world.ends(3, &args).says(&["ead-only", SOURCE]);
    disk.remount("rw");
    world.sync(&source, "team/app");
}

/// Moves the log of a table into its file, so that damage to the file shows.
fn checkpoint(world: &World, region: &str) -> PathBuf {
    table(world, region).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    world.path(region).join("table.db")
}

#[test]
fn a_destroyed_table_is_named_and_nothing_is_done() {
    let world = World::new();
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    world.sync(&source, "team/app");
    let first_page = |mut bytes: Vec<u8>| {
        bytes[..100].fill(0x55);
        Some(bytes)
    };
    let all_pages_but_the_first = |mut bytes: Vec<u8>| {
        bytes[4096..].fill(0x55);
        Some(bytes)
    };
    type Spoil<'a> = &'a dyn Fn(&Path) -> crate::faults::disk::Damage;
    let cases: [(&str, Spoil<'_>); 3] = [
        ("not a SQLite database", &|path| damage(path, first_page)),
        ("table.db", &|path| damage(path, all_pages_but_the_first)),
        ("table.db", &|path| damage(path, half)),
    ];
    for region in [SOURCE, TARGET] {
        let other = if region == SOURCE { TARGET } else { SOURCE };
        for (words, spoil) in &cases {
            let path = checkpoint(&world, region);
            let before = state(&world, other);
            let damaged = spoil(&path);
            for args in [
                &["replicate", LINK][..],
                &["verify", LINK][..],
                &["repo", "show", "team/app", "--region", region][..],
                &["repo", "rename", "team/app", "other", "--region", region][..],
            ] {
                world.ends(3, args).says(&[words, region]);
            }
            assert_same(&before, &state(&world, other));
            drop(damaged);
            for leftover in ["table.db-shm", "table.db-wal"] {
                std::fs::remove_file(world.path(region).join(leftover)).ok();
            }
            world.ok(&["verify", LINK, "--deep"]);
        }
    }
}

#[test]
fn a_table_of_another_program_is_left_alone() {
    let world = World::new();
    let file = world.path(SOURCE).join("table.db");
    std::fs::remove_file(&file).unwrap();
    table(&world, SOURCE).execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
    let before = std::fs::read(&file).unwrap();
    world.ends(3, &["repo", "create", "a", "--region", SOURCE]).says(&["another program", "table.db"]);
    assert!(std::fs::read(&file).unwrap() == before);
}

#[test]
fn names_that_nobody_knows_are_answered_with_those_that_there_are() {
    let world = World::new();
    for args in [
        &["replicate", "nolink"][..],
        &["status", "nolink"][..],
        &["verify", "team/app", "--region", "mars"][..],
        &["import", ".", "team/app", "--region", "mars"][..],
        &["repo", "list", "--region", "mars"][..],
        &["export", "team/app", "--region", "mars", "--to", "x"][..],
        &["log", "team/app", "--region", "mars"][..],
    ] {
        let known = if args.contains(&"mars") { [SOURCE, TARGET] } else { [LINK, LINK] };
        world.ends(2, args).says(&known);
    }
    for args in [
        &["replicate", LINK, "team/app"][..],
        &["verify", "team/app"][..],
        &["verify", "team/app", "--region", SOURCE][..],
        &["export", "team/app", "--region", SOURCE, "--to", "x"][..],
        &["log", "team/app", "--region", SOURCE][..],
        &["repo", "show", "team/app", "--region", SOURCE][..],
        &["repo", "delete", "team/app", "--region", SOURCE][..],
    ] {
        world.ends(2, args).says(&["team/app", SOURCE]);
    }
    assert!(!world.path("x").exists());
}
