//! What is asked of servers, and how.

use std::sync::Arc;

use gitferry_git::protocol::Version;
use gitferry_replication::mirror::checkpoint::Checkpoint;
use gitferry_replication::mirror::report::MirrorOutcome;

use crate::remotes::place::{Place, Shared, Watched};
use gitferry_test_support::scripted_server::GitServer;

/// A pass, watched at both ends.
fn watch(
    place: &Place,
    checkpoint: Option<Checkpoint>,
    target: impl Fn(GitServer) -> GitServer,
) -> (MirrorOutcome, Option<Checkpoint>, Arc<Watched>, Arc<Watched>) {
    let source = Arc::new(Watched::new(GitServer::new(&place.source, Version::V2, true)));
    let target = Arc::new(Watched::new(target(GitServer::new(&place.target, Version::V2, true))));
    let mut pass = place.pass();
    (pass.source, pass.target) = (Box::new(Shared(source.clone())), Box::new(Shared(target.clone())));
    pass.checkpoint = checkpoint;
    let (carried, checkpoint) = pass.ok();
    (carried, checkpoint, source, target)
}

#[test]
fn nothing_new_costs_a_request_on_either_side() {
    let place = Place::new();
    let (_, checkpoint, ..) = watch(&place, None, |target| target);
    for checkpoint in [None, checkpoint] {
        let (carried, left, source, target) = watch(&place, checkpoint, |target| target);
        assert!(carried.is_nothing());
        assert_eq!((source.count(), target.count()), (1, 1));
        assert!(left.is_none() || left.unwrap().recent.is_empty());
    }
}

#[test]
fn one_commit_costs_one_fetch_and_one_push() {
    let place = Place::new();
    let (_, checkpoint, ..) = watch(&place, None, |target| target);
    place.source.commit("main", "new", "new\n");
    let (_, _, source, target) = watch(&place, checkpoint, |target| target);
    // Refs and the pack; refs and the push.
    assert_eq!((source.count(), target.count(), target.pushes()), (2, 2, 1));
    place.assert_mirrored();
}

#[test]
fn deltas_are_as_the_target_takes_them() {
    let thin = |target: &dyn Fn(GitServer) -> GitServer| {
        let place = Place::new();
        watch(&place, None, target);
        place.source.commit("main", "dir/file0", "changed\n");
        let (_, _, source, _) = watch(&place, None, target);
        place.assert_mirrored();
        let said = source.fetches();
        (said.contains("thin-pack"), said.contains("ofs-delta"))
    };
    assert_eq!(thin(&|target| target), (true, true));
    assert_eq!(thin(&|target| target.saying("delete-refs", "delete-refs no-thin")), (false, true));
    assert_eq!(thin(&|target| target.saying("ofs-delta", "no-such-x")), (true, false));
}

#[test]
fn where_a_target_ends_is_told_to_the_source() {
    let place = Place::new();
    place.sync();
    // A shallow clone as a target: it has no more than the last commit of main.
    let shallow = place.target.path.with_file_name("shallow");
    let from = format!("file://{}", place.source.path.display());
    place.source.git(&["clone", "-q", "--bare", "--depth=1", "-b", "main", &from, shallow.to_str().unwrap()]);
    let shallow = crate::remotes::git::GitRepo::at(shallow);
    shallow.git(&["config", "receive.shallowUpdate", "true"]);
    let end = shallow.git(&["rev-parse", "main"]);
    place.source.commit("main", "new", "new\n");
    let source = Arc::new(Watched::new(GitServer::new(&place.source, Version::V2, true)));
    let mut pass = place.pass();
    pass.source = Box::new(Shared(source.clone()));
    pass.target = Box::new(GitServer::new(&shallow, Version::V2, true));
    pass.policy = crate::remotes::place::policy(&["refs/heads/main"], &[], Default::default(), Default::default());
    let (carried, _) = pass.ok();
    assert_eq!(carried.updated, 1, "{carried:?}");
    assert!(source.said().contains(&format!("shallow {end}")));
    assert_eq!(shallow.git(&["rev-list", "--count", "main"]), "2");
    assert_eq!(shallow.fsck().0, Some(0));
}
