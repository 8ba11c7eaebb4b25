//! Which refs, under which names; and what a target does not take.

use std::os::unix::fs::PermissionsExt as _;

use gitferry_config::{Deletions, Divergence};
use gitferry_replication::mirror::report::NoteKind;

use crate::remotes::place::{Place, policy, refs, told};

#[test]
fn what_servers_keep_for_themselves_is_left_alone_on_both_sides() {
    let place = Place::new();
    let main = place.source.git(&["rev-parse", "main"]);
    place.source.git(&["update-ref", "refs/pull/1/head", &main]);
    place.source.git(&["update-ref", "refs/gitferry/diverged/x/1", &main]);
    let own = place.target.commit("own", "f", "x\n");
    place.target.git(&["update-ref", "refs/keep-around/x", &own]);
    place.target.git(&["update-ref", "refs/gitferry/other", &own]);
    place.pass().ok();
    let after = refs(&place.target);
    assert!(after.contains_key("refs/keep-around/x") && after.contains_key("refs/gitferry/other"));
    assert!(!after.contains_key("refs/pull/1/head") && !after.contains_key("refs/gitferry/diverged/x/1"));
    place.assert_sound();
}

#[test]
fn filters_and_renames() {
    let place = Place::new();
    place.target.commit("local", "f", "x\n");
    place.target.git(&["update-ref", "refs/mirror/heads/stale", "refs/heads/local"]);
    let mut pass = place.pass();
    let renames = ["refs/heads/*:refs/mirror/heads/*"];
    pass.policy = policy(&["refs/heads/*", "^refs/heads/topic/*"], &renames, Deletions::Mirror, Divergence::Force);
    let (carried, _) = pass.ok();
    let after = refs(&place.target);
    let names: Vec<&str> = after.keys().map(String::as_str).collect();
    // What is not the link's stays, what is and the source does not have goes.
    assert_eq!(names, ["refs/heads/local", "refs/mirror/heads/main", "refs/mirror/heads/side"]);
    assert_eq!(after["refs/mirror/heads/main"], refs(&place.source)["refs/heads/main"]);
    assert_eq!((carried.created, carried.deleted), (2, 1));
    place.assert_sound();
}

#[test]
fn deletions_may_be_left_out() {
    let place = Place::new();
    place.sync();
    place.source.git(&["branch", "-D", "side"]);
    place.source.commit("main", "new", "new\n");
    let mut pass = place.pass();
    pass.policy = policy(&[], &[], Deletions::Keep, Divergence::Preserve);
    let (carried, _) = pass.ok();
    assert_eq!((carried.updated, carried.deleted), (1, 0));
    assert!(refs(&place.target).contains_key("refs/heads/side"));
}

#[test]
fn a_ref_that_the_target_refuses_does_not_stop_the_rest() {
    let place = Place::new();
    let hook = place.target.path.join("hooks/update");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\ncase $1 in refs/heads/side) echo no such thing >&2; exit 1;; esac\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (carried, checkpoint) = place.pass().ok();
    assert_eq!((carried.refused, carried.created), (1, refs(&place.source).len() as u64 - 1));
    let (outcome, reason) = told(&carried, "refs/heads/side").unwrap();
    assert!(outcome == NoteKind::Refused && reason.contains("hook declined"), "{reason}");
    assert!(!refs(&place.target).contains_key("refs/heads/side"));
    assert_eq!(checkpoint.unwrap().unconfirmed, Some(vec!["refs/heads/side".into()]));
    std::fs::remove_file(hook).unwrap();
    place.sync();
}

#[test]
fn hidden_refs_are_told_one_by_one() {
    let place = Place::new();
    place.target.git(&["config", "receive.hideRefs", "refs/tags/v1"]);
    let (carried, _) = place.pass().ok();
    assert_eq!(carried.refused, 1);
    let (outcome, reason) = told(&carried, "refs/tags/v1").unwrap();
    assert!(outcome == NoteKind::Refused && reason.contains("hidden"), "{reason}");
}

#[test]
fn a_target_whose_quarantine_refuses_everything_keeps_nothing() {
    let place = Place::new();
    let hook = place.target.path.join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (carried, _) = place.pass().ok();
    assert_eq!((carried.refused, carried.edits()), (refs(&place.source).len() as u64, 0));
    assert!(refs(&place.target).is_empty());
}
