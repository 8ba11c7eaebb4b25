//! Git LFS objects come with an import, go with the changes that name them, and are there before the refs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::world::{LINK, Run, SOURCE, TARGET, World};

pub fn oid_of(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// Where git-lfs keeps an object.
pub fn kept(repo: &Path, oid: &str) -> PathBuf {
    repo.join("lfs/objects").join(&oid[..2]).join(&oid[2..4]).join(oid)
}

pub fn keep(repo: &GitRepo, content: &[u8]) {
    let path = kept(&repo.path, &oid_of(content));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// Commits the pointer to a content.
fn point(repo: &GitRepo, file: &str, content: &[u8]) {
    let (oid, size) = (oid_of(content), content.len());
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n");
    repo.commit("main", file, &pointer);
}

pub fn add(repo: &GitRepo, file: &str, content: &[u8]) {
    keep(repo, content);
    point(repo, file, content);
}

/// Where a region's store has an object.
pub fn stored(world: &World, region: &str, content: &[u8]) -> PathBuf {
    let id = world.show("app", region)["id"].as_str().unwrap().to_owned();
    let oid = oid_of(content);
    world.path(region).join("objects/repositories").join(id).join("lfs").join(&oid[..2]).join(&oid[2..4]).join(oid)
}

fn flip_a_byte(path: &Path) {
    let mut content = std::fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, content).unwrap();
}

fn dies(world: &World, points: &str) {
    use std::os::unix::process::ExitStatusExt as _;
    let mut command = world.command(&["replicate", LINK]);
    command.env("FAILPOINTS", points);
    let run = Run::of(command);
    assert_eq!(run.status.signal(), Some(6), "{points}: {}{}", run.stdout, run.stderr);
}

#[test]
fn objects_go_from_a_repository_through_two_regions_into_another() {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    let contents = [noise(1, 20 << 20), noise(2, 1000), b"x".to_vec()];
    for (n, content) in contents.iter().enumerate() {
        add(&repo, &format!("{n}.bin"), content);
    }
    // Somewhere else the same content.
    point(&repo, "twice.bin", &contents[0]);
    let imported = world.import(&repo, "app");
    let bytes: usize = contents.iter().map(Vec::len).sum();
    assert_eq!((&imported["lfs_objects"], &imported["lfs_missing"]), (&3.into(), &0.into()), "{imported}");
    assert_eq!(imported["lfs_bytes"], bytes);
    let summary = world.replicate();
    assert_eq!(summary["lfs_objects"], 3, "{summary}");
    assert!(summary["bytes_copied"].as_u64().unwrap() >= bytes as u64, "{summary}");
    world.ok(&["verify", LINK, "--deep"]);
    let export = world.assert_exports_as(&repo, "app", TARGET);
    for content in &contents {
        assert!(std::fs::read(kept(&export.path, &oid_of(content))).unwrap() == *content);
    }
    // An export is a source like any other.
    let again = world.json(&["import", export.path.to_str().unwrap(), "again", "--region", SOURCE]);
    assert_eq!((&again["lfs_objects"], &again["lfs_missing"]), (&3.into(), &0.into()), "{again}");
    // What is new moves, and nothing else.
    add(&repo, "new.bin", b"new");
    assert_eq!(world.import(&repo, "app")["lfs_objects"], 1);
    let summary = world.json(&["replicate", LINK, "app"]);
    assert_eq!(summary["lfs_objects"], 1, "{summary}");
    assert!(summary["bytes_copied"].as_u64().unwrap() < 10_000, "{summary}");
    world.assert_exports_as(&repo, "app", TARGET);
}

#[test]
fn what_is_missing_is_told_and_taken_when_it_comes() {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    point(&repo, "a.bin", b"not yet here");
    point(&repo, "b.bin", b"damaged");
    add(&repo, "c.bin", b"here");
    let damaged = kept(&repo.path, &oid_of(b"damaged"));
    std::fs::create_dir_all(damaged.parent().unwrap()).unwrap();
    std::fs::write(&damaged, b"DAMAGED").unwrap();
    let imported = world.import(&repo, "app");
    assert_eq!((&imported["lfs_objects"], &imported["lfs_missing"]), (&1.into(), &2.into()), "{imported}");
    assert_eq!(world.replicate()["lfs_objects"], 1);
    world.assert_exports_as(&repo, "app", TARGET);
    // Nothing has come.
    let imported = world.import(&repo, "app");
    assert_eq!((&imported["change"], &imported["lfs_missing"]), (&serde_json::Value::Null, &2.into()), "{imported}");
    keep(&repo, b"not yet here");
    let imported = world.import(&repo, "app");
    assert_eq!((&imported["change"], &imported["lfs_objects"]), (&2.into(), &1.into()), "{imported}");
    assert_eq!(imported["lfs_missing"], 1);
    // Together with something else.
    keep(&repo, b"damaged");
    repo.commit("main", "file", "more");
    let imported = world.import(&repo, "app");
    assert_eq!((&imported["change"], &imported["lfs_objects"]), (&3.into(), &1.into()), "{imported}");
    assert_eq!(world.replicate()["lfs_objects"], 2);
    // Nothing is waited for any more.
    assert_eq!(world.import(&repo, "app")["change"], Value::Null);
    world.ok(&["verify", LINK, "--deep"]);
    assert_eq!(world.json(&["verify", LINK])["repositories"][1]["lfs_objects"], 3);
    assert_eq!(std::fs::read(stored(&world, TARGET, b"not yet here")).unwrap(), b"not yet here");
}

#[test]
fn a_process_that_dies_leaves_no_ref_without_its_objects() {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    let (large, small) = (noise(1, 20 << 20), noise(2, 1000));
    add(&repo, "large.bin", &large);
    add(&repo, "small.bin", &small);
    world.import(&repo, "app");
    // The objects are copied and nobody can see why.
    dies(&world, "copied-lfs=return");
    assert!(world.json(&["status", LINK])["repositories"][0]["target"].is_null());
    let summary = world.replicate();
    assert_eq!(summary["lfs_objects"], 0, "{summary}");
    assert!(summary["bytes_copied"].as_u64().unwrap() < 100_000, "{summary}");
    world.ok(&["verify", LINK, "--deep"]);
    world.assert_exports_as(&repo, "app", TARGET);
}

#[test]
fn a_large_object_resumes_in_the_middle() {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    let large = noise(1, (30 << 20) + 7);
    add(&repo, "large.bin", &large);
    world.import(&repo, "app");
    for _ in 0..3 {
        dies(&world, "copy-part=return->off");
    }
    let summary = world.replicate();
    let copied = summary["bytes_copied"].as_u64().unwrap();
    assert!(copied < (15 << 20), "{copied} of {}: {summary}", large.len());
    world.ok(&["verify", LINK, "--deep"]);
    assert!(std::fs::read(stored(&world, TARGET, &large)).unwrap() == large);
    // No upload is left.
    assert_eq!(std::fs::read_dir(world.path(TARGET).join("objects/.staging")).unwrap().count(), 0);
}

#[test]
fn a_bad_object_at_the_source_stops_its_repository_and_is_named() {
    for (size, delete) in [(1000, true), (1000, false), (20 << 20, true), (20 << 20, false)] {
        let world = World::new();
        let repo = GitRepo::init(world.path("src.git"), &[]);
        repo.commit("main", "file", "before");
        world.sync(&repo, "app");
        let content = noise(3, size);
        add(&repo, "bad.bin", &content);
        world.import(&repo, "app");
        let path = stored(&world, SOURCE, &content);
        match delete {
            true => std::fs::remove_file(&path).unwrap(),
            false => flip_a_byte(&path),
        }
        for _ in 0..2 {
            let run = world.ends(3, &["replicate", LINK]);
            run.says(&[&format!("LFS object {}", oid_of(&content)), "app", SOURCE]);
            assert_eq!(world.show("app", TARGET)["frontier"]["seq"], 1);
        }
        assert!(!stored(&world, TARGET, &content).exists());
        // Mended, it goes on.
        let _ = std::fs::remove_file(&path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &content).unwrap();
        world.replicate();
        world.ok(&["verify", LINK, "--deep"]);
    }
}

#[test]
fn verify_names_what_is_gone_and_deep_what_is_damaged() {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    let contents = [noise(1, 9 << 20), noise(2, 100), noise(3, 50)];
    for (n, content) in contents.iter().enumerate() {
        add(&repo, &format!("{n}.bin"), content);
    }
    world.sync(&repo, "app");
    flip_a_byte(&stored(&world, TARGET, &contents[0]));
    world.ok(&["verify", LINK]);
    let damaged = format!("LFS object {} is damaged", oid_of(&contents[0]));
    let run = world.ends(1, &["verify", LINK, "--deep"]);
    assert!(run.stdout.contains(&damaged), "{}", run.stdout);
    let run = world.ends(3, &["export", "app", "--region", TARGET, "--to", world.fresh("bad").to_str().unwrap()]);
    run.says(&[&oid_of(&contents[0])]);
    assert!(!world.path("bad-0").exists());
    std::fs::remove_file(stored(&world, TARGET, &contents[1])).unwrap();
    std::fs::set_permissions(stored(&world, TARGET, &contents[2]), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(stored(&world, TARGET, &contents[2]), b"short").unwrap();
    let run = world.ends(1, &["verify", "app", "--region", TARGET]);
    for (content, what) in [(&contents[1], "is missing"), (&contents[2], "has 5 bytes, not 50")] {
        let expected = format!("LFS object {} {what}", oid_of(content));
        assert!(run.stdout.contains(&expected), "{expected}: {}", run.stdout);
    }
    world.ok(&["verify", "app", "--region", SOURCE, "--deep"]);
}
