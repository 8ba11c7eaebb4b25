//! What breaks on the way: never a wrong ref at the target, and the next pass completes.

use std::sync::Arc;

use gitferry_base::Kind;
use gitferry_git::client::ClientError;
use gitferry_git::protocol::Version;
use gitferry_replication::mirror::MirrorError;
use gitferry_replication::mirror::report::NoteKind;

use crate::remotes::git::GitRepo;
use crate::remotes::place::{Place, Pushes, Shared, Watched, limits, refs, told};
use gitferry_test_support::scripted_server::{Damage, GitServer};

#[test]
fn a_source_that_breaks_off_or_lies_changes_nothing() {
    for stateless in [true, false] {
        for (at, damage) in
            [(1_500, Damage::Cut), (1_800, Damage::Flip(1)), (2_200, Damage::Cut), (2_000, Damage::Noise(7))]
        {
            let place = Place::new();
            let mut pass = place.pass().over(Version::V2, stateless);
            let mut source = GitServer::new(&place.source, Version::V2, stateless);
            source.damage = Some((at, damage));
            pass.source = Box::new(source);
            let error = pass.fails();
            assert!(error.kind().is_retryable(), "{at} {damage:?}: {error}");
            assert!(refs(&place.target).is_empty(), "{at} {damage:?}");
            place.sync();
        }
    }
}

#[test]
fn an_answer_that_is_lost_is_made_up_for_by_looking() {
    let place = Place::new();
    place.sync();
    place.source.commit("main", "new", "new\n");
    let target = Arc::new(Watched::new(GitServer::new(&place.target, Version::V2, true)));
    *target.loses_answer.lock().unwrap() = Some(0);
    let mut pass = place.pass();
    pass.target = Box::new(Shared(target.clone()));
    let (carried, _) = pass.ok();
    assert_eq!((carried.updated, target.pushes()), (1, 1));
    place.assert_mirrored();
}

#[test]
fn somebody_who_is_faster_is_not_overwritten_unseen() {
    let place = Place::new();
    place.sync();
    place.source.commit("main", "new", "new\n");
    let theirs = place.target.commit("theirs", "f", "made here\n");
    place.target.git(&["update-ref", "-d", "refs/heads/theirs"]);
    let target = Arc::new(Watched::new(GitServer::new(&place.target, Version::V2, true)));
    let moves = ["update-ref", "refs/heads/main", &theirs].map(String::from);
    *target.before_push.lock().unwrap() = Some(moves.to_vec());
    let mut pass = place.pass();
    pass.target = Box::new(Shared(target));
    let error = pass.fails();
    assert!(matches!(&error, MirrorError::Moved { refs, .. } if refs == "refs/heads/main"), "{error}");
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(refs(&place.target)["refs/heads/main"], theirs);
    // The next attempt sees it, and keeps it.
    let (carried, _) = place.pass().ok();
    assert_eq!((carried.updated, carried.preserved), (1, 1));
    assert!(refs(&place.target).values().any(|id| *id == theirs));
    place.assert_sound();
}

#[test]
fn a_pass_that_is_over_pushes_no_more() {
    let place = Place::new();
    place.sync();
    place.source.commit("main", "new", "new\n");
    place.source.git(&["branch", "-D", "side"]);
    let before = refs(&place.target);
    for pushes in 0..2 {
        let fence = Pushes::at_most(pushes);
        let mut pass = place.pass();
        pass.fence = Some(&fence);
        let error = pass.fails();
        assert!(matches!(error, MirrorError::LeaseLost) && error.kind() == Kind::Transient, "{error}");
        let mut expected = before.clone();
        if pushes == 1 {
            let main = place.source.git(&["rev-parse", "main"]);
            expected.insert("refs/heads/main".into(), main);
        }
        assert_eq!(refs(&place.target), expected);
    }
    place.sync();
}

#[test]
fn a_shallow_source_is_refused_by_name() {
    let place = Place::new();
    let shallow = place.source.path.with_file_name("shallow");
    let from = format!("file://{}", place.source.path.display());
    place.source.git(&["clone", "-q", "--bare", "--depth=1", &from, shallow.to_str().unwrap()]);
    for version in [Version::V0, Version::V2] {
        let mut pass = place.pass();
        pass.source = Box::new(GitServer::new(&GitRepo::at(&shallow), version, true));
        let error = pass.fails();
        assert!(matches!(&error, MirrorError::Client(ClientError::Shallow { .. })), "{error}");
        assert!(refs(&place.target).is_empty());
    }
    // Neither does it make a target keep what the whole history of the source has, or what was made there.
    place.sync();
    place.target.git(&["update-ref", "refs/heads/main", "main~2"]);
    place.target.commit("side", "own", "made here\n");
    let before = refs(&place.target);
    for (version, stateless) in gitferry_test_support::scripted_server::ways() {
        for patterns in [&[][..], &["refs/heads/*"][..]] {
            let mut pass = place.pass();
            pass.source = Box::new(GitServer::new(&GitRepo::at(&shallow), version, stateless));
            pass.policy = crate::remotes::place::policy(patterns, &[], Default::default(), Default::default());
            let error = pass.fails();
            assert!(matches!(&error, MirrorError::Client(ClientError::Shallow { .. })), "{error}");
            assert_eq!(refs(&place.target), before, "{version:?} {stateless} {patterns:?}");
        }
    }
}

