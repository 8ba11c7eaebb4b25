//! What was made at the target.

use gitferry_config::{Deletions, Divergence};
use gitferry_replication::mirror::report::NoteKind;

use crate::remotes::place::{Place, policy, refs, told};

/// A target with a commit of its own on `main` and a branch of its own, and a source that has gone on.
fn diverged() -> (Place, String, String) {
    let place = Place::new();
    place.sync();
    let main = place.target.commit("main", "own", "made here\n");
    let own = place.target.commit("own", "own", "made here, too\n");
    place.source.commit("main", "file", "made there\n");
    (place, main, own)
}

fn kept(name: &str, id: &str) -> String {
    format!("refs/gitferry/diverged/{name}/{}", &id[..12])
}

#[test]
fn it_is_kept_before_it_is_overwritten() {
    let (place, main, own) = diverged();
    let (carried, _) = place.pass().ok();
    assert_eq!((carried.updated, carried.deleted, carried.preserved), (1, 1, 2), "{carried:?}");
    let mut expected = refs(&place.source);
    expected.insert(kept("heads/main", &main), main.clone());
    expected.insert(kept("heads/own", &own), own);
    assert_eq!(refs(&place.target), expected);
    place.assert_sound();
    let (outcome, reason) = told(&carried, "refs/heads/main").unwrap();
    assert!(outcome == NoteKind::Preserved && reason.contains(&main), "{reason}");
    // It is neither mirrored nor deleted, and kept once.
    assert!(place.pass().ok().0.is_nothing());
}

#[test]
fn it_is_overwritten_where_that_is_wanted() {
    let (place, ..) = diverged();
    let mut pass = place.pass();
    pass.policy = policy(&[], &[], Deletions::Mirror, Divergence::Force);
    let (carried, _) = pass.ok();
    assert_eq!((carried.updated, carried.deleted, carried.preserved), (1, 1, 0));
    place.assert_mirrored();
}

#[test]
fn it_stays_where_that_is_wanted() {
    let (place, main, own) = diverged();
    place.source.git(&["branch", "fresh", "main"]);
    let mut pass = place.pass();
    pass.policy = policy(&[], &[], Deletions::Mirror, Divergence::Refuse);
    let (carried, _) = pass.ok();
    assert_eq!((carried.created, carried.updated, carried.deleted), (1, 0, 0), "the rest goes on");
    for (name, id) in [("refs/heads/main", &main), ("refs/heads/own", &own)] {
        assert_eq!(&refs(&place.target)[name], id);
        let (outcome, reason) = told(&carried, name).unwrap();
        assert!(outcome == NoteKind::Diverged && reason.contains(id.as_str()), "{reason}");
    }
    place.assert_sound();
}

#[test]
fn what_it_is_built_on_is_told_to_a_source_that_knows_none_of_it() {
    let place = Place::empty();
    for n in 0..60 {
        place.source.commit("main", &format!("file{n}"), &format!("{n}\n").repeat(50));
    }
    place.sync();
    for n in 0..5 {
        place.target.commit("main", "own", &format!("made here {n}\n"));
    }
    place.source.commit("main", "file", "made there\n");
    let (carried, _) = place.pass().ok();
    assert_eq!((carried.updated, carried.preserved), (1, 1));
    assert!(carried.objects < 30, "not everything: {carried:?}");
    assert!(carried.remarks.iter().any(|remark| remark.contains("what they are built on")), "{carried:?}");
    place.assert_sound();
}

#[test]
fn a_target_with_another_history_gets_everything() {
    let place = Place::new();
    let other = place.target.commit("main", "alien", "nothing in common\n");
    let (carried, _) = place.pass().ok();
    assert_eq!(carried.objects, place.source.reachable().len() as u64);
    assert!(carried.remarks.iter().any(|remark| remark.contains("everything is sent")), "{carried:?}");
    assert_eq!(refs(&place.target)[&kept("heads/main", &other)], other);
    place.assert_sound();
}
