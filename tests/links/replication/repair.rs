//! What a region has lost or holds damaged is named on every way out, leaves nothing that looks whole, and comes back
//! from another region.

use std::fs;
use std::path::{Path, PathBuf};

use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_store::table::{Condition, Write};
use serde_json::json;

use crate::replication::lfs::{add, kept, oid_of, stored};
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

/// A repository of three packs, the same in both regions.
fn synced() -> (World, GitRepo) {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    for content in ["one", "two", "three"] {
        repo.commit("main", "file", content);
        world.import(&repo, "team/app");
        world.replicate();
    }
    (world, repo)
}

type Damage = fn(&Path, &[u8]);

fn replace(path: &Path, bytes: Option<&[u8]>) {
    fs::remove_file(path).unwrap();
    if let Some(bytes) = bytes {
        fs::write(path, bytes).unwrap();
    }
}

/// A file that is gone, cut, grown, and one with another byte, of packs and of indexes.
const DAMAGES: [(&str, Damage); 4] = [
    ("missing", |path, _| replace(path, None)),
    ("damaged", |path, bytes| replace(path, Some(&bytes[..bytes.len() / 2]))),
    ("damaged", |path, bytes| replace(path, Some(&[bytes, b"more"].concat()))),
    ("damaged", |path, bytes| {
        let mut other = bytes.to_vec();
        other[bytes.len() / 2] ^= 1;
        replace(path, Some(&other));
    }),
];

/// A file of a pack that was not damaged before: one that was repaired stays beside its copy for a while.
fn pack(world: &World, region: &str, extension: &str, damaged: &[PathBuf]) -> PathBuf {
    let mut packs = world.pack_files(region);
    packs.retain(|path| !damaged.contains(path));
    packs[1].with_extension(extension)
}

#[test]
fn a_bad_pack_is_named_on_the_way_out_and_comes_back_from_the_other_region() {
    for (region, other) in [(SOURCE, TARGET), (TARGET, SOURCE)] {
        let (world, repo) = synced();
        let mut damaged = Vec::new();
        for extension in ["pack", "idx"] {
            for (what, damage) in DAMAGES {
                let path = pack(&world, region, extension, &damaged);
                damage(&path, &fs::read(&path).unwrap());
                let to = world.fresh("export");
                let args = ["export", "team/app", "--region", region, "--to", to.to_str().unwrap()];
                let run = world.ends(3, &args);
                let file = path.with_extension("pack");
                damaged.push(file.clone());
                let name = file.file_name().unwrap().to_str().unwrap();
                let command = format!("gitferry repair team/app --region {region} --from");
                run.says(&["team/app", region, name, what, &command]);
                assert!(!to.exists(), "{} looks like an export", to.display());
                let repair = ["repair", "team/app", "--region", region, "--from", other];
                let repaired = world.json(&repair);
                assert_eq!(repaired["repaired_packs"].as_array().unwrap().len(), 1, "{what}: {repaired}");
                world.assert_exports_as(&repo, "team/app", region);
                world.ok(&["verify", LINK, "--deep"]);
                let again = world.json(&repair);
                assert_eq!((&again["repaired_packs"], &again["packs"]), (&json!([]), &3.into()));
            }
        }
        world.sync(&repo, "team/app");
    }
}

#[test]
fn what_the_other_region_holds_damaged_as_well_is_left_and_said() {
    let (world, _) = synced();
    for region in [SOURCE, TARGET] {
        let path = pack(&world, region, "pack", &[]);
        let bytes = fs::read(&path).unwrap();
        replace(&path, Some(&bytes[..bytes.len() - 1]));
    }
    let before = world.show("team/app", SOURCE);
    let run = world.ends(1, &["repair", "team/app", "--region", SOURCE, "--from", TARGET]);
    assert!(run.stdout.contains("LEFT") && run.stdout.contains(TARGET), "{}", run.stdout);
    assert_eq!(world.show("team/app", SOURCE), before);
    world.ends(2, &["repair", "team/app", "--region", SOURCE, "--from", SOURCE]);
}

