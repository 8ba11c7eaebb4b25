//! The one function that writes heads, when answers get lost and when somebody else is faster.

use std::sync::{Arc, Mutex};

use gitferry_base::Kind;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::advance::{Advance, advance_head};
use gitferry_engine::ledger::head::State;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::RegionError;
use gitferry_engine::region::commit::Subject;
use gitferry_store::table::{Query, TableError};
use gitferry_test_support::faults::{Failure, Faults, Operation, When};

use crate::faults::pool::Source;
use gitferry_test_support::faulty::{Intercepted, Sites, assert_sound, is_commit};

const SHA1: gix::hash::Kind = gix::hash::Kind::Sha1;

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_and_said_to_be_done() {
    let sites = Sites::new(&["us"]);
    let faults = Arc::new(Faults::none());
    let us = sites.faulty("us", &faults);
    faults.fail_nth(Operation::TableTransact, 1, When::After);
    let item = us.repositories().create("a", SHA1, "me").await.unwrap();
    assert_eq!((item.head.frontier.seq, item.revision), (1, 1));

    faults.fail_nth(Operation::TableTransact, 1, When::After);
    let item = us.repositories().rename("a", "b", "me").await.unwrap();
    assert_eq!((item.head.frontier.seq, item.revision, faults.injected()), (2, 2, 2));
    assert_eq!(sites.region("us").repositories().get("b").await.unwrap(), item);
    assert_sound(&sites.region("us")).await;
}

#[tokio::test]
async fn a_lost_commit_is_found_below_what_others_built_on_it() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let first = us.repositories().create("a", SHA1, "me").await.unwrap();
    // What the loser wrote happened, and two others went on from there before it looked.
    let ours = us.repositories().rename("a", "b", "me").await.unwrap();
    us.repositories().rename("b", "c", "you").await.unwrap();
    let now = us.repositories().rename("c", "d", "you").await.unwrap();
    let again = Advance { id: first.id, before: Some(first), after: ours.head, manifest: None, with: Vec::new() };
    let found = advance_head(us.table(), again).await.unwrap();
    assert_eq!(found, now);
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_an_error_and_can_be_repeated() {
    let sites = Sites::new(&["us"]);
    let faults = Arc::new(Faults::none());
    let us = sites.faulty("us", &faults);
    us.repositories().create("a", SHA1, "me").await.unwrap();
    faults.fail_nth(Operation::TableTransact, 1, When::Before);
    let error = us.repositories().rename("a", "b", "me").await.unwrap_err();
    // Nobody can tell that it will not arrive yet.
    assert_eq!(error.kind(), Kind::InDoubt);
    assert!(error.kind().is_retryable() && !error.proves_nothing_happened());
    assert_eq!(us.repositories().get("a").await.unwrap().head.frontier.seq, 1);
    assert_eq!(us.repositories().rename("a", "b", "me").await.unwrap().head.frontier.seq, 2);
    assert_sound(&us).await;
}

#[tokio::test]
async fn an_answer_that_stays_unknown_is_an_error_and_the_state_is_whole() {
    // The commit happens, then everything is gone: nobody can tell until the process is back.
    let sites = Sites::new(&["us"]);
    let faults = Arc::new(Faults::none());
    let us = sites.faulty("us", &faults);
    us.repositories().create("a", SHA1, "me").await.unwrap();
    // Name, head, then the transaction.
    faults.crash_at(3, When::After);
    assert_eq!(us.repositories().rename("a", "b", "me").await.unwrap_err().kind(), Kind::InDoubt);
    assert!(faults.crashed());
    faults.restart();
    assert!(us.repositories().find("a").await.unwrap().is_none());
    assert_eq!(us.repositories().get("b").await.unwrap().head.frontier.seq, 2);
    assert_sound(&us).await;
}

