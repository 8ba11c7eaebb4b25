//! What is renamed, rebuilt or deleted at the source is not gone from the target before what replaces it is there:
//! whatever refuses that, and wherever the pass dies.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use gitferry_git::protocol::Version;
use gitferry_replication::mirror::MirrorError;
use gitferry_replication::mirror::report::{MirrorOutcome, NoteKind};

use crate::remotes::git::noise;
use crate::remotes::place::{Pass, Place, Pushes, Shared, Watched, refs, told};
use gitferry_test_support::scripted_server::GitServer;

/// How a branch `release` becomes another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rename {
    /// `release` is gone, `release-v2` has its commits.
    Plain,
    /// `release/v2` takes its place.
    IntoFolder,
    /// `rel/a` becomes `rel`.
    OutOfFolder,
    /// `release-v2` has its commits, and `release` begins anew.
    Rebuilt,
}

const RENAMES: [Rename; 4] = [Rename::Plain, Rename::IntoFolder, Rename::OutOfFolder, Rename::Rebuilt];

impl Rename {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Rename::Plain | Rename::Rebuilt => ("release", "release-v2"),
            Rename::IntoFolder => ("release", "release/v2"),
            Rename::OutOfFolder => ("rel/a", "rel"),
        }
    }
}

/// What stops the new branch at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The pack is larger than the target takes.
    Size,
    /// An object is not as the target wants it.
    Fsck,
    /// A hook declines the push.
    PreReceive,
    /// A hook declines the ref.
    Update,
}

const REFUSALS: [Refusal; 4] = [Refusal::Size, Refusal::Fsck, Refusal::PreReceive, Refusal::Update];

/// A copy that is complete, and a source in which a branch has got another name and one more commit. The tip that the
/// branch had.
fn renamed(rename: Rename, refusal: Option<Refusal>) -> (Place, String) {
    let place = Place::new();
    let (old, new) = rename.names();
    for n in 0..3 {
        place.source.commit(old, &format!("release{n}"), &format!("{n}\n"));
    }
    place.sync();
    let tip = refs(&place.source)[&format!("refs/heads/{old}")].clone();
    place.source.git(&["update-ref", "refs/heads/passing", &tip]);
    match refusal {
        Some(Refusal::Fsck) => {
            let tree = place.source.git(&["rev-parse", "passing^{tree}"]);
            let commit = format!("tree {tree}\nparent {tip}\nauthor A 1 +0000\ncommitter A 1 +0000\n\nbad\n");
            let id =
                place.source.feed(&["hash-object", "-t", "commit", "--literally", "-w", "--stdin"], commit.as_bytes());
            place.source.git(&["update-ref", "refs/heads/passing", String::from_utf8(id).unwrap().trim()]);
        }
        _ => _ = place.source.commit_bytes("passing", "large", &noise(9, 200_000)),
    }
    place.source.git(&["branch", "-D", old]);
    place.source.git(&["branch", "-m", "passing", new]);
    if rename == Rename::Rebuilt {
        place.source.git(&["branch", old, "main"]);
    }
    let hook = |name: &str, text: String| {
        let hook = place.target.path.join("hooks").join(name);
        std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
        std::fs::write(&hook, text).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    match refusal {
        Some(Refusal::PreReceive) => hook("pre-receive", format!("#!/bin/sh\n! grep -q refs/heads/{new}$\n")),
        Some(Refusal::Update) => hook("update", format!("#!/bin/sh\ntest $1 != refs/heads/{new}\n")),
        _ => {}
    }
    (place, tip)
}

fn relent(place: &Place) {
    let _ = std::fs::remove_dir_all(place.target.path.join("hooks"));
    place.target.git(&["config", "receive.fsckObjects", "false"]);
}

/// A pass to a target that pushes atomically or does not.
fn pass(place: &Place, atomic: bool, stateless: bool) -> Pass<'_> {
    let mut pass = place.pass();
    let target = GitServer::new(&place.target, Version::V2, stateless);
    pass.target = Box::new(if atomic { target } else { target.saying("atomic", "cimota") });
    pass
}

