//! A source that no longer has what it had: made anew, restored from an old backup, emptied. What the target has of it
//! has then diverged, with and without a checkpoint.

use gitferry_config::{Deletions, Divergence};
use gitferry_git::protocol::Version;
use gitferry_replication::mirror::report::NoteKind;

use crate::remotes::git::GitRepo;
use crate::remotes::place::{Pass, Place, policy, refs, told};
use gitferry_test_support::scripted_server::GitServer;

/// A complete copy, and another repository in the source's place. What the target had.
fn made_anew(place: &Place) -> (GitRepo, std::collections::BTreeMap<String, String>) {
    let anew = GitRepo::init(place.source.path.with_file_name("anew"), &[]);
    anew.commit("main", "file", "another beginning\n");
    anew.git(&["branch", "side", "main"]);
    (anew, refs(&place.target))
}

fn from<'p>(mut pass: Pass<'p>, source: &GitRepo, (version, stateless): (Version, bool)) -> Pass<'p> {
    pass.source = Box::new(GitServer::new(source, version, stateless));
    pass
}

const WAYS: [(Version, bool); 4] =
    [(Version::V0, true), (Version::V0, false), (Version::V2, true), (Version::V2, false)];

#[test]
fn a_source_made_anew_has_diverged() {
    for way in WAYS {
        for with_checkpoint in [true, false] {
            for divergence in [Divergence::Preserve, Divergence::Refuse, Divergence::Force] {
                for patterns in [&[][..], &["refs/heads/*"][..]] {
                    let what = format!("{way:?} checkpoint {with_checkpoint} {divergence:?} {patterns:?}");
                    let place = Place::new();
                    let by = || policy(patterns, &[], Deletions::Mirror, divergence);
                    let mut first = place.pass();
                    first.policy = by();
                    let checkpoint = first.ok().1.filter(|_| with_checkpoint);
                    let (anew, before) = made_anew(&place);
                    let mut pass = from(place.pass(), &anew, way);
                    (pass.checkpoint, pass.policy) = (checkpoint, by());
                    let (carried, _) = pass.ok();
                    let there = refs(&place.target);
                    match divergence {
                        Divergence::Preserve => {
                            let kept: Vec<&String> = there.values().collect();
                            assert!(before.values().all(|id| kept.contains(&id)), "{what}: {there:?}");
                            assert_eq!(there["refs/heads/main"], refs(&anew)["refs/heads/main"], "{what}");
                        }
                        Divergence::Refuse => {
                            assert_eq!(there, before, "{what}");
                            assert_eq!(told(&carried, "refs/heads/main").unwrap().0, NoteKind::Diverged, "{what}");
                        }
                        Divergence::Force => {
                            let heads = |refs: &std::collections::BTreeMap<String, String>| {
                                refs.iter().filter(|(name, _)| name.starts_with("refs/heads/")).count()
                            };
                            assert_eq!(heads(&there), 2, "{what}: {there:?}");
                        }
                    }
                    place.assert_sound();
                }
            }
        }
    }
}

#[test]
fn one_ref_that_was_set_back_behind_what_is_gone_has_diverged_alone() {
    for way in WAYS {
        let place = Place::new();
        let lost = place.source.commit("side", "lost", "soon forgotten\n");
        let checkpoint = place.pass().ok().1;
        // Restored from a backup that is older, then worked on.
        place.source.git(&["update-ref", "refs/heads/side", "side~1"]);
        place.source.git(&["reflog", "expire", "--expire=now", "--all"]);
        place.source.git(&["prune", "--expire=now"]);
        place.source.commit("side", "other", "instead\n");
        place.source.commit("main", "more", "as ever\n");
        let mut pass = from(place.pass(), &place.source, way);
        pass.checkpoint = checkpoint;
        let (carried, _) = pass.ok();
        assert_eq!((carried.updated, carried.preserved), (2, 1), "{way:?}: {carried:?}");
        assert!(refs(&place.target).values().any(|id| *id == lost), "{way:?}");
        let (outcome, reason) = told(&carried, "refs/heads/side").unwrap();
        assert!(outcome == NoteKind::Preserved && reason.contains(&lost), "{reason}");
    }
}

#[test]
fn a_branch_that_is_gone_with_its_commits_has_diverged() {
    let place = Place::new();
    let lost = place.source.commit("topic/x", "lost", "soon forgotten\n");
    let checkpoint = place.pass().ok().1;
    place.source.git(&["branch", "-D", "topic/x"]);
    place.source.git(&["reflog", "expire", "--expire=now", "--all"]);
    place.source.git(&["prune", "--expire=now"]);
    let mut pass = place.pass();
    pass.checkpoint = checkpoint;
    let (carried, _) = pass.ok();
    assert_eq!((carried.deleted, carried.preserved), (1, 1), "{carried:?}");
    assert!(refs(&place.target).values().any(|id| *id == lost));
}

#[test]
fn an_emptied_source_keeps_what_the_target_has_even_where_it_may_empty_it() {
    for with_checkpoint in [true, false] {
        let place = Place::new();
        let checkpoint = place.pass().ok().1.filter(|_| with_checkpoint);
        let empty = GitRepo::init(place.source.path.with_file_name("empty"), &[]);
        let before = refs(&place.target);
        let mut pass = from(place.pass(), &empty, (Version::V2, true));
        pass.checkpoint = checkpoint;
        pass.fails();
        assert_eq!(refs(&place.target), before);
        pass.allow_empty = true;
        pass.ok();
        let there = refs(&place.target);
        assert!(before.values().all(|id| there.values().any(|kept| kept == id)), "{there:?}");
    }
}
