//! `gitferry replicate LINK --event`: one task per event.

use std::io::Write as _;
use std::process::Stdio;

use crate::events::place::Place;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::samples;
use gitferry_test_support::world::{LINK, Run, SOURCE, TARGET};

/// Runs it with an event in GITFERRY_EVENT.
fn by_variable(place: &Place, event: &str) -> Run {
    let mut command = place.world.command(&["replicate", LINK, "--json"]);
    command.env("GITFERRY_EVENT", event);
    Run::of(command)
}

#[test]
fn only_what_the_event_announces() {
    let place = Place::new("");
    let other = GitRepo::with_history(place.world.path("other.git"), &[]);
    place.world.import(&other, "other");
    let file = place.world.path("event.json");
    std::fs::write(&file, samples::by_sns(&samples::updated_of("app")).to_string()).unwrap();
    let summary = place.world.json(&["replicate", LINK, "--event", file.to_str().unwrap()]);
    assert_eq!((summary["repositories"].as_u64(), summary["delivered"].as_u64()), (Some(1), Some(1)));
    assert!(place.is_synced());
    place.world.ends(2, &["repo", "show", "other", "--region", TARGET]);
    let run = by_variable(&place, &samples::gitferry_at(&place.world.show("other", SOURCE)).to_string());
    assert_eq!((run.status.code(), run.json()["delivered"].as_u64()), (Some(0), Some(1)), "{}", run.stderr);
    let run = by_variable(&place, &samples::unreferenced().to_string());
    assert_eq!((run.status.code(), run.json()["repositories"].as_u64()), (Some(0), Some(0)));
}

#[test]
fn from_standard_input() {
    let place = Place::new("");
    let mut command = place.world.command(&["replicate", LINK, "--event", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let event = samples::by_sqs(&samples::updated_of("app")).to_string();
    child.stdin.take().unwrap().write_all(event.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(place.is_synced());
}

#[test]
fn what_cannot_be_acted_on_says_why() {
    let place = Place::new("repositories = [\"app\"]");
    for (event, words) in [
        ("{", "not JSON"),
        ("{}", "no detail-type"),
        (&samples::updated_of("nowhere").to_string(), "no repository nowhere"),
    ] {
        let run = by_variable(&place, event);
        assert_eq!(run.status.code(), Some(2), "{event}: {}", run.stderr);
        run.says(&[words]);
    }
    place.world.ends(2, &["replicate", LINK, "--event", "/nowhere"]).says(&["/nowhere"]);
    place.world.ends(2, &["replicate", LINK, "app", "--event", "-"]);
    place.world.ends(2, &["repo", "show", "app", "--region", TARGET]);
}
