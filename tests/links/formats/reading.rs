//! The state of an older build: read, verified, replicated, and continued where it was left.

use gitferry_replication::verified::Verified;
use gitferry_service::events::codecommit::{Announcement, parse};
use gitferry_service::events::outbox::read_outbox;
use gitferry_service::worker::backup::check_seal;
use gitferry_test_support::formats::scenario::Place;
use gitferry_test_support::formats::sources::{APP, BIG, BULK, BUSY, HASHED, LOST, MANY, POINTERS};
use gitferry_test_support::formats::state::{self, sqlite_rows};
use gitferry_test_support::formats::{AP, EU, US, aws, fixture, state::State};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::running::Running;
use gitferry_test_support::waiting::{block_on, wait};
use serde_json::Value;

/// Refs of a repository that an export has, without the long ones of `many`.
fn refs_of(repo: &GitRepo) -> Vec<String> {
    let listed = repo.git(&["for-each-ref", "--format=%(objectname) %(refname)"]);
    listed.lines().filter(|line| !line.contains("longlong")).map(str::to_owned).collect()
}

/// Exports a repository of a region, which must have the refs of its source and be sound.
fn exported(place: &Place, name: &str, region: &str) -> GitRepo {
    let to = place.world.fresh("exported");
    place.world.ok(&["export", name, "--region", region, "--to", to.to_str().unwrap()]);
    let repo = GitRepo::at(to);
    assert_eq!(refs_of(&repo), fixture::refs(name), "{name} in {region}");
    assert_eq!(repo.fsck().0, Some(0), "{name} in {region}: {:?}", repo.fsck());
    repo
}

/// Rows of a region whose sort keys begin alike: documents of SQLite, items of DynamoDB.
fn rows(place: &Place, owner: &str, sk: &str) -> Vec<Value> {
    if owner == EU {
        let items = block_on(aws::items(&place.eu));
        return items.into_iter().filter(|item| item["sk"]["S"].as_str().unwrap().starts_with(sk)).collect();
    }
    let state = State { world: place.world.path(""), dump: fixture::folder() };
    let rows = sqlite_rows(&state.table(owner)).into_iter();
    rows.filter(|row| row.sk.starts_with(sk)).map(|row| row.document).collect()
}

#[test]
fn the_state_is_whole() {
    let place = fixture::open();
    for name in [APP, MANY, BULK, BIG, POINTERS, LOST, HASHED, BUSY] {
        exported(&place, name, US);
        place.world.ok(&["verify", name, "--region", US, "--deep"]);
    }
    for (region, names) in [(EU, &[APP, MANY, BULK, POINTERS, HASHED][..]), (AP, &[APP, MANY, POINTERS, HASHED])] {
        for name in names {
            place.world.ok(&["verify", name, "--region", region, "--deep"]);
        }
        let listed = place.world.json(&["repo", "list", "--region", region, "--deleted"]);
        let listed: Vec<&str> =
            listed["repositories"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
        assert!(names.iter().all(|name| listed.contains(name)), "{region}: {listed:?}");
    }
    let gone = place.world.json(&["repo", "list", "--region", US, "--deleted"]);
    let gone = gone["repositories"].as_array().unwrap().iter().find(|r| r["name"] == "gone").unwrap().clone();
    assert_eq!(gone["state"], "deleted");
    // The ledger reads as the older build printed it.
    let before = outputs("log app --region us-east-1");
    let now = place.world.ok(&["log", APP, "--region", US, "--json"]);
    let now: Vec<Value> = now.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(now.len(), before.len());
    for (now, before) in now.iter().zip(&before) {
        assert_says(now, before);
    }
    assert_says(
        &place.world.json(&["repo", "show", APP, "--region", US]),
        &outputs("repo show app --region us-east-1")[0],
    );
}

/// Asserts that an object says all that one of the older build says. A newer build may say more.
fn assert_says(now: &Value, before: &Value) {
    for (name, value) in before.as_object().unwrap() {
        assert_eq!(&now[name], value, "{name}: {now}");
    }
}

/// Values that a command of the older build printed.
fn outputs(command: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture::folder().join(state::OUTPUTS)).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found: Vec<Value> =
        lines.filter(|line| line["command"] == command).map(|line| line["output"].clone()).collect();
    assert!(!found.is_empty(), "{command}");
    found
}

