//! HEAD, which no push carries.

use gitferry_replication::mirror::report::NoteKind;

use crate::remotes::place::{Api, Place, refs, told};

/// The source's main branch gets another name.
fn renamed() -> Place {
    let place = Place::new();
    place.sync();
    place.source.git(&["branch", "-m", "main", "trunk"]);
    assert_eq!(place.source.head().trim(), "refs/heads/trunk");
    place
}

#[test]
fn it_moves_after_the_new_branch_is_there_and_before_the_old_one_goes() {
    let place = renamed();
    let mut pass = place.pass();
    pass.heads = Api(Some(&place.target));
    let (carried, _) = pass.ok();
    assert_eq!(carried.head.as_deref(), Some("refs/heads/trunk"));
    assert_eq!((carried.created, carried.deleted, carried.refused), (1, 1, 0), "{carried:?}");
    assert_eq!(place.target.head().trim(), "refs/heads/trunk");
    place.assert_mirrored();
}

#[test]
fn where_nobody_can_move_it_the_old_branch_waits() {
    let place = renamed();
    let (carried, checkpoint) = place.pass().ok();
    assert_eq!((carried.created, carried.deleted, carried.refused), (1, 0, 0), "{carried:?}");
    let (outcome, reason) = told(&carried, "refs/heads/main").unwrap();
    assert!(outcome == NoteKind::Pending && reason.contains("refs/heads/trunk"), "{reason}");
    assert!(refs(&place.target).contains_key("refs/heads/main"));
    // It goes once somebody has moved HEAD.
    place.target.git(&["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    let mut pass = place.pass();
    pass.checkpoint = checkpoint;
    let (carried, _) = pass.ok();
    assert_eq!((carried.deleted, carried.preserved), (1, 0), "{carried:?}");
    place.assert_mirrored();
}

#[test]
fn it_moves_alone() {
    let place = Place::new();
    let mut pass = place.pass();
    pass.heads = Api(Some(&place.target));
    pass.checkpoint = pass.ok().1;
    place.source.git(&["symbolic-ref", "HEAD", "refs/heads/side"]);
    let (carried, checkpoint) = pass.ok();
    assert_eq!((carried.edits(), carried.head.as_deref()), (0, Some("refs/heads/side")));
    assert_eq!(place.target.head().trim(), "refs/heads/side");
    assert_eq!(checkpoint.unwrap().head.as_deref(), Some("refs/heads/side"));
}

#[test]
fn one_that_names_no_branch_is_left_alone() {
    let place = Place::new();
    place.sync();
    place.source.git(&["symbolic-ref", "HEAD", "refs/heads/unborn"]);
    place.source.commit("main", "new", "new\n");
    let mut pass = place.pass();
    pass.heads = Api(Some(&place.target));
    let (carried, _) = pass.ok();
    assert_eq!((carried.updated, carried.head), (1, None));
    assert_eq!(place.target.head().trim(), "refs/heads/main");
}

#[test]
fn it_moves_to_the_last_of_many_new_branches() {
    let place = Place::new();
    let main = place.source.git(&["rev-parse", "main"]);
    place.source.pack_many_refs("refs/heads/many/", 1_200, &main);
    place.source.git(&["update-ref", "refs/heads/zz", &main]);
    place.source.git(&["symbolic-ref", "HEAD", "refs/heads/zz"]);
    let mut pass = place.pass();
    pass.heads = Api(Some(&place.target));
    assert_eq!(pass.ok().0.head.as_deref(), Some("refs/heads/zz"));
    place.assert_mirrored();
}

#[test]
fn it_follows_when_its_branch_comes_later() {
    let place = renamed();
    // The new branch is refused at first.
    let hook = place.target.path.join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\n! grep -q refs/heads/trunk$\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut pass = place.pass();
    pass.heads = Api(Some(&place.target));
    let (carried, checkpoint) = pass.ok();
    assert_eq!((carried.refused, carried.head.clone()), (1, None), "{carried:?}");
    std::fs::remove_file(hook).unwrap();
    pass.checkpoint = checkpoint;
    let (carried, _) = pass.ok();
    assert_eq!(carried.head.as_deref(), Some("refs/heads/trunk"), "{carried:?}");
    assert_eq!(place.target.head().trim(), "refs/heads/trunk");
    place.assert_mirrored();
}