#[tokio::test]
async fn whoever_loses_leaves_nothing_behind() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let stale = us.repositories().create("a", SHA1, "me").await.unwrap();
    let now = us.repositories().rename("a", "b", "you").await.unwrap();
    let rows = |region: gitferry_engine::region::Region| async move {
        let mut rows =
            region.table().query(&Query::prefix(keys::repository(stale.id), "")).await.unwrap().whole().unwrap();
        rows.extend(region.table().get(&keys::name("b")).await.unwrap());
        rows.extend(region.table().get(&keys::name("c")).await.unwrap());
        rows
    };
    let stale = us
        .repositories()
        .get("b")
        .await
        .map(|item| gitferry_engine::ledger::head::HeadItem { revision: 1, ..item })
        .unwrap();
    let before = rows(us.clone()).await;
    let mut proposal = us.committer().proposal("me");
    proposal.name = Some("c".into());
    let error = us.committer().commit(&Subject::Existing(Box::new(stale)), proposal).await.unwrap_err();
    assert!(matches!(error, RegionError::Ledger(LedgerError::Lost { .. })), "{error}");
    assert_eq!(rows(us.clone()).await, before);
    assert_eq!(us.repositories().get("b").await.unwrap(), now);
}

#[tokio::test]
async fn a_taken_name_is_told_from_a_lost_race() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    us.repositories().create("a", SHA1, "me").await.unwrap();
    let other = us.repositories().create("b", SHA1, "me").await.unwrap();
    for error in [
        us.repositories().rename("a", "b", "me").await.unwrap_err(),
        us.repositories().create("a", SHA1, "me").await.unwrap_err(),
    ] {
        assert!(matches!(error, RegionError::NameTaken { .. }) && error.kind() == Kind::Refused, "{error}");
        assert!(error.to_string().contains("us"), "{error}");
    }
    us.repositories().delete("b", "me").await.unwrap();
    let renamed = us.repositories().rename("a", "b", "me").await.unwrap();
    assert_eq!(us.repositories().get("b").await.unwrap().id, renamed.id);
    // The tombstone stays, reachable by its id, and takes nothing any more.
    let tombstone = us.repositories().get(&other.id.to_string()).await.unwrap();
    assert_eq!((tombstone.head.state, tombstone.head.named), (State::Deleted, false));
    let error = us.repositories().rename(&other.id.to_string(), "c", "me").await.unwrap_err();
    assert!(matches!(error, RegionError::NotActive { .. }), "{error}");
    assert_sound(&us).await;
}

#[tokio::test]
async fn a_step_that_goes_back_is_refused() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let first = us.repositories().create("a", SHA1, "me").await.unwrap();
    let second = us.repositories().rename("a", "b", "me").await.unwrap();
    for spoil in [
        |head: &mut gitferry_engine::ledger::head::Head| head.frontier.seq = 1,
        |head: &mut gitferry_engine::ledger::head::Head| head.manifest += 1,
        |head: &mut gitferry_engine::ledger::head::Head| head.frontier.hash.0[0] ^= 1,
    ] {
        let mut after = second.head.clone();
        spoil(&mut after);
        let step = Advance { id: first.id, before: Some(second.clone()), after, manifest: None, with: Vec::new() };
        assert_eq!(advance_head(us.table(), step).await.unwrap_err().kind(), Kind::Internal);
    }
    assert_eq!(us.repositories().get("b").await.unwrap(), second);
}

/// Reads that are to settle a lost answer and fail in every way there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_nobody_can_look_for_keeps_its_packs() {
    let template = Sites::new(&["us"]);
    let source = Source::ahead(&template, "us").await;
    for failure in Failure::ALL {
        let sites = template.copy();
        let faults = Arc::new(Faults::none());
        let us = sites.faulty("us", &faults);
        faults.doubt(1, Operation::TableGet, failure);
        let error = source.import(&us, "app").await.unwrap_err();
        assert_eq!((error.kind(), faults.injected()), (Kind::InDoubt, 2), "{failure:?}: {error}");
        assert!(!error.proves_nothing_happened());
        let us = sites.region("us");
        assert_eq!(us.repositories().get("app").await.unwrap().head.frontier.seq, 2);
        assert_sound(&us).await;
        assert_eq!(source.import(&us, "app").await.unwrap().change, None);
    }
}

#[tokio::test]
async fn a_commit_that_cannot_be_looked_for_below_others_may_have_happened() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let first = us.repositories().create("a", SHA1, "me").await.unwrap();
    let ours = us.repositories().rename("a", "b", "me").await.unwrap();
    us.repositories().rename("b", "c", "you").await.unwrap();
    for failure in Failure::ALL {
        let faults = Arc::new(Faults::none());
        faults.fail_as(failure);
        faults.fail_nth(Operation::TableQuery, 1, When::Before);
        let table = sites.faulty("us", &faults).shared_table().clone();
        let (before, after) = (Some(first.clone()), ours.head.clone());
        let again = Advance { id: first.id, before, after, manifest: None, with: Vec::new() };
        let error = advance_head(&*table, again).await.unwrap_err();
        assert!(matches!(error, LedgerError::MayHaveHappened { .. }), "{failure:?}: {error}");
        assert_eq!((error.kind(), error.proves_nothing_happened()), (Kind::InDoubt, false));
    }
}

