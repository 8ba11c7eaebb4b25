//! What a region has lost or holds damaged is named on every way out, leaves nothing that looks whole, and comes back
//! from another region.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::git::GitRepo;
use crate::support::{LINK, SOURCE, TARGET, World};

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
                assert_eq!((&again["repaired_packs"], &again["packs"]), (&serde_json::json!([]), &3.into()));
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