/// A repository with LFS objects, of which one is too large for one part, the same in both regions.
fn synced_lfs() -> (World, GitRepo, [Vec<u8>; 2]) {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    let contents = [noise(1, 1000), noise(2, (9 << 20) + 1)];
    for (number, content) in contents.iter().enumerate() {
        add(&repo, &format!("{number}.bin"), content);
    }
    world.sync(&repo, "app");
    (world, repo, contents)
}

#[test]
fn a_bad_lfs_object_comes_back_from_the_other_region() {
    let (world, repo, contents) = synced_lfs();
    for (region, other) in [(SOURCE, TARGET), (TARGET, SOURCE)] {
        for content in &contents {
            for (what, damage) in DAMAGES {
                let (path, oid) = (stored(&world, region, content), oid_of(content));
                damage(&path, content);
                let run = world.ends(1, &["verify", "app", "--region", region, "--deep"]);
                assert!(run.stdout.contains(&oid), "{what}: {}", run.stdout);
                let repair = ["repair", "app", "--region", region, "--from", other];
                let repaired = world.json(&repair);
                let mended = repaired["repaired_lfs_objects"].as_array().unwrap();
                assert!(mended.len() == 1 && mended[0].as_str().unwrap().contains(&oid), "{what}: {repaired}");
                assert!(fs::read(&path).unwrap() == *content);
                world.ok(&["verify", LINK, "--deep"]);
                let again = world.json(&repair);
                assert_eq!((&again["repaired_lfs_objects"], &again["lfs_objects"]), (&json!([]), &2.into()));
                assert!(!world.path(region).join("objects/.staging").read_dir().unwrap().any(|_| true));
            }
        }
        let export = world.assert_exports_as(&repo, "app", region);
        for content in &contents {
            assert!(fs::read(kept(&export.path, &oid_of(content))).unwrap() == *content);
        }
    }
}

/// What the table says of an object is lost or wrong, while its bytes are sound, or lost as well.
#[test]
fn the_row_of_an_lfs_object_comes_back_from_the_ledger() {
    let (world, repo, contents) = synced_lfs();
    let oid = oid_of(&contents[0]);
    for (wrong, lost) in [(false, false), (false, true), (true, false), (true, true)] {
        let id = world.show("app", TARGET)["id"].as_str().unwrap().parse().unwrap();
        let key = keys::lfs(id, oid.parse().unwrap());
        let write = match wrong {
            true => Write::put(key, Condition::Present, json!({ "size": 7, "crc64": "0000000000000000" })),
            false => Write::delete(key, Condition::Present),
        };
        let (objects, table) = (world.path(TARGET).join("objects"), world.path(TARGET).join("table.db"));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let region = Region::open_embedded(TARGET, &objects, &table).unwrap();
            region.table().transact(vec![write]).await.unwrap();
        });
        if lost {
            fs::remove_file(stored(&world, TARGET, &contents[0])).unwrap();
        }
        let run = world.ends(1, &["verify", "app", "--region", TARGET]);
        assert!(run.stdout.contains(&oid), "{}", run.stdout);
        let repaired = world.json(&["repair", "app", "--region", TARGET, "--from", SOURCE]);
        assert_eq!(repaired["repaired_lfs_objects"].as_array().unwrap().len(), 1, "{repaired}");
        world.ok(&["verify", LINK, "--deep"]);
    }
    world.assert_exports_as(&repo, "app", TARGET);
}

#[test]
fn an_lfs_object_that_is_bad_everywhere_is_left_as_it_is() {
    let (world, _, contents) = synced_lfs();
    let paths = [SOURCE, TARGET].map(|region| stored(&world, region, &contents[0]));
    for path in &paths {
        DAMAGES[3].1(path, &contents[0]);
    }
    let before = fs::read(&paths[0]).unwrap();
    let run = world.ends(1, &["repair", "app", "--region", SOURCE, "--from", TARGET]);
    assert!(run.stdout.contains("LEFT") && run.stdout.contains(&oid_of(&contents[0])), "{}", run.stdout);
    assert!(fs::read(&paths[0]).unwrap() == before, "the last copy was removed");
}
