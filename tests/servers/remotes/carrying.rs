//! From nothing to a copy, and what comes after.

use gitferry_replication::mirror::MirrorError;
use gitferry_replication::mirror::report::NoteKind;

use crate::remotes::git::noise;
use crate::remotes::place::{Place, limits, refs, told};
use gitferry_test_support::scripted_server::{FORMATS, ways};

#[test]
fn a_first_copy_and_what_comes_after() {
    for format in FORMATS {
        for (version, stateless) in ways() {
            let place = Place::with_format(format);
            let pass = || place.pass().over(version, stateless).ok().0;
            let first = pass();
            place.assert_mirrored();
            assert_eq!((first.created, first.packs), (refs(&place.source).len() as u64, 1), "{format} {version:?}");
            assert_eq!(first.objects, place.source.reachable().len() as u64);
            // One commit, a tag on it, a note.
            place.source.commit("main", "new", "new\n");
            place.source.git(&["tag", "-am", "three", "v3", "main"]);
            place.source.git(&["notes", "add", "-m", "more", "main"]);
            let second = pass();
            place.assert_mirrored();
            // What is new comes before what moves.
            assert_eq!((second.created, second.updated, second.packs), (1, 2, 2), "{format} {version:?}");
            assert!(second.objects < 16, "{second:?}");
            // A branch goes, another goes back.
            place.source.git(&["branch", "-D", "side"]);
            place.source.git(&["update-ref", "refs/heads/topic/deep/er", "main~4"]);
            let third = pass();
            place.assert_mirrored();
            assert_eq!((third.updated, third.deleted, third.preserved), (1, 1, 0), "{format} {version:?}");
            let nothing = pass();
            assert!(nothing.is_nothing() && nothing.packs == 0, "{nothing:?}");
        }
    }
}

#[test]
fn history_that_is_rewritten_is_forced() {
    let place = Place::new();
    place.sync();
    place.source.git(&["update-ref", "refs/heads/main", "main~2"]);
    place.source.commit("main", "other", "another way\n");
    let carried = place.sync();
    assert_eq!((carried.updated, carried.preserved), (1, 0), "{carried:?}");
}

#[test]
fn a_folder_makes_room_for_a_file_and_the_other_way() {
    let place = Place::new();
    place.sync();
    place.source.git(&["branch", "-D", "topic/deep/er"]);
    place.source.git(&["branch", "topic", "main"]);
    place.sync();
    place.source.git(&["branch", "-D", "topic"]);
    place.source.git(&["branch", "topic/x", "main"]);
    place.sync();
}

#[test]
fn refs_that_move_among_what_is_there_send_an_empty_pack() {
    let place = Place::new();
    place.sync();
    place.source.git(&["branch", "-m", "side", "aside"]);
    place.source.git(&["branch", "copy", "v2^{commit}"]);
    place.source.git(&["branch", "again", "main"]);
    let carried = place.sync();
    assert_eq!((carried.created, carried.deleted, carried.preserved), (3, 1, 0));
    // Of the three, one names a commit that no ref of the target named.
    assert_eq!((carried.packs, carried.objects), (1, 0));
    place.source.git(&["branch", "more", "main"]);
    let carried = place.sync();
    assert_eq!((carried.created, carried.packs, carried.bytes), (1, 0, 0));
}

#[test]
fn thousands_of_refs_go_in_batches() {
    let place = Place::new();
    let main = place.source.git(&["rev-parse", "main"]);
    place.source.pack_many_refs("refs/heads/many/", 5_000, &main);
    let mut pass = place.pass();
    pass.limits = limits(1_200);
    let (carried, _) = pass.ok();
    assert_eq!(carried.created, refs(&place.source).len() as u64);
    assert_eq!(refs(&place.target), refs(&place.source));
    assert_eq!(carried.refused, 0);
    // They go the same way.
    place.source.git(&["pack-refs", "--all"]);
    let packed = place.source.path.join("packed-refs");
    let text = std::fs::read_to_string(&packed).unwrap();
    let few: String = text.lines().filter(|line| !line.contains("many/")).map(|line| format!("{line}\n")).collect();
    std::fs::write(packed, few).unwrap();
    let (carried, _) = pass.ok();
    assert_eq!((carried.deleted, carried.preserved), (5_000, 0));
    place.assert_mirrored();
}

#[test]
fn formats_have_to_be_the_same() {
    let place = Place::new();
    let other = Place::with_format("sha256");
    let mut pass = place.pass();
    pass.target = Box::new(gitferry_test_support::scripted_server::GitServer::new(
        &other.target,
        gitferry_git::protocol::Version::V2,
        true,
    ));
    let error = pass.fails();
    assert!(matches!(error, MirrorError::Formats { .. }), "{error}");
    assert!(error.to_string().contains("sha256"), "{error}");
    assert!(refs(&other.target).is_empty());
}

#[test]
fn an_empty_source_empties_nothing_unless_it_may() {
    let place = Place::empty();
    place.target.commit("main", "file", "text\n");
    place.target.git(&["branch", "own", "main"]);
    let mut pass = place.pass();
    let error = pass.fails();
    assert!(matches!(error, MirrorError::EmptySource { refs: 2, .. }), "{error}");
    assert_eq!(refs(&place.target).len(), 2);
    pass.allow_empty = true;
    let (carried, _) = pass.ok();
    // HEAD's branch stays, and what only the target has is kept.
    assert_eq!((carried.deleted, carried.preserved), (1, 2));
    assert_eq!(told(&carried, "refs/heads/main").map(|(outcome, _)| outcome), Some(NoteKind::Preserved));
    let names: Vec<String> = refs(&place.target).into_keys().filter(|name| !name.contains("gitferry")).collect();
    assert_eq!(names, ["refs/heads/main"]);
}

