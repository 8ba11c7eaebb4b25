//! Damage in a region's own store or table: replication refuses to carry it on, and `verify` tells all of it.

use serde_json::Value;

use crate::faults::disk::{Damage, assert_same, damage, file, flip, gone, half, sql, state, table};
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

/// Refs in a change that is too large for its row.
const MANY: usize = 6_000;

/// Two changes in the source, of which the second is large and brings a pack; the target has the first.
fn lagging() -> (World, GitRepo) {
    let world = World::new();
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    source.git(&["repack", "-adq"]);
    world.sync(&source, "team/app");
    let tip = source.commit_bytes("main", "noise", &noise(1, 50_000));
    source.pack_many_refs("refs/many/", MANY, &tip);
    world.import(&source, "team/app");
    (world, source)
}

/// The pass fails, says these words, and changes nothing in the target.
fn refuses(world: &World, words: &[&str]) {
    let before = state(world, TARGET);
    let run = world.ends(3, &["replicate", LINK]);
    run.says(words);
    assert_same(&before, &state(world, TARGET));
    let status = world.run(&["status", LINK, "--json"]).json();
    let error = status["repositories"][0]["last_error"].as_str().unwrap_or_default().to_owned();
    assert!(words.iter().any(|word| error.contains(word)), "status says {error:?}");
}