/// Whether refs of the target reach a commit.
fn has(place: &Place, id: &str) -> bool {
    place.target.reachable().contains(id)
}

#[test]
fn what_is_refused_leaves_what_it_was_to_replace() {
    for refusal in REFUSALS {
        for rename in RENAMES {
            for atomic in [true, false] {
                let what = format!("{refusal:?} {rename:?} atomic {atomic}");
                let (place, tip) = renamed(rename, Some(refusal));
                let (old, new) = rename.names();
                let limited = |pass: &mut Pass<'_>| {
                    if refusal == Refusal::Size {
                        pass.limits.bytes_per_push = Some(100_000);
                    }
                };
                // Twice: what the first pass leaves behind must not change that.
                let mut checkpoint = None;
                for round in 0..2 {
                    let mut pass = pass(&place, atomic, true);
                    limited(&mut pass);
                    pass.checkpoint = checkpoint.take();
                    let mut carried = MirrorOutcome::default();
                    match pass.run(&mut carried) {
                        Ok(left) => checkpoint = left,
                        // Nothing else was to be done, so that the pass has failed.
                        Err(MirrorError::TooLarge { .. } | MirrorError::Unpack { .. }) => {}
                        Err(error) => panic!("{what}: {error}"),
                    }
                    let there = refs(&place.target);
                    assert_eq!(there.get(&format!("refs/heads/{old}")), Some(&tip), "{what} {round}: {there:?}");
                    assert!(!there.contains_key(&format!("refs/heads/{new}")), "{what} {round}");
                    assert!(!there.keys().any(|name| name.contains("/aside/")), "{what} {round}: {there:?}");
                    let (outcome, reason) = told(&carried, &format!("refs/heads/{old}")).unwrap();
                    assert!(outcome == NoteKind::Pending && reason.contains("stays"), "{what}: {reason}");
                }
                relent(&place);
                let mut pass = pass(&place, atomic, true);
                pass.checkpoint = checkpoint;
                pass.ok();
                assert_eq!(refs(&place.target), refs(&place.source), "{what}");
            }
        }
    }
}

#[test]
fn what_nothing_needs_goes_although_something_is_refused() {
    let (place, _) = renamed(Rename::Plain, Some(Refusal::Update));
    // A merged branch, one that is only dropped, and one that only shares what the target has anyway.
    place.source.git(&["branch", "-D", "side"]);
    place.source.git(&["branch", "dropped", "main"]);
    let dropped = place.source.commit("dropped", "dropped", "soon\n");
    place.target.git(&["fetch", "-q", place.source.path.to_str().unwrap(), "dropped:dropped"]);
    place.source.git(&["branch", "-D", "dropped"]);
    assert!(has(&place, &dropped));
    let (carried, _) = place.pass().ok();
    let there = refs(&place.target);
    assert!(there.contains_key("refs/heads/release"), "{there:?}");
    for gone in ["refs/heads/side", "refs/heads/dropped"] {
        assert!(!there.contains_key(gone), "{there:?}");
    }
    assert_eq!((carried.deleted, carried.refused), (2, 1), "{carried:?}");
}

#[test]
fn a_pass_that_dies_between_pushes_has_lost_nothing_and_the_next_one_completes() {
    for refusal in [None, Some(Refusal::Update)] {
        for rename in RENAMES {
            for atomic in [true, false] {
                for pushes in 0..9 {
                    let what = format!("{refusal:?} {rename:?} atomic {atomic}, dead after {pushes} pushes");
                    let (place, tip) = renamed(rename, refusal);
                    let fence = Pushes::at_most(pushes);
                    let mut dying = pass(&place, atomic, true);
                    dying.fence = Some(&fence);
                    let died = dying.run(&mut MirrorOutcome::default()).is_err();
                    assert!(has(&place, &tip), "{what}: {:?}", refs(&place.target));
                    pass(&place, atomic, true).ok();
                    if refusal.is_some() {
                        let there = refs(&place.target);
                        assert_eq!(
                            there.get(&format!("refs/heads/{}", rename.names().0)),
                            Some(&tip),
                            "{what}: {there:?}"
                        );
                        relent(&place);
                        pass(&place, atomic, true).ok();
                    }
                    place.assert_mirrored();
                    if !died {
                        break;
                    }
                    assert!(pushes < 8, "{what}");
                }
            }
        }
    }
}

