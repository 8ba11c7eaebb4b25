//! How much one request may make the server do, counted in objects read.

use std::io::Write;

use gitferry_git::protocol::RequestLimits;
use gitferry_git::upload_pack::{Limits, ServeError, WorkLimits};

use crate::upload_pack::raw::{Talk, lines};
use crate::upload_pack::repo::{FORMATS, Repo};

/// Commits on `main`.
const COMMITS: usize = 2000;
/// Commits on `old`, which is older and has nothing in common with `main`.
const OLD: usize = 300;

/// Two long histories without files.
fn long() -> Repo {
    let repo = Repo::empty(FORMATS[0]);
    let mut script = Vec::new();
    for (branch, count, begin) in [("main", COMMITS, 1_200_000_000), ("old", OLD, 1_100_000_000)] {
        for number in 0..count {
            let time = begin + number * 60;
            writeln!(script, "commit refs/heads/{branch}\ncommitter A <a@b> {time} +0000\ndata 1\nx").unwrap();
        }
    }
    repo.import(&script);
    repo.pack();
    repo
}

fn unknown(number: usize) -> String {
    format!("{number:040x}")
}

/// Each unknown have behind a common one asks whether the client has said enough.
#[test]
fn negotiation_reads_each_commit_once_however_many_haves_there_are() {
    let repo = long();
    let view = repo.view();
    let main = repo.rev_parse("main");
    let old: Vec<String> = repo.git(&["rev-list", "old"]).lines().map(str::to_owned).collect();
    let reads = |pairs: usize, capability: &str| {
        let mut all = vec![format!("want {main} {capability}"), ".".into()];
        for (number, id) in old.iter().enumerate().take(pairs) {
            all.extend([format!("have {id}"), format!("have {}", unknown(number))]);
        }
        all.push(".".into());
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let served = Talk::v0(&view).ask_within(&lines(&all), &Limits::default()).unwrap();
        served.reads
    };
    for capability in ["multi_ack_detailed", "multi_ack"] {
        let (one, many) = (reads(1, capability), reads(OLD, capability));
        let history = (COMMITS + OLD) as u64;
        assert!(one >= COMMITS as u64, "the walk goes down to the common commit: {one}");
        assert!(many <= 8 * history, "{capability}: {many} reads for {OLD} pairs, {one} for one");
    }
    // And in version 2, where one request has all of them, repeated.
    let mut all = vec!["command=fetch".to_owned(), "|".into(), format!("want {main}")];
    for number in 0..4 * OLD {
        all.extend([format!("have {}", old[number % OLD]), format!("have {}", unknown(number))]);
    }
    all.push(".".into());
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let served = Talk::v2(&view).ask_within(&lines(&all), &Limits::default()).unwrap();
    assert!(served.reads <= 8 * (COMMITS + OLD) as u64, "{} reads", served.reads);
}

#[test]
fn a_budget_that_is_used_up_is_answered_honestly() {
    let repo = long();
    repo.git(&["update-ref", "refs/hidden/old", "old"]);
    repo.git(&["update-ref", "-d", "refs/heads/old"]);
    let view = repo.view();
    let (main, middle, hidden) =
        (repo.rev_parse("main"), repo.rev_parse("main~1000"), repo.rev_parse("refs/hidden/old~5"));
    let work = |objects, ready_commits| Limits {
        work: WorkLimits { objects, ready_commits, ..WorkLimits::default() },
        ..Limits::default()
    };
    let fetch = |want: &dyn std::fmt::Display, have: &dyn std::fmt::Display| {
        lines(&["command=fetch", "|", &format!("want {want}"), &format!("have {have}"), "."])
    };
    // Not ready, though it is: the client goes on.
    let mut talk = Talk::v2(&view);
    talk.ask_within(&fetch(&main, &middle), &work(1 << 20, 100)).unwrap();
    assert_eq!(talk.heard(), lines(&["acknowledgments", &format!("ACK {middle}"), "."]));
    talk.ask_within(&fetch(&main, &middle), &Limits::default()).unwrap();
    assert!(talk.heard().starts_with(&lines(&["acknowledgments", &format!("ACK {middle}"), "ready", "|", "packfile"])));
    // Not common, though it is.
    let served = talk.ask_within(&fetch(&main, &middle), &work(100, 1 << 20)).unwrap();
    assert_eq!(talk.heard(), lines(&["acknowledgments", "NAK", "."]));
    assert!(served.reads <= 101, "{}", served.reads);
    // A want that cannot be proven is refused, whether it is there or not.
    let told: Vec<String> = [middle, hidden]
        .iter()
        .map(|id| {
            let error = talk.ask_within(&fetch(id, &main), &work(100, 1 << 20)).unwrap_err();
            assert!(matches!(error, ServeError::TooMuchWork), "{error}");
            String::from_utf8_lossy(talk.heard()).into_owned()
        })
        .collect();
    assert!(told[0] == told[1] && told[0].contains("more work than one request may cause"), "{told:?}");
    // Tips need no proof.
    talk.ask_within(&lines(&["command=fetch", "|", &format!("want {main}"), "done", "."]), &work(0, 0)).unwrap();
}

#[test]
fn the_first_want_that_is_not_visible_is_named() {
    let repo = long();
    let blob = repo.git(&["hash-object", "-w", "--stdin"]);
    repo.git(&["update-ref", "refs/hidden/blob", &blob]);
    repo.git(&["update-ref", "refs/hidden/old", "old"]);
    repo.git(&["update-ref", "-d", "refs/heads/old"]);
    repo.pack();
    let view = repo.view();
    let tree = repo.rev_parse("refs/hidden/old^{commit}").to_string();
    let nothing = unknown(1);
    let told = |wants: &[&str]| {
        let wants: Vec<String> = wants.iter().map(|id| format!("want {id}")).collect();
        let mut all = vec!["command=fetch", "|"];
        all.extend(wants.iter().map(String::as_str));
        all.extend(["done", "."]);
        let mut talk = Talk::v2(&view);
        talk.ask(&lines(&all)).unwrap_err();
        String::from_utf8_lossy(&talk.heard()[4..]).into_owned()
    };
    // Were another one named, a client could tell that the first one is there.
    for first in [&blob, &tree, &nothing] {
        for second in [&blob, &tree, &nothing] {
            assert_eq!(told(&[first, second]), format!("ERR upload-pack: not our ref {first}"));
        }
    }
}

#[test]
fn names_have_a_limit_in_bytes_before_they_are_kept() {
    let repo = Repo::with_history(FORMATS[0]);
    let view = repo.view();
    let long = "x".repeat(60_000);
    let many: Vec<String> = (0..40).map(|number| format!("deepen-not refs/heads/{number}{long}")).collect();
    let mut all = vec!["command=fetch", "|"];
    all.extend(many.iter().map(String::as_str));
    let error = Talk::v2(&view).ask(&lines(&all)).unwrap_err().to_string();
    let limit = RequestLimits::default().name_bytes;
    assert!(error.contains(&format!("bytes in names of refs: at most {limit}")), "{error}");
    // Wants by name are refused at the first line where they are not offered, before the ref is looked at.
    let wanted = format!("want-ref refs/heads/{long}");
    let mut talk = Talk::v2(&view);
    let error = talk.ask(&lines(&["command=fetch", "|", &wanted])).unwrap_err().to_string();
    assert!(error.contains("expected an argument of fetch"), "{error}");
    let error = Talk::v2(&view).with_ref_in_want().ask(&lines(&["command=fetch", "|", &wanted])).unwrap_err();
    assert!(matches!(error, ServeError::UnknownRef(_)), "{error}");
}
