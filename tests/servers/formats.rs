//! Links with Git servers whose tables an older build wrote: see `tests/links/formats`.

use gitferry_test_support::formats::scenario::Place;
use gitferry_test_support::formats::sources::{APP, UPSTREAM};
use gitferry_test_support::formats::{EU, aws, fixture};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::running::Running;
use gitferry_test_support::samples;
use gitferry_test_support::waiting::{block_on, wait};
use serde_json::Value;

fn requests(place: &Place) -> usize {
    place.upstream.requests().len() + place.copy.requests().len()
}

fn upstream(place: &Place) -> GitRepo {
    GitRepo::at(place.world.path("sources").join(format!("{UPSTREAM}.git")))
}

fn copy(place: &Place, name: &str) -> GitRepo {
    GitRepo::at(place.world.path(&format!("copy/{name}.git")))
}

/// An event about a branch of `team/app`; the summary of the pass that it asks for.
fn announced(place: &Place, branch: &str, commit: &str) -> Value {
    let mut event = samples::updated_of("team/app");
    event["detail"]["referenceName"] = branch.into();
    event["detail"]["referenceFullName"] = format!("refs/heads/{branch}").into();
    event["detail"]["commitId"] = commit.into();
    std::fs::write(place.world.path("event.json"), event.to_string()).unwrap();
    place.world.json(&["replicate", "cc", "--event", "event.json"])
}

/// The checkpoint knows the newest value of a branch without a request, and its digests show that nothing is new with
/// one request to each side.
#[test]
fn a_checkpoint_is_continued() {
    let place = fixture::open();
    requests(&place);
    let newest = upstream(&place).git(&["rev-parse", "main"]);
    let summary = announced(&place, "main", &newest);
    assert_eq!((&summary["unchanged"], requests(&place)), (&1.into(), 0), "{summary}");
    let summary = place.world.json(&["replicate", "cc"]);
    assert_eq!((&summary["unchanged"], requests(&place)), (&1.into(), 2), "{summary}");
    let before = place.world.json(&["status", "cc"]);
    assert_eq!(before["repositories"][0]["standing"], "equal", "{before}");
    assert!(!before["repositories"][0]["delivered"].is_null(), "{before}");
    // The target is known to hold values that came from the source: they are overwritten, not kept.
    upstream(&place).git(&["update-ref", "refs/heads/main", "main~1"]);
    let summary = place.world.json(&["replicate", "cc"]);
    assert_eq!(summary["reports"][0]["carried"]["preserved"], 0, "{summary}");
    assert_eq!(copy(&place, "team/app").refs(), upstream(&place).refs());
}

/// A pass died after its push, under a lease that is not renewed.
#[test]
fn a_pass_that_died_is_taken_up() {
    let place = fixture::open();
    let items = block_on(aws::items(&place.eu));
    let of = |pk: &str| items.iter().filter(|item| item["pk"]["S"] == pk).collect::<Vec<_>>();
    assert_eq!(of("lease/out").len(), 1);
    assert!(of("lease/out")[0].get("expires").is_some());
    let row = of("link/out").into_iter().find(|item| item["sk"]["S"] == "remote/app").unwrap();
    assert_eq!(row["document"]["M"]["under_way"]["BOOL"], true);
    // The lease ends after eight seconds without a renewal.
    let summary = place.world.json(&["replicate", "out"]);
    assert_eq!(summary["failed"], 0, "{summary}");
    let exported = place.world.fresh("exported");
    place.world.ok(&["export", APP, "--region", EU, "--to", exported.to_str().unwrap()]);
    let values = |repo: &GitRepo| repo.git(&["for-each-ref", "--format=%(objectname) %(refname)"]);
    assert_eq!(values(&copy(&place, APP)), values(&GitRepo::at(exported)));
    let items = block_on(aws::items(&place.eu));
    assert!(!items.iter().any(|item| item["pk"]["S"] == "lease/out"));
    place.copy.requests();
    let summary = place.world.json(&["replicate", "out"]);
    assert_eq!((&summary["unchanged"], place.copy.requests().len()), (&1.into(), 1), "{summary}");
}

#[test]
fn pending_events_are_delivered() {
    let place = fixture::open();
    upstream(&place).commit("main", "file", "upstream 2\n");
    let due = || {
        let rows = gitferry_test_support::formats::state::sqlite_rows(&place.world.path("cc.db"));
        rows.iter().filter(|row| row.pk == "due/cc").count()
    };
    assert_eq!(due(), 3);
    let worker = Running::start(&place.world, &[], &["cc", "--sweep-every", "1h"]);
    wait("nothing is due", || due() == 0);
    assert_eq!(worker.stop().0, Some(0));
    assert_eq!(copy(&place, "team/app").refs(), upstream(&place).refs());
}