#[test]
fn an_answer_that_is_lost_loses_nothing() {
    for rename in RENAMES {
        for push in 0..5 {
            let what = format!("{rename:?}, the answer to push {push}");
            let (place, tip) = renamed(rename, None);
            let target = Arc::new(Watched::new(GitServer::new(&place.target, Version::V2, true)));
            *target.loses_answer.lock().unwrap() = Some(push);
            let mut pass = place.pass();
            pass.target = Box::new(Shared(target.clone()));
            let _ = pass.run(&mut MirrorOutcome::default());
            assert!(has(&place, &tip), "{what}: {:?}", refs(&place.target));
            let lost = target.loses_answer.lock().unwrap().is_none();
            place.sync();
            if !lost {
                break;
            }
        }
    }
}

#[test]
fn a_target_that_takes_no_refs_of_ours_has_its_own_back() {
    for refusal in [None, Some(Refusal::Update)] {
        for rename in [Rename::IntoFolder, Rename::OutOfFolder] {
            let (place, tip) = renamed(rename, refusal);
            let (old, new) = rename.names();
            let hook = place.target.path.join("hooks/update");
            std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
            let declined = if refusal.is_some() { new } else { "none" };
            let text =
                format!("#!/bin/sh\ncase $1 in refs/gitferry/*) exit 1;; refs/heads/{declined}) exit 1;; esac\n");
            std::fs::write(&hook, text).unwrap();
            std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
            pass(&place, false, true).ok();
            let there = refs(&place.target);
            match refusal {
                None => place.assert_mirrored(),
                Some(_) => assert_eq!(there.get(&format!("refs/heads/{old}")), Some(&tip), "{rename:?}: {there:?}"),
            }
        }
    }
}

#[test]
fn many_replacements_go_at_once_and_a_refused_one_stops_no_other() {
    let place = Place::new();
    for n in 0..30 {
        place.source.git(&["branch", &format!("b{n:02}"), "main"]);
    }
    let tip = place.source.commit("b07", "own", "only here\n");
    place.sync();
    for n in 0..30 {
        let old = format!("b{n:02}");
        place.source.git(&["branch", "-m", &old, "passing"]);
        place.source.git(&["branch", "-m", "passing", &format!("{old}/x")]);
    }
    let hook = place.target.path.join("hooks/update");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\ntest $1 != refs/heads/b07/x\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let watched = Arc::new(Watched::new(GitServer::new(&place.target, Version::V2, true)));
    let mut pass = place.pass();
    pass.target = Box::new(Shared(watched.clone()));
    let (carried, _) = pass.ok();
    let mut expected = refs(&place.source);
    expected.remove("refs/heads/b07/x");
    expected.insert("refs/heads/b07".into(), tip);
    assert_eq!(refs(&place.target), expected);
    assert_eq!((carried.created, carried.deleted, carried.refused), (29, 29, 1), "{carried:?}");
    assert!(watched.pushes() < 40, "{}", watched.pushes());
}

/// How two branches, `one` and `two`, with a commit of their own each, move at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    /// Each has what the other had, and `two` one commit more.
    Swap,
    /// `two` has what `one` had, and one commit more; `one` begins anew.
    Handover,
}