#[test]
fn nothing_to_nothing_is_nothing() {
    let place = Place::empty();
    assert!(place.pass().ok().0.is_nothing());
}

/// A source whose history is some hundred KB of noise.
fn large() -> Place {
    let place = Place::empty();
    for n in 0..24 {
        place.source.commit_bytes("main", &format!("file{n}"), &noise(n, 20_000));
    }
    place.source.git(&["branch", "old", "main~15"]);
    place
}

#[test]
fn a_history_that_is_too_large_for_one_push_goes_in_slices() {
    let place = large();
    let mut pass = place.pass();
    pass.limits.bytes_per_push = Some(100_000);
    let (carried, checkpoint) = pass.ok();
    place.assert_mirrored();
    assert!(carried.packs >= 5 && carried.remarks.iter().any(|remark| remark.contains("slices")), "{carried:?}");
    // Everything went once.
    assert!(carried.bytes < 600_000, "{carried:?}");
    pass.checkpoint = checkpoint;
    assert!(pass.ok().0.is_nothing());
}

#[test]
fn a_target_that_says_so_only_when_it_is_asked_gets_slices_too() {
    let place = large();
    place.target.git(&["config", "receive.maxInputSize", "100000"]);
    let (carried, _) = place.pass().ok();
    place.assert_mirrored();
    assert!(carried.remarks.iter().any(|remark| remark.contains("slices")), "{carried:?}");
}

#[test]
fn what_cannot_be_parted_is_said() {
    let place = Place::empty();
    place.source.commit_bytes("main", "large", &noise(1, 200_000));
    let mut pass = place.pass();
    pass.limits.bytes_per_push = Some(100_000);
    let error = pass.fails();
    assert!(matches!(error, MirrorError::TooLarge { .. }), "{error}");
    assert!(refs(&place.target).is_empty());
}

#[test]
fn slices_that_a_pass_has_left_are_used_and_deleted() {
    let place = large();
    let half = place.source.git(&["rev-parse", "main~12"]);
    place.source.git(&[
        "push",
        "-q",
        place.target.path.to_str().unwrap(),
        &format!("{half}:refs/gitferry/slices/{half}"),
    ]);
    let (carried, _) = place.pass().ok();
    place.assert_mirrored();
    assert!(carried.bytes < 300_000, "only what was missing: {carried:?}");
}

/// A hook that declines all pushes of a branch of this name.
fn decline(place: &Place, branch: &str) {
    let hook = place.target.path.join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, format!("#!/bin/sh\n! grep -q refs/heads/{branch}$\n")).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_ref_that_is_declined_stops_no_history_in_slices() {
    let place = large();
    decline(&place, "old");
    let mut pass = place.pass();
    pass.limits.bytes_per_push = Some(100_000);
    let (carried, _) = pass.ok();
    assert_eq!((carried.created, carried.refused), (1, 1), "{carried:?}");
    assert_eq!(told(&carried, "refs/heads/old").map(|(outcome, _)| outcome), Some(NoteKind::Refused));
    assert_eq!(refs(&place.target).keys().collect::<Vec<_>>(), ["refs/heads/main"]);
    assert!(carried.bytes < 600_000, "everything went once: {carried:?}");
    place.assert_sound();
}

#[test]
fn one_commit_that_is_too_large_stops_only_its_own_refs() {
    let place = Place::new();
    place.source.commit_bytes("huge", "large", &noise(1, 200_000));
    let mut pass = place.pass();
    pass.limits.bytes_per_push = Some(100_000);
    let (carried, _) = pass.ok();
    let mut expected = refs(&place.source);
    expected.remove("refs/heads/huge");
    assert_eq!(refs(&place.target), expected);
    let (outcome, reason) = told(&carried, "refs/heads/huge").unwrap();
    assert!(outcome == NoteKind::Refused && reason.contains("100000 bytes"), "{reason}");
}

#[test]
fn a_deletion_that_is_declined_stops_no_other() {
    let place = Place::new();
    place.sync();
    decline(&place, "side");
    for branch in ["side", "topic/deep/er"] {
        place.source.git(&["branch", "-D", branch]);
    }
    let (carried, _) = place.pass().ok();
    assert_eq!((carried.deleted, carried.refused), (1, 1), "{carried:?}");
    let there = refs(&place.target);
    assert!(there.contains_key("refs/heads/side") && !there.contains_key("refs/heads/topic/deep/er"));
}

#[test]
fn another_name_for_a_branch_at_the_target_is_not_deleted_with_it() {
    let place = Place::new();
    place.sync();
    place.target.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
    let main = place.target.commit("main", "own", "made here\n");
    place.source.git(&["branch", "-D", "side"]);
    let (carried, _) = place.pass().ok();
    assert_eq!((carried.updated, carried.deleted, carried.preserved), (1, 1, 1), "{carried:?}");
    assert_eq!(refs(&place.target)[&format!("refs/gitferry/diverged/heads/main/{}", &main[..12])], main);
    let (outcome, reason) = told(&carried, "refs/heads/alias").unwrap();
    assert!(outcome == NoteKind::Invalid && reason.contains("symbolic"), "{reason}");
    assert_eq!(refs(&place.target)["refs/heads/main"], refs(&place.source)["refs/heads/main"]);
    assert!(refs(&place.target).contains_key("refs/heads/alias"));
}