#[test]
fn a_fresh_replica_gets_all_of_it() {
    let place = fixture::open();
    let more = format!(
        "[regions.fresh]\nobjects = \"file:fresh/objects\"\ntable = \"sqlite:fresh/table.db\"\n\
         [links.new]\nsource = \"{US}\"\ntarget = \"fresh\"\n"
    );
    place.configure("", &more);
    place.world.ok(&["region", "init", "fresh"]);
    let summary = place.world.json(&["replicate", "new"]);
    assert_eq!(summary["failed"], 0, "{summary}");
    for name in [APP, MANY, BULK, BIG, POINTERS, LOST, HASHED, BUSY] {
        let repo = exported(&place, name, "fresh");
        let source = GitRepo::at(place.world.path(&format!("sources/{name}.git")));
        assert_eq!(repo.refs(), source.refs(), "{name}");
    }
    place.world.ok(&["verify", "new", "--deep"]);
}

/// Both parts of each upload are there, and the next pass sends none of them again.
#[test]
fn uploads_that_were_cut_off_are_resumed() {
    let place = fixture::open();
    for (link, target, name) in [("dr", EU, BIG), ("chain", AP, BULK)] {
        assert_eq!(rows(&place, target, "staging/").len(), 1, "{target}");
        let summary = place.world.json(&["replicate", link, name]);
        assert_eq!(summary["failed"], 0, "{summary}");
        let copied = summary["bytes_copied"].as_u64().unwrap();
        assert!(copied < 1 << 20, "{name} was copied again: {summary}");
        assert!(rows(&place, target, "staging/").is_empty(), "{target}");
        exported(&place, name, target);
        place.world.ok(&["verify", name, "--region", target, "--deep"]);
    }
}

#[test]
fn the_status_of_a_link_is_read() {
    let place = fixture::open();
    let now = place.world.ends(3, &["status", "dr", "--json"]).json();
    let before = &outputs("status dr")[0];
    let by_name = |status: &Value| {
        let mut all = status["repositories"].as_array().unwrap().clone();
        all.iter_mut().for_each(|one| _ = one.as_object_mut().unwrap().remove("lag_seconds"));
        all
    };
    assert_eq!(by_name(&now), by_name(before));
    let lost = by_name(&now).into_iter().find(|one| one["repository"] == LOST).unwrap();
    assert!(lost["last_error"].as_str().unwrap().contains("missing"), "{lost}");
    // The next delivery clears the error, and the next backup finds when each repository was verified.
    place.world.ok(&["replicate", "dr"]);
    let now = place.world.json(&["status", "dr"]);
    let standings: Vec<&Value> = now["repositories"].as_array().unwrap().iter().map(|one| &one["standing"]).collect();
    assert!(standings.iter().all(|standing| **standing == "equal"), "{now}");
    let times = block_on(async { Verified::new(&place.aws().await, "dr").read().await }).unwrap();
    let verified_before = rows(&place, EU, "").into_iter().filter(|item| item["pk"]["S"] == "verified/dr").count();
    assert!(verified_before >= 5 && times.len() == verified_before, "{times:?}");
    place.world.ok(&["verify", "dr", "--deep"]);
}

#[test]
fn maintenance_goes_on() {
    let place = fixture::open();
    let [retired, aside] = ["retired/", "packs-aside"].map(|kind| count(&place, kind));
    assert!(retired > 1 && aside == 1, "{retired} {aside}");
    assert_eq!(count(&place, "claims/"), 1);
    // A dead process holds the lease: the second command finds that it is not renewed.
    place.world.ok(&["maintain", "--region", US]);
    place.world.ok(&["verify", BUSY, "--region", US, "--deep"]);
    // The pack is sound again, which a deep verification has found.
    assert_eq!(count(&place, "packs-aside"), 0);
    exported(&place, BUSY, US);
    place.world.ok(&["maintain"]);
}

/// Rows of the first region by the beginning of their partition or sort key.
fn count(place: &Place, begin: &str) -> usize {
    let rows = sqlite_rows(&place.world.path(US).join("table.db"));
    rows.iter().filter(|row| row.pk.starts_with(begin) || row.sk.starts_with(begin)).count()
}