/// A complete copy, and a source in which both have moved, so that `two` brings what the target refuses. The tip that
/// `one` had.
fn exchanged(exchange: Exchange, refusal: Option<Refusal>) -> (Place, String) {
    let place = Place::new();
    for name in ["one", "two"] {
        place.source.git(&["branch", name, "main"]);
        place.source.commit(name, name, "its own\n");
    }
    place.sync();
    let tips = refs(&place.source);
    let (one, two) = (tips["refs/heads/one"].clone(), tips["refs/heads/two"].clone());
    place.source.git(&["update-ref", "refs/heads/two", &one]);
    if refusal == Some(Refusal::Fsck) {
        let tree = place.source.git(&["rev-parse", "two^{tree}"]);
        let commit = format!("tree {tree}\nparent {one}\nauthor A 1 +0000\ncommitter A 1 +0000\n\nbad\n");
        let id = place.source.feed(&["hash-object", "-t", "commit", "--literally", "-w", "--stdin"], commit.as_bytes());
        place.source.git(&["update-ref", "refs/heads/two", String::from_utf8(id).unwrap().trim()]);
    } else {
        place.source.commit_bytes("two", "large", &noise(9, 200_000));
    }
    let begin = if exchange == Exchange::Swap { two.as_str() } else { "main" };
    place.source.git(&["branch", "-f", "one", begin]);
    let hook = place.target.path.join("hooks");
    std::fs::create_dir_all(&hook).unwrap();
    let (name, text) = match refusal {
        Some(Refusal::PreReceive) => ("pre-receive", "#!/bin/sh\n! grep -q refs/heads/two$\n"),
        Some(Refusal::Update) => ("update", "#!/bin/sh\ntest $1 != refs/heads/two\n"),
        _ => return (place, one),
    };
    std::fs::write(hook.join(name), text).unwrap();
    std::fs::set_permissions(hook.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    (place, one)
}

#[test]
fn refs_that_are_updated_with_each_other_lose_nothing() {
    for refusal in REFUSALS {
        for exchange in [Exchange::Swap, Exchange::Handover] {
            for atomic in [true, false] {
                let what = format!("{refusal:?} {exchange:?} atomic {atomic}");
                let (place, one) = exchanged(exchange, Some(refusal));
                let before = refs(&place.target);
                let mut checkpoint = None;
                for round in 0..3 {
                    let watched = Arc::new(Watched::new(match atomic {
                        true => GitServer::new(&place.target, Version::V2, true),
                        false => GitServer::new(&place.target, Version::V2, true).saying("atomic", "cimota"),
                    }));
                    let mut pass = place.pass();
                    pass.target = Box::new(Shared(watched.clone()));
                    if refusal == Refusal::Size {
                        pass.limits.bytes_per_push = Some(100_000);
                    }
                    pass.checkpoint.clone_from(&checkpoint);
                    let mut carried = MirrorOutcome::default();
                    match pass.run(&mut carried) {
                        // One that is as it was is not written again.
                        Ok(left) => checkpoint = left.or(checkpoint),
                        Err(MirrorError::TooLarge { .. } | MirrorError::Unpack { .. }) => {}
                        Err(error) => panic!("{what}: {error}"),
                    }
                    assert_eq!(refs(&place.target), before, "{what} {round}");
                    assert!(has(&place, &one), "{what} {round}");
                    let (outcome, reason) = told(&carried, "refs/heads/one").unwrap();
                    assert!(outcome == NoteKind::Pending && reason.contains("refs/heads/two"), "{what}: {reason}");
                    // What is known to be refused makes nothing move and come back again.
                    if checkpoint.is_some() && round > 0 {
                        assert!(watched.pushes() <= 1, "{what} {round}: {} pushes", watched.pushes());
                    }
                }
                relent(&place);
                let mut pass = pass(&place, atomic, true);
                pass.checkpoint = checkpoint;
                pass.ok();
                assert_eq!(refs(&place.target), refs(&place.source), "{what}");
            }
        }
    }
}

#[test]
fn a_pass_that_dies_while_refs_are_updated_with_each_other_is_completed_by_the_next() {
    for refusal in [None, Some(Refusal::Update), Some(Refusal::PreReceive)] {
        for exchange in [Exchange::Swap, Exchange::Handover] {
            for pushes in 0..6 {
                let what = format!("{refusal:?} {exchange:?}, dead after {pushes} pushes");
                let (place, _) = exchanged(exchange, refusal);
                let fence = Pushes::at_most(pushes);
                let mut dying = pass(&place, false, true);
                dying.fence = Some(&fence);
                let died = dying.run(&mut MirrorOutcome::default()).is_err();
                relent(&place);
                pass(&place, false, true).ok();
                place.assert_mirrored();
                if !died {
                    break;
                }
                assert!(pushes < 5, "{what}");
            }
        }
    }
}