/// A commit without a mailbox, which fsck calls missingEmail, on a branch of that name.
fn bad_commit(place: &Place, branch: &str) -> String {
    let tree = place.source.git(&["rev-parse", "main^{tree}"]);
    let commit = format!("tree {tree}\nauthor A 1700000000 +0000\ncommitter A 1700000000 +0000\n\n{branch}\n");
    let id = place.source.feed(&["hash-object", "-t", "commit", "--literally", "-w", "--stdin"], commit.as_bytes());
    let id = String::from_utf8(id).unwrap().trim().to_owned();
    place.source.git(&["update-ref", &format!("refs/heads/{branch}"), &id]);
    id
}

#[test]
fn objects_that_the_target_refuses_stop_only_the_refs_that_need_them() {
    let place = Place::new();
    for branch in ["bad", "worse"] {
        bad_commit(&place, branch);
    }
    let (carried, checkpoint) = place.pass().ok();
    let mut expected = refs(&place.source);
    for name in ["refs/heads/bad", "refs/heads/worse"] {
        expected.remove(name);
        let (outcome, reason) = told(&carried, name).unwrap();
        assert!(outcome == NoteKind::Refused && reason.contains("missingEmail"), "{reason}");
    }
    assert_eq!((refs(&place.target), carried.refused), (expected, 2));
    // The next time they are alone from the beginning.
    place.source.commit("main", "new", "new\n");
    let watched = Arc::new(Watched::new(GitServer::new(&place.target, Version::V2, true)));
    let mut pass = place.pass();
    (pass.target, pass.checkpoint) = (Box::new(Shared(watched.clone())), checkpoint);
    let (carried, _) = pass.ok();
    assert_eq!((carried.updated, carried.refused), (1, 2), "{carried:?}");
    assert_eq!(watched.pushes(), 4, "the good one, both bad ones, and each of them");
}

#[test]
fn a_target_that_refuses_all_objects_fails_the_pass_soon() {
    let place = Place::empty();
    place.source.commit("main", "file", "text\n");
    for n in 0..200 {
        bad_commit(&place, &format!("bad{n}"));
    }
    place.source.git(&["update-ref", "refs/heads/main", "refs/heads/bad0"]);
    place.target.git(&["config", "receive.fsckObjects", "true"]);
    let watched = Arc::new(Watched::new(GitServer::new(&place.target, Version::V2, true)));
    let mut pass = place.pass();
    pass.target = Box::new(Shared(watched.clone()));
    let error = pass.fails();
    assert!(matches!(error, MirrorError::Unpack { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Refused);
    assert!(refs(&place.target).is_empty());
    assert!(watched.pushes() <= 41, "{}", watched.pushes());
}

#[test]
fn a_hook_that_declines_one_ref_stops_no_other() {
    let place = Place::new();
    let hook = place.target.path.join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\nif grep -q refs/heads/side; then echo 'error: no side here'; exit 1; fi\n")
        .unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (carried, _) = place.pass().ok();
    let mut expected = refs(&place.source);
    expected.remove("refs/heads/side");
    assert_eq!(refs(&place.target), expected);
    let (outcome, reason) = told(&carried, "refs/heads/side").unwrap();
    assert!(outcome == NoteKind::Refused && reason.contains("hook declined"), "{reason}");
    assert!(carried.remarks.iter().any(|remark| remark.contains("no side here")), "{carried:?}");
}

/// A pass bisects a limited number of times. Batches of diverged tips that the target keeps are no bisections, however
/// many there are.
#[test]
fn tips_that_are_kept_leave_all_bisections_to_the_refs_behind_them() {
    let place = Place::new();
    place.sync();
    for n in 0..42 {
        place.target.git(&["branch", &format!("own{n}"), "main"]);
        place.target.commit(&format!("own{n}"), "own", &format!("made here, {n}\n"));
    }
    for name in ["new1", "new2", "side2", "new3"] {
        place.source.git(&["branch", name, "main"]);
    }
    let hook = place.target.path.join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\nif grep -q refs/heads/side2; then echo 'error: no side here'; exit 1; fi\n")
        .unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut pass = place.pass();
    pass.limits = limits(2);
    let (carried, _) = pass.ok();
    assert_eq!((carried.preserved, carried.created, carried.refused), (42, 3, 1), "{carried:?}");
    let (outcome, _) = told(&carried, "refs/heads/side2").unwrap();
    assert_eq!(outcome, NoteKind::Refused);
}