/// What stands in for a request that the network delivers late: it takes effect after its caller has given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_arrives_after_its_caller_has_looked_finds_its_packs() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let source = Source::ahead(&sites, "us").await;
    let held = Arc::new(Mutex::new(Vec::new()));
    let (late, table) = (held.clone(), us.table().name().to_owned());
    let slow = us.with_table(Intercepted::new(us.shared_table(), is_commit, move |writes| {
        *late.lock().unwrap() = writes;
        let reason = "the request timed out".into();
        Box::pin(async move { Err(TableError::Unavailable { table, reason, ambiguous: true }) })
    }));
    let error = source.import(&slow, "app").await.unwrap_err();
    assert_eq!(error.kind(), Kind::InDoubt, "{error}");
    let writes = std::mem::take(&mut *held.lock().unwrap());
    us.table().transact(writes).await.unwrap();
    assert_eq!(us.repositories().get("app").await.unwrap().head.frontier.seq, 2);
    assert_sound(&us).await;
}

/// A repository that is deleted or renamed and made again under the name, between two attempts of one commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_never_goes_into_another_repository() {
    for deleted in [true, false] {
        for edit in ["import", "rename", "delete", "head"] {
            let sites = Sites::new(&["us"]);
            let us = sites.region("us");
            let source = Source::ahead(&sites, "us").await;
            let old = us.repositories().get("app").await.unwrap();
            let region = us.clone();
            let overtaken = us.with_table(Intercepted::before(us.shared_table(), is_commit, async move {
                match deleted {
                    true => drop(region.repositories().delete("app", "you").await.unwrap()),
                    false => drop(region.repositories().rename("app", "app-old", "you").await.unwrap()),
                }
                region.repositories().create("app", SHA1, "you").await.unwrap();
            }));
            let error = match edit {
                "import" => source.import(&overtaken, "app").await.map(drop).unwrap_err(),
                "rename" => overtaken.repositories().rename("app", "new", "me").await.map(drop).unwrap_err(),
                "delete" => overtaken.repositories().delete("app", "me").await.map(drop).unwrap_err(),
                _ => {
                    let head = gitferry_git::refs::RefValue::parse(b"ref:refs/heads/x").unwrap();
                    overtaken.repositories().set_head("app", &head, "me").await.map(drop).unwrap_err()
                }
            };
            assert!(matches!(&error, RegionError::Replaced { id, .. } if *id == old.id), "{edit}: {error}");
            assert!(error.proves_nothing_happened() && !error.kind().is_retryable());
            let new = us.repositories().get("app").await.unwrap();
            assert_ne!(new.id, old.id);
            assert_eq!((new.head.frontier.seq, new.head.refs, new.head.manifest), (1, 0, 0), "{edit}");
            assert!(us.repositories().find("new").await.unwrap().is_none());
            assert_sound(&us).await;
            // Nothing of the import is left under either id.
            let packs = us
                .reader()
                .manifest(&us.repositories().get(&old.id.to_string()).await.unwrap())
                .await
                .unwrap()
                .0
                .packs
                .len();
            let there = us.objects().list("repositories/", None, 1_000).await.unwrap().objects;
            let there = there.iter().filter(|object| object.key.ends_with(".pack")).count();
            assert_eq!(there, packs, "{edit}");
        }
    }
}

#[tokio::test]
async fn a_commit_takes_no_pack_of_another_repository() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let source = Source::with(sites.path("source"), 2, &[("refs/heads/main", 3)]);
    source.import(&us, "app").await.unwrap();
    let packs = us.reader().manifest(&us.repositories().get("app").await.unwrap()).await.unwrap().0.packs;
    let other = us.repositories().create("other", SHA1, "me").await.unwrap();
    let mut proposal = us.committer().proposal("me");
    proposal.packs = packs;
    let error = us.committer().commit(&Subject::Existing(Box::new(other.clone())), proposal).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Internal, "{error}");
    assert_eq!(us.repositories().get("other").await.unwrap(), other);
}
