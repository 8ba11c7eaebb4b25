//! One fault at every single call that has to do with LFS objects.

use std::time::Duration;

use gitferry_base::Kind;
use gitferry_engine::ledger::change::LfsObject;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::lfs::{LfsSpool, SettledPointers};
use gitferry_engine::region::sweep::Swept;
use gitferry_engine::region::{Region, RegionError};
use gitferry_git::lfs::Pointer;

use crate::faults::everywhere::{Breadth, Plan, crash_everywhere, fail_everywhere, one_replication};
use crate::faults::histories::deliver_all;
use gitferry_test_support::faulty::{Sites, assert_equal, assert_sound, link, staging_rows};
use gitferry_test_support::git::noise;

/// More than one part of a transfer.
const LARGE: usize = (9 << 20) + 1;

fn spool(region: &Region, content: &[u8]) -> (tempfile::TempPath, LfsObject) {
    let mut spool = LfsSpool::new_in(&region.spool_dir()).unwrap();
    spool.write(content).unwrap();
    spool.finish()
}

async fn put(region: &Region, id: RepositoryId, content: &[u8]) -> Result<LfsObject, RegionError> {
    let (file, object) = spool(region, content);
    region.lfs().put(id, object, file).await.map(|()| object)
}

/// Changes at the source that name objects, one of which the target has.
async fn lag(sites: &Sites) {
    let (us, eu) = (sites.region("us"), sites.region("eu"));
    let id = us.repositories().create("app", gix::hash::Kind::Sha1, "me").await.unwrap().id;
    let first = put(&us, id, b"first").await.unwrap();
    us.lfs().name(id, &[first], "me").await.unwrap();
    assert!(deliver_all(&link(us.clone(), eu)).await);
    let mut objects = vec![first];
    for (seed, size) in [(1, LARGE), (2, 1000)] {
        objects.push(put(&us, id, &noise(seed, size)).await.unwrap());
    }
    us.lfs().name(id, &objects, "me").await.unwrap();
    let last = put(&us, id, b"last").await.unwrap();
    us.lfs().name(id, &[last], "me").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_of_lfs_objects_that_dies_anywhere_never_shows_a_change_without_them() {
    let sites = Sites::new(&["us", "eu"]);
    lag(&sites).await;
    assert!(crash_everywhere(Breadth::One, |plan| one_replication(&sites, plan)).await > 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_of_lfs_objects_whose_calls_fail_once() {
    let sites = Sites::new(&["us", "eu"]);
    lag(&sites).await;
    assert!(fail_everywhere(Breadth::One, |plan| one_replication(&sites, plan)).await > 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: every kind of failure at every call"]
async fn a_replication_of_lfs_objects_that_fails_anywhere_in_any_way() {
    let sites = Sites::new(&["us", "eu"]);
    lag(&sites).await;
    assert!(crash_everywhere(Breadth::All, |plan| one_replication(&sites, plan)).await > 30);
    assert!(fail_everywhere(Breadth::All, |plan| one_replication(&sites, plan)).await > 30);
}

/// What a host does with an upload: store, then name what a pointer waits for.
async fn upload(region: &Region, id: RepositoryId, content: &[u8]) -> Result<(), RegionError> {
    let object = put(region, id, content).await?;
    let states = region.lfs().states(id, &[object.oid]).await?;
    if states.iter().any(|state| state.awaited) {
        region.lfs().name(id, &[object], "me").await?;
    }
    Ok(())
}

async fn one_upload(template: &Sites, plan: Plan) -> bool {
    let sites = template.copy();
    let us = sites.region("us");
    let id = us.repositories().get("app").await.unwrap().id;
    let content = noise(7, 10_000);
    let faults = plan.arm();
    let faulty = plan.region(&sites, "us", &faults);
    let well = upload(&faulty, id, &content).await.is_ok();
    let (_, object) = spool(&us, &content);
    let held = us.lfs().objects(id, &[object.oid]).await.unwrap()[0];
    if let Some(held) = held {
        let there = us.objects().head(&keys::lfs_object(id, held.oid)).await.unwrap();
        assert_eq!(
            (held, there.map(|meta| meta.size)),
            (object, Some(object.size)),
            "{plan:?}: a row without its object"
        );
    }
    assert!(held.is_some() || !well, "{plan:?}");
    assert_sound(&us).await;
    // The client tries again: it uploads what is not held, and what is held gets its name.
    upload(&us, id, &content).await.unwrap();
    assert_eq!(us.lfs().awaited(id).await.unwrap(), [], "{plan:?}");
    let item = us.repositories().get("app").await.unwrap();
    let verified = us.verifier().verify(&item, true, Default::default()).await.unwrap();
    assert_eq!((verified.findings, verified.lfs_objects), (Vec::new(), 1), "{plan:?}");
    faults.injected() > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_fails_anywhere_leaves_no_row_without_its_object() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let id = us.repositories().create("app", gix::hash::Kind::Sha1, "me").await.unwrap().id;
    let (_, object) = spool(&us, &noise(7, 10_000));
    let missing = vec![Pointer { oid: object.oid, size: object.size }];
    let mut settled = SettledPointers { missing, ..SettledPointers::default() };
    us.lfs().await_missing(id, &mut settled).await.unwrap();
    assert_eq!(settled.missing.len(), 1);
    assert!(crash_everywhere(Breadth::All, |plan| one_upload(&sites, plan)).await > 5);
    assert!(fail_everywhere(Breadth::All, |plan| one_upload(&sites, plan)).await > 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_and_pointers_that_race_are_named_in_the_end() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let id = us.repositories().create("app", gix::hash::Kind::Sha1, "me").await.unwrap().id;
    let contents: Vec<Vec<u8>> = (0..24).map(|seed| noise(seed, 100)).collect();
    let work = contents.iter().map(|content| {
        let us = us.clone();
        async move {
            let (_, object) = spool(&us, content);
            let pointing = async {
                let missing = vec![Pointer { oid: object.oid, size: object.size }];
                let mut settled = SettledPointers { missing, ..SettledPointers::default() };
                us.lfs().await_missing(id, &mut settled).await.unwrap();
                // What a push does with what it found after all.
                us.lfs().name(id, &settled.held, "pusher").await.unwrap();
            };
            let (_, uploaded) = futures::join!(pointing, upload(&us, id, content));
            uploaded.unwrap();
        }
    });
    futures::future::join_all(work).await;
    assert_eq!(us.lfs().awaited(id).await.unwrap(), []);
    let item = us.repositories().get("app").await.unwrap();
    assert_eq!(us.verifier().verify(&item, true, Default::default()).await.unwrap().lfs_objects, 24);
}

/// A repository with a pointer that a push has brought before its object.
async fn noted(us: &Region, content: &[u8]) -> (RepositoryId, SettledPointers) {
    let id = us.repositories().create("app", gix::hash::Kind::Sha1, "me").await.unwrap().id;
    let (_, object) = spool(us, content);
    let missing = vec![Pointer { oid: object.oid, size: object.size }];
    let mut settled = SettledPointers { missing, ..SettledPointers::default() };
    us.lfs().await_missing(id, &mut settled).await.unwrap();
    (id, settled)
}

/// A push finds the object that another push waits for, and dies: the other's note is still there for the upload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_dies_takes_no_note_of_another_with_it() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let (id, mut second) = noted(&us, b"late").await;
    let object = put(&us, id, b"late").await.unwrap();
    us.lfs().await_missing(id, &mut second).await.unwrap();
    assert_eq!((&second.held, &second.noted, second.missing.len()), (&vec![object], &vec![object], 0));
    assert!(us.lfs().states(id, &[object.oid]).await.unwrap()[0].awaited, "nothing asks for a name of the object");
    upload(&us, id, b"late").await.unwrap();
    let item = us.repositories().get("app").await.unwrap();
    assert_eq!(us.verifier().verify(&item, true, Default::default()).await.unwrap().lfs_objects, 1);
    assert_eq!(us.lfs().awaited(id).await.unwrap(), []);
}

/// The process dies between the row of the object and the change that names it, and its client never comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_dies_before_its_change_is_named_by_a_sweep() {
    let sites = Sites::new(&["us", "eu"]);
    let (us, eu) = (sites.region("us"), sites.region("eu"));
    let (id, _) = noted(&us, b"late").await;
    let object = put(&us, id, b"late").await.unwrap();
    assert!(deliver_all(&link(us.clone(), eu.clone())).await);
    assert_eq!(eu.lfs().objects(id, &[object.oid]).await.unwrap(), [None]);
    let swept = Swept { late_lfs: 1, ..Swept::default() };
    assert_eq!(us.sweeper().would_sweep().await.unwrap(), swept);
    assert_eq!((us.sweeper().sweep().await.unwrap(), us.sweeper().sweep().await.unwrap()), (swept, Swept::default()));
    assert!(deliver_all(&link(us.clone(), eu.clone())).await);
    assert_eq!(eu.lfs().objects(id, &[object.oid]).await.unwrap(), [Some(object)]);
    assert_sound(&eu).await;
    // A replica names nothing by itself.
    let mut settled = SettledPointers::default();
    settled.missing.push(Pointer { oid: object.oid, size: object.size });
    eu.lfs().await_missing(id, &mut settled).await.unwrap();
    assert_eq!(eu.sweeper().sweep().await.unwrap(), Swept::default());
}

/// Two workers copy the same objects at once, large and small, and one of them is always late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_that_copy_the_same_objects_leave_no_upload_behind() {
    let template = Sites::new(&["us", "eu"]);
    lag(&template).await;
    for millis in [0, 1, 3, 7] {
        let sites = template.copy();
        let (us, eu) = (sites.region("us"), sites.region("eu"));
        let slow =
            link(sites.delayed("us", Duration::from_millis(millis)), sites.delayed("eu", Duration::from_millis(1)));
        let fast = link(us.clone(), eu.clone());
        let id = us.repositories().get("app").await.unwrap().id;
        let (one, other) = futures::join!(slow.deliver(id), fast.deliver(id));
        assert!(one.is_ok() && other.is_ok(), "{millis} ms: {one:?} {other:?}");
        assert_equal(&us, &eu).await;
        assert_sound(&eu).await;
        let rows = staging_rows(&eu, id).await;
        let uploads: Vec<_> = std::fs::read_dir(sites.path("eu").join("objects/.staging")).unwrap().collect();
        assert_eq!((rows.len(), uploads.len()), (0, 0), "{rows:?} {uploads:?}");
    }
}

/// An object under the key that is not what the key says: neither a copy nor an upload takes it for theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_another_size_under_the_key_is_damage() {
    let sites = Sites::new(&["us", "eu"]);
    let (us, eu) = (sites.region("us"), sites.region("eu"));
    lag(&sites).await;
    let id = us.repositories().get("app").await.unwrap().id;
    let (_, large) = spool(&us, &noise(1, LARGE));
    eu.objects().put(&keys::lfs_object(id, large.oid), "bad".into()).await.unwrap();
    let error = link(us.clone(), eu.clone()).deliver(id).await.unwrap_err();
    assert!(error.kind() == Kind::Corrupt && error.to_string().contains(&large.oid.to_string()), "{error}");
    let (_, other) = spool(&us, b"other");
    us.objects().put(&keys::lfs_object(id, other.oid), "bad".into()).await.unwrap();
    let error = put(&us, id, b"other").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert_eq!(us.lfs().objects(id, &[other.oid]).await.unwrap(), [None]);
}

/// Requests may name an object twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_named_twice_is_named_once() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let (id, _) = noted(&us, b"late").await;
    let object = put(&us, id, b"late").await.unwrap();
    let states = us.lfs().states(id, &[object.oid, object.oid]).await.unwrap();
    assert!(states.len() == 2 && states.iter().all(|state| state.awaited && state.held == Some(object)));
    us.lfs().name(id, &[object, object], "me").await.unwrap();
    assert_eq!(us.repositories().get("app").await.unwrap().head.frontier.seq, 2);
    assert_eq!(us.lfs().awaited(id).await.unwrap(), []);
}