/// The id of the newest pack of the source.
fn newest_pack(world: &World) -> String {
    let args = ["log", "team/app", "--region", SOURCE, "--json", "--limit", "1"];
    let change: Value = serde_json::from_str(&world.ok(&args)).unwrap();
    change["packs"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_damaged_pack_in_the_sources_store_is_not_carried_on() {
    let (world, source) = lagging();
    let id = newest_pack(&world);
    for extension in [".pack", ".idx"] {
        let path = file(&world, SOURCE, &format!("pack-{id}"), extension);
        type Change = fn(Vec<u8>) -> Option<Vec<u8>>;
        let changes: [Change; 5] =
            [half, gone, |bytes| flip(0)(bytes), |bytes| flip(500)(bytes), |bytes| flip(1_000)(bytes)];
        for change in changes {
            let _damaged = damage(&path, change);
            refuses(&world, &["team/app", &id, SOURCE, "gitferry repair"]);
        }
    }
    // What was put back is delivered, and nothing bad was kept from the tries before.
    assert_eq!(world.replicate()["delivered"], 1);
    world.assert_synced(&source, "team/app");
}

#[test]
fn a_damaged_large_pack_is_not_carried_on_and_not_resumed_from() {
    let world = World::new();
    let source = GitRepo::init(world.path("source.git"), &[]);
    // Above 8 MiB a pack goes in parts, above 1 MiB what was sent is written down.
    for megabytes in [20, 3] {
        source.commit_bytes("main", "file", &noise(megabytes, (megabytes as usize) << 20));
        world.import(&source, "team/app");
        let pack = file(&world, SOURCE, &format!("pack-{}", newest_pack(&world)), ".pack");
        for share in [1, 500, 999] {
            let _damaged = damage(&pack, flip(share));
            refuses(&world, &["team/app", SOURCE, "damaged"]);
        }
        assert_eq!(world.replicate()["delivered"], 1);
        world.assert_synced(&source, "team/app");
    }
}

#[test]
fn a_damaged_log_is_not_carried_on() {
    let (world, source) = lagging();
    let large = file(&world, SOURCE, "/changes/", "");
    type Change = fn(Vec<u8>) -> Option<Vec<u8>>;
    let changes: [Change; 4] = [half, gone, |bytes| flip(10)(bytes), |bytes| flip(700)(bytes)];
    for change in changes {
        let _damaged = damage(&large, change);
        refuses(&world, &["team/app", SOURCE, "change 2"]);
    }
    // A third change, whose row is its bytes.
    source.git(&["update-ref", "refs/heads/third", "main"]);
    world.import(&source, "team/app");
    let row = "pk LIKE 'repository/%' AND sk LIKE 'change/%3-%'";
    for change in [
        "UPDATE item SET bytes = CAST(replace(CAST(bytes AS TEXT), 'refs/heads/third', 'refs/heads/thief') AS BLOB)",
        "UPDATE item SET bytes = CAST(replace(CAST(bytes AS TEXT), 'epoch 1', 'epoch 7') AS BLOB)",
        "UPDATE item SET bytes = CAST('nonsense' AS BLOB)",
        "UPDATE item SET bytes = NULL",
        "UPDATE item SET document = json_set(document, '$.size', 7)",
        "UPDATE item SET document = '{}'",
        "UPDATE item SET sk = 'change/00000000000000000003-' || hex(zeroblob(32))",
        "DELETE FROM item",
    ] {
        let damaged = Rows::damage(&world, SOURCE, row, change);
        refuses(&world, &["team/app", SOURCE, "3"]);
        drop(damaged);
    }
    assert_eq!(world.replicate()["delivered"], 1);
    world.assert_synced(&source, "team/app");
}

#[test]
fn an_altered_head_of_the_target_takes_nothing_more() {
    let (world, source) = lagging();
    let row = "sk = 'head'";
    let (zero, none) = ("0".repeat(64), none());
    for (path, value) in [("$.refs_hash", none.as_str()), ("$.head", "ref:refs/heads/other")] {
        let change = format!("UPDATE item SET document = json_set(document, '{path}', '{value}')");
        let damaged = Rows::damage(&world, TARGET, row, &change);
        // HEAD alone does not hinder a change that leaves it; `verify` tells.
        if path == "$.refs_hash" {
            refuses(&world, &["team/app", "change 2", "digest"]);
        }
        assert!(!findings(&world).is_empty());
        drop(damaged);
    }
    let change = format!("UPDATE item SET document = json_set(document, '$.frontier.hash', '{zero}')");
    let damaged = Rows::damage(&world, TARGET, row, &change);
    let before = state(&world, TARGET);
    world.ends(1, &["replicate", LINK]).says(&["team/app", "fork", "nothing was overwritten"]);
    assert_same(&before, &state(&world, TARGET));
    drop(damaged);
    assert_eq!(world.replicate()["delivered"], 1);
    world.assert_synced(&source, "team/app");
}

#[test]
fn an_import_onto_a_damaged_log_adds_nothing_to_it() {
    let (world, source) = lagging();
    source.git(&["update-ref", "refs/heads/third", "main"]);
    let before = state(&world, SOURCE);
    let args = ["import", source.path.to_str().unwrap(), "team/app", "--region", SOURCE];
    let large = file(&world, SOURCE, "/changes/", "");
    let altered = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        Some(text.replace("refs/many/0005999", "refs/many/0006001").into_bytes())
    };
    let damaged = damage(&large, altered);
    world.ends(3, &args).says(&["team/app", SOURCE, "change 2", "altered", "--deep` lists all damage"]);
    drop(damaged);
    assert_same(&before, &state(&world, SOURCE));
    world.sync(&source, "team/app");
}

/// What `verify --deep` finds in the target.
fn findings(world: &World) -> Vec<String> {
    let run = world.run(&["verify", "team/app", "--region", TARGET, "--deep", "--json"]);
    let found: Vec<String> = run.json()["repositories"][0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(run.status.code(), Some(i32::from(!found.is_empty())), "{}{}", run.stdout, run.stderr);
    assert_eq!(run.json()["ok"], found.is_empty());
    found
}

/// Asserts that `verify` finds what each of these says, and that the link's verification fails, too.
fn finds(world: &World, expected: &[&str]) {
    let found = findings(world);
    for expected in expected {
        assert!(found.iter().any(|finding| finding.contains(expected)), "{expected:?} is not in {found:#?}");
    }
    world.ends(1, &["verify", LINK, "--deep"]);
}

#[test]
fn verify_tells_every_damage_of_a_store() {
    let (world, source) = lagging();
    world.replicate();
    world.assert_synced(&source, "team/app");
    let id = newest_pack(&world);
    let pack = file(&world, TARGET, &format!("pack-{id}"), ".pack");
    let index = file(&world, TARGET, &format!("pack-{id}"), ".idx");
    let large = file(&world, TARGET, "/changes/", "");
    let (the_pack, the_index) = (format!("the pack of pack {id}"), format!("the index of pack {id}"));
    let damaged = format!("pack {id} is damaged");
    type Change = fn(Vec<u8>) -> Option<Vec<u8>>;
    let cases: [(&std::path::Path, Change, [&str; 2]); 10] = [
        (&pack, half, [&the_pack, "bytes, not"]),
        (&pack, gone, [&the_pack, "is missing"]),
        (&pack, |bytes| flip(0)(bytes), [&damaged, &id]),
        (&pack, |bytes| flip(500)(bytes), [&damaged, &id]),
        (&pack, |bytes| flip(1_000)(bytes), [&damaged, &id]),
        (&index, half, [&the_index, "bytes, not"]),
        (&index, gone, [&the_index, "is missing"]),
        (&index, |bytes| flip(500)(bytes), [&damaged, "index"]),
        (&large, gone, ["change 2", "is missing"]),
        (&large, |bytes| flip(700)(bytes), ["change 2", "change 2"]),
    ];
    for (path, change, expected) in cases {
        let damaged = damage(path, change);
        finds(&world, &expected);
        drop(damaged);
    }
    assert_eq!(findings(&world), Vec::<String>::new());
    // Two at once: both are told.
    let _both: [Damage; 2] = [damage(&pack, half), damage(&large, gone)];
    finds(&world, &[&the_pack, "change 2"]);
}

#[test]
fn verify_tells_every_damage_of_a_table() {
    let (world, source) = lagging();
    world.replicate();
    source.git(&["update-ref", "refs/heads/third", "main"]);
    world.sync(&source, "team/app");
    let zero = "0".repeat(64);
    let head = |path: &str, value: &str| format!("UPDATE item SET document = json_set(document, '{path}', {value})");
    let (third, heads) = ("pk LIKE 'repository/%' AND sk LIKE 'change/%3-%'", "sk = 'head'");
    let cases: Vec<(&str, String, &str)> = vec![
        (
            third,
            "UPDATE item SET bytes = CAST(replace(CAST(bytes AS TEXT), 'third', 'thief') AS BLOB)".into(),
            "change 3",
        ),
        (third, "UPDATE item SET bytes = NULL".into(), "has lost its bytes"),
        (third, "DELETE FROM item".into(), "change 3"),
        (heads, head("$.refs_hash", &format!("'{}'", none())), "refs digest"),
        // What an older build would have written is no way around it.
        (heads, head("$.refs_hash", &format!("'{zero}'")), "refs digest"),
        (heads, head("$.head", "'ref:refs/heads/other'"), "HEAD ref:refs/heads/other"),
        (heads, head("$.refs", "7"), "number of refs 7"),
        (heads, head("$.name", "'team/other'"), "name team/other"),
        (heads, head("$.state", "'frozen'"), "state frozen"),
        (heads, head("$.frontier.hash", &format!("'{zero}'")), "missing"),
        (heads, head("$.frontier.seq", "2"), "missing"),
        (heads, "UPDATE item SET revision = 9223372036854775807".into(), "the revision 9223372036854775807 is invalid"),
        (heads, head("$.manifest", "9"), "its manifest is older than its head"),
        ("sk = 'manifest'", "DELETE FROM item".into(), "its manifest is missing"),
        ("sk = 'manifest'", "UPDATE item SET document = '{}'".into(), "its manifest is not valid"),
        ("sk = 'manifest'", head("$.packs", "json('[]')"), "missing"),
        // Numbers that no store can have reached: some alone, some in a sum.
        ("sk = 'manifest'", head("$.packs[0].bytes", "json('18446744073709551615')"), "its manifest is not valid"),
        (
            "sk = 'manifest'",
            head("$.packs[0].index_bytes", "json('18446744073709551615')"),
            "its manifest is not valid",
        ),
        ("sk = 'manifest'", head("$.generation", "json('18446744073709551615')"), "its manifest is not valid"),
        ("sk = 'manifest'", head("$.packs[0].bytes", "json('9223372036854775807')"), "not 9223372036854775807"),
    ];
    let id = world.show("team/app", TARGET)["id"].as_str().unwrap().to_owned();
    for (row, change, expected) in cases {
        let damaged = Rows::damage(&world, TARGET, row, &change);
        let run = world.run(&["verify", &id, "--region", TARGET, "--deep", "--json"]);
        assert_eq!(run.status.code(), Some(1), "{change}\n{}{}", run.stdout, run.stderr);
        // A head that cannot be read has no report of its own.
        let report = run.json();
        let found = report["repositories"].get(0).map_or(&report["differences"], |repository| &repository["findings"]);
        assert!(found.to_string().contains(expected), "{change}: {expected:?} is not in {found}");
        world.ends(1, &["verify", LINK, "--deep"]);
        drop(damaged);
    }
    world.ok(&["verify", LINK, "--deep"]);
}

#[test]
fn verify_tells_a_damaged_snapshot() {
    let world = World::new();
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    let tip = source.git(&["rev-parse", "main"]);
    source.pack_many_refs("refs/many/", 20_000, &tip);
    world.sync(&source, "team/app");
    let snapshot = file(&world, TARGET, "/snapshots/", "");
    for change in [half as fn(Vec<u8>) -> Option<Vec<u8>>, gone, |bytes| flip(500)(bytes)] {
        let _damaged = damage(&snapshot, change);
        finds(&world, &["the refs cannot be read"]);
        let to = world.fresh("export");
        let args = ["export", "team/app", "--region", TARGET, "--to", to.to_str().unwrap()];
        world.ends(3, &args).says(&["team/app", TARGET, "snapshot"]);
        assert!(!to.exists());
    }
    world.assert_synced(&source, "team/app");
}

/// What a table has lost is named by a pass: the row, the repository, the region and the way out. It is neither a race
/// that another writer won, nor a repository that is not there.
#[test]
fn replicate_names_rows_that_are_lost() {
    let (world, source) = lagging();
    let id = world.show("team/app", SOURCE)["id"].as_str().unwrap().to_owned();
    let lost_head = format!("repository/{id}");
    let newest = "pk LIKE 'repository/%' AND sk LIKE 'change/%2-%'";
    let cases: [(&'static str, &str, &[&str]); 5] = [
        (TARGET, "sk = 'head'", &["head is missing", &lost_head, "gitferry verify"]),
        (TARGET, "sk = 'manifest'", &["manifest is missing", "gitferry verify"]),
        (SOURCE, "sk = 'head'", &["head is missing", &lost_head, "gitferry verify"]),
        (SOURCE, "sk = 'manifest'", &["manifest is missing", "gitferry verify"]),
        (SOURCE, newest, &["change 2", "is missing", "gitferry verify"]),
    ];
    for (region, row, expected) in cases {
        for args in [&["replicate", LINK][..], &["replicate", LINK, "team/app"]] {
            let damaged = Rows::damage(&world, region, row, "DELETE FROM item");
            let run = world.run(args);
            assert_eq!(run.status.code(), Some(3), "{row} of {region}, {args:?}: {}{}", run.stdout, run.stderr);
            run.says(&[&["team/app", region], expected].concat());
            for wrong in ["faster", "there is no repository"] {
                assert!(!run.stderr.contains(wrong), "{row} of {region}, {args:?}: {}", run.stderr);
            }
            drop(damaged);
        }
    }
    // Neither is a repository that has lost its head called one that is not there.
    let damaged = Rows::damage(&world, TARGET, "sk = 'head'", "DELETE FROM item");
    for command in [&["verify"][..], &["repo", "show"], &["log"]] {
        let args = [command, &["team/app", "--region", TARGET]].concat();
        let run = world.run(&args);
        assert_ne!(run.status.code(), Some(0));
        let said = run.stdout.clone() + &run.stderr;
        assert!(said.contains("head is missing") && said.contains("team/app"), "{args:?}: {said}");
    }
    drop(damaged);
    assert_eq!(world.replicate()["delivered"], 1);
    world.assert_synced(&source, "team/app");
}

/// A link's statistics of a repository are one row. Its damage is named by a delivery that fails and by `status`, hides
/// neither's answer, and stays until a delivery writes the row anew.
#[test]
fn damaged_statistics_are_named_and_hide_no_failure() {
    let (world, source) = lagging();
    let id = world.show("team/app", SOURCE)["id"].as_str().unwrap().to_owned();
    let row = format!("pk = 'link/{LINK}' AND sk = '{id}'");
    let document = || {
        let select = format!("SELECT document FROM item WHERE {row}");
        table(&world, TARGET).query_row(&select, [], |row| row.get::<_, String>(0)).unwrap()
    };
    let good = document();
    let pack = file(&world, SOURCE, &format!("pack-{}", newest_pack(&world)), ".pack");
    for damaged in [good.replace("\"changes\":1", "\"changes\":\"one\""), "nonsense".to_owned()] {
        assert_ne!(damaged, good);
        sql(&world, TARGET, 1, &format!("UPDATE item SET document = '{damaged}' WHERE {row}"));
        let damaged_pack = damage(&pack, half);
        let named = [&id, "statistics"];
        world.ends(3, &["replicate", LINK]).says(&[&["team/app", SOURCE, "gitferry repair"], &named[..]].concat());
        assert_eq!(document(), damaged, "a failure has replaced the damaged row");
        let status = world.run(&["status", LINK, "--json"]);
        status.says(&named);
        assert_eq!(status.json()["repositories"][0]["standing"], "behind", "{status:?}");
        drop(damaged_pack);
    }
    assert_eq!(world.replicate()["delivered"], 1);
    world.assert_synced(&source, "team/app");
    let status = world.ends(0, &["status", LINK]);
    assert!(!status.stderr.contains("statistics"), "{status:?}");
}

/// The name of a replica goes with a change at its source; where the row of the old one is lost, that is said.
#[test]
fn replicate_names_a_lost_name() {
    let (world, source) = lagging();
    world.replicate();
    world.ok(&["repo", "rename", "team/app", "team/web", "--region", SOURCE]);
    let damaged = Rows::damage(&world, TARGET, "pk = 'name/team/app'", "DELETE FROM item");
    let run = world.ends(3, &["replicate", LINK]);
    run.says(&["team/web", TARGET, "name", "name/team/app", "gitferry verify"]);
    assert!(!run.stderr.contains("faster"), "{}", run.stderr);
    drop(damaged);
    assert_eq!(world.replicate()["delivered"], 1);
    world.assert_synced(&source, "team/web");
}

/// The hash of no refs, as a head says it.
fn none() -> String {
    gitferry_engine::ledger::hash::RefsHash::default().to_string()
}

/// Rows of a table that are not what they were. Dropped, it puts them back.
struct Rows<'a> {
    world: &'a World,
    region: &'static str,
}

impl<'a> Rows<'a> {
    /// Makes `change` to the one row `row`.
    fn damage(world: &'a World, region: &'static str, row: &str, change: &str) -> Self {
        table(world, region).execute_batch("CREATE TABLE kept AS SELECT * FROM item").unwrap();
        sql(world, region, 1, &format!("{change} WHERE {row}"));
        Rows { world, region }
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        let restore = "DELETE FROM item WHERE pk NOT LIKE 'link/%';
            INSERT OR IGNORE INTO item SELECT * FROM kept; DROP TABLE kept;";
        table(self.world, self.region).execute_batch(restore).unwrap();
    }
}