#[test]
fn the_outbox_is_announced() {
    let place = fixture::open();
    let announced = rows(&place, EU, "announced");
    assert_eq!(announced.len(), 1, "{announced:?}");
    block_on(async {
        for (region, least) in [(place.embedded(US), 9), (place.aws().await, 4)] {
            let rows = read_outbox(region.table()).await.unwrap();
            assert!(rows.len() >= least && rows.iter().all(|row| row.seq > 0), "{}: {rows:?}", region.name());
        }
    });
    // A worker reads the outbox of the first region, and delivers what the target lacks.
    let worker = Running::start(&place.world, &[], &["dr", "--sweep-every", "1h"]);
    wait("the outbox was read", || worker.counter("outboxes") > 0);
    wait("all is delivered", || {
        let status = place.world.run(&["status", "dr", "--json"]).json();
        status["repositories"].as_array().unwrap().iter().all(|one| one["standing"] == "equal")
    });
    assert_eq!(worker.stop().0, Some(0));
}

#[test]
fn pending_jobs_are_delivered() {
    let place = fixture::open();
    let due = |owner: &str| match owner {
        EU => rows(&place, EU, "").into_iter().filter(|item| item["pk"]["S"] == "due/dr").count(),
        owner => {
            sqlite_rows(&place.world.path(owner).join("table.db")).iter().filter(|row| row.pk == "due/chain").count()
        }
    };
    assert_eq!((due(EU), due(AP)), (1, 1));
    // One after the other: `chain` delivers what `dr` has brought.
    for (link, target) in [("dr", EU), ("chain", AP)] {
        let worker = Running::start(&place.world, &[], &[link]);
        wait("nothing is due", || due(target) == 0);
        assert_eq!(worker.stop().0, Some(0));
        exported(&place, APP, target);
    }
}

#[test]
fn events_are_read() {
    let state = State { world: fixture::folder(), dump: fixture::folder() };
    let events = state.values(state::EVENTS);
    assert!(events.len() > 3);
    let mut kinds = std::collections::BTreeSet::new();
    for event in &events {
        let Announcement::Change(change) = parse(event.to_string().as_bytes()).unwrap() else { panic!("{event}") };
        kinds.insert(event["detail"]["event"].as_str().unwrap().to_owned());
        assert!(format!("{change:?}").contains(event["detail"]["repositoryId"].as_str().unwrap()), "{change:?}");
    }
    for kind in ["referenceCreated", "referenceUpdated", "referenceDeleted"] {
        assert!(kinds.contains(kind), "{kinds:?}");
    }
    // The command takes one, about a change that the target has already.
    let place = fixture::open();
    std::fs::write(place.world.path("event.json"), events[0].to_string()).unwrap();
    let summary = place.world.json(&["replicate", "dr", "--event", "event.json"]);
    assert_eq!(summary["failed"], 0, "{summary}");
}

#[test]
fn the_manifest_of_a_backup_is_checked() {
    let text = std::fs::read_to_string(fixture::folder().join(state::MANIFEST)).unwrap();
    let manifest = check_seal(&text).unwrap();
    assert_eq!((&manifest["ok"], &manifest["link"]), (&true.into(), &"dr".into()));
    // Its frontiers are states of the ledgers.
    let place = fixture::open();
    for one in manifest["repositories"].as_array().unwrap() {
        let name = one["repository"].as_str().unwrap();
        if name == "gone" {
            continue;
        }
        let log = place.world.ok(&["log", name, "--region", US, "--edits", "1", "--json"]);
        let hash = one["frontier"]["hash"].as_str().unwrap();
        assert!(log.contains(&format!("\"hash\":\"{hash}\"")), "{name} was never in the state {hash}");
    }
    std::fs::copy(fixture::folder().join(state::MANIFEST), place.world.path("old.json")).unwrap();
    place.world.ok(&["backup", "--check", "old.json"]);
}

#[test]
fn an_export_is_a_repository() {
    let place = fixture::open();
    let before = GitRepo::at(place.world.path("export/app.git"));
    assert_eq!(refs_of(&before), fixture::refs(APP));
    assert_eq!(before.fsck().0, Some(0));
    let now = exported(&place, APP, US);
    assert_eq!((now.refs(), now.head(), now.objects()), (before.refs(), before.head(), before.objects()));
}
