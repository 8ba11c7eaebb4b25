//! However many changes bring packs, neither side's manifest fills up, and nobody notices otherwise.

use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_engine::region::consolidate::PackAside;
use gitferry_store::table::{Condition, Write};

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::{SOURCE, TARGET, World};

/// Where consolidation starts (`region/consolidate.rs`).
const PACKS: u64 = 100;

fn packs(world: &World, region: &str) -> u64 {
    world.show("app", region)["packs"].as_u64().unwrap()
}

/// A commit and an import, `count` times.
fn grow(world: &World, repo: &GitRepo, from: u32, count: u32) {
    for number in from..from + count {
        repo.commit("main", &format!("file-{}", number % 7), &format!("content {number}\n"));
        world.import(repo, "app");
    }
}

#[test]
fn small_packs_become_one_on_each_side_by_itself() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.sync(&repo, "app");
    // The target keeps up, one change at a time, and consolidates its own packs.
    for number in 0..60 {
        grow(&world, &repo, number * 2, 2);
        world.replicate();
    }
    for region in [SOURCE, TARGET] {
        assert!((2..=PACKS).contains(&packs(&world, region)), "{region}: {}", packs(&world, region));
    }
    world.assert_synced(&repo, "app");
    // Those that were replaced stay for whoever reads them now.
    assert!(world.pack_files(SOURCE).len() as u64 > packs(&world, SOURCE));
}

#[test]
fn a_target_that_lags_behind_a_consolidation_gets_the_live_packs() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.sync(&repo, "app");
    grow(&world, &repo, 0, 115);
    let before = packs(&world, SOURCE);
    assert!(before < 100, "nothing was consolidated: {before}");
    let run = world.replicate();
    assert_eq!(run["changes"], 115);
    assert!(run["packs"].as_u64().unwrap() <= before);
    world.assert_synced(&repo, "app");
    // And from then on one pack for one change again.
    grow(&world, &repo, 115, 1);
    let run = world.replicate();
    assert_eq!((run["changes"].as_u64(), run["packs"].as_u64()), (Some(1), Some(1)));
    world.assert_synced(&repo, "app");
}

#[test]
fn killed_while_consolidating_nothing_is_lost() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.sync(&repo, "app");
    grow(&world, &repo, 0, 98);
    let mut died = 0;
    for number in 98..104 {
        repo.commit("main", "file", &format!("content {number}\n"));
        let mut command = world.command(&["import", repo.path.to_str().unwrap(), "app", "--region", SOURCE]);
        command.env("FAILPOINTS", "consolidate-before-manifest=return");
        died += u32::from(!command.output().unwrap().status.success());
        world.ok(&["verify", "app", "--region", SOURCE]);
    }
    assert!(died > 0, "it never came to a consolidation");
    // The lease of the process that died stays for some seconds; a writer with many packs waits for it.
    grow(&world, &repo, 120, 20);
    assert!(packs(&world, SOURCE) < 100);
    world.replicate();
    world.assert_synced(&repo, "app");
}

#[test]
fn status_names_a_damaged_pack_that_consolidation_passes_over() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.sync(&repo, "app");
    world.ok(&["status", "dr"]);
    let folder = world.path(TARGET);
    let region = Region::open_embedded(TARGET, &folder.join("objects"), &folder.join("table.db")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pack = runtime.block_on(async {
        let item = region.repositories().get("app").await.unwrap();
        let pack = region.reader().manifest(&item).await.unwrap().0.packs.remove(0);
        let (found, reason) = (region.clock().now(), "its CRC-64 is another".to_owned());
        let (repository, key) = (item.id, pack.key.clone());
        let row = PackAside { repository, pack: pack.id, key: key.clone(), reason, found, checked: found };
        let document = serde_json::to_value(row).unwrap();
        region
            .table()
            .transact(vec![Write::put(keys::aside(repository, &key), Condition::Any, document)])
            .await
            .unwrap();
        pack.id.to_string()
    });
    let status = world.run(&["status", "dr", "--json"]);
    assert_ne!(status.status.code(), Some(0), "{status:?}");
    let one = &status.json()["repositories"][0];
    assert_eq!(one["standing"], "damaged");
    let error = one["last_error"].as_str().unwrap();
    assert!([&pack, TARGET, "CRC-64", "gitferry repair app"].iter().all(|word| error.contains(*word)), "{error}");
}
