//! The one function that writes heads, when answers get lost and when somebody else is faster.

use std::sync::Arc;

use gitferry::Kind;
use gitferry::decorate::{Faults, Operation, When};
use gitferry::ledger::LedgerError;
use gitferry::ledger::advance::{Advance, advance_head};
use gitferry::ledger::head::State;
use gitferry::ledger::keys;
use gitferry::region::RegionError;
use gitferry::region::commit::Subject;
use gitferry::table::Query;

use crate::faulty::{Sites, assert_sound};

const SHA1: gix::hash::Kind = gix::hash::Kind::Sha1;

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_and_said_to_be_done() {
    let sites = Sites::new(&["us"]);
    let faults = Arc::new(Faults::none());
    let us = sites.faulty("us", &faults);
    faults.fail_nth(Operation::TableTransact, 1, When::After);
    let item = us.create("a", SHA1, "me").await.unwrap();
    assert_eq!((item.head.frontier.seq, item.revision), (1, 1));

    faults.fail_nth(Operation::TableTransact, 1, When::After);
    let item = us.rename("a", "b", "me").await.unwrap();
    assert_eq!((item.head.frontier.seq, item.revision, faults.injected()), (2, 2, 2));
    assert_eq!(sites.region("us").get("b").await.unwrap(), item);
    assert_sound(&sites.region("us")).await;
}

#[tokio::test]
async fn a_lost_commit_is_found_below_what_others_built_on_it() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let first = us.create("a", SHA1, "me").await.unwrap();
    // What the loser wrote happened, and two others went on from there before it looked.
    let ours = us.rename("a", "b", "me").await.unwrap();
    us.rename("b", "c", "you").await.unwrap();
    let now = us.rename("c", "d", "you").await.unwrap();
    let again = Advance { id: first.id, before: Some(first), after: ours.head, manifest: None, with: Vec::new() };
    let found = advance_head(&*us.table, again).await.unwrap();
    assert_eq!(found, now);
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_an_error_and_can_be_repeated() {
    let sites = Sites::new(&["us"]);
    let faults = Arc::new(Faults::none());
    let us = sites.faulty("us", &faults);
    us.create("a", SHA1, "me").await.unwrap();
    faults.fail_nth(Operation::TableTransact, 1, When::Before);
    let error = us.rename("a", "b", "me").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Transient);
    assert_eq!(us.get("a").await.unwrap().head.frontier.seq, 1);
    assert_eq!(us.rename("a", "b", "me").await.unwrap().head.frontier.seq, 2);
    assert_sound(&us).await;
}

#[tokio::test]
async fn an_answer_that_stays_unknown_is_an_error_and_the_state_is_whole() {
    // The commit happens, then everything is gone: nobody can tell until the process is back.
    let sites = Sites::new(&["us"]);
    let faults = Arc::new(Faults::none());
    let us = sites.faulty("us", &faults);
    us.create("a", SHA1, "me").await.unwrap();
    // Name, head, then the transaction.
    faults.crash_at(3, When::After);
    assert_eq!(us.rename("a", "b", "me").await.unwrap_err().kind(), Kind::Transient);
    assert!(faults.crashed());
    faults.restart();
    assert!(us.find("a").await.unwrap().is_none());
    assert_eq!(us.get("b").await.unwrap().head.frontier.seq, 2);
    assert_sound(&us).await;
}

#[tokio::test]
async fn whoever_loses_leaves_nothing_behind() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let stale = us.create("a", SHA1, "me").await.unwrap();
    let now = us.rename("a", "b", "you").await.unwrap();
    let rows = |region: gitferry::region::Region| async move {
        let mut rows = region.table.query(&Query::prefix(keys::repository(stale.id), "")).await.unwrap().items;
        rows.extend(region.table.get(&keys::name("b")).await.unwrap());
        rows.extend(region.table.get(&keys::name("c")).await.unwrap());
        rows
    };
    let stale = us.get("b").await.map(|item| gitferry::ledger::head::HeadItem { revision: 1, ..item }).unwrap();
    let before = rows(us.clone()).await;
    let mut proposal = us.proposal(Some(&stale), "me");
    proposal.name = Some("c".into());
    let error = us.commit(&Subject::Existing(Box::new(stale)), proposal).await.unwrap_err();
    assert!(matches!(error, RegionError::Ledger(LedgerError::Lost { .. })), "{error}");
    assert_eq!(rows(us.clone()).await, before);
    assert_eq!(us.get("b").await.unwrap(), now);
}

#[tokio::test]
async fn a_taken_name_is_told_from_a_lost_race() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    us.create("a", SHA1, "me").await.unwrap();
    let other = us.create("b", SHA1, "me").await.unwrap();
    for error in [us.rename("a", "b", "me").await.unwrap_err(), us.create("a", SHA1, "me").await.unwrap_err()] {
        assert!(matches!(error, RegionError::NameTaken { .. }) && error.kind() == Kind::Refused, "{error}");
        assert!(error.to_string().contains("us"), "{error}");
    }
    us.delete("b", "me").await.unwrap();
    let renamed = us.rename("a", "b", "me").await.unwrap();
    assert_eq!(us.get("b").await.unwrap().id, renamed.id);
    // The tombstone stays, reachable by its id, and takes nothing any more.
    let tombstone = us.get(&other.id.to_string()).await.unwrap();
    assert_eq!((tombstone.head.state, tombstone.head.named), (State::Deleted, false));
    let error = us.rename(&other.id.to_string(), "c", "me").await.unwrap_err();
    assert!(matches!(error, RegionError::NotActive { .. }), "{error}");
    assert_sound(&us).await;
}

#[tokio::test]
async fn a_step_that_goes_back_is_refused() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let first = us.create("a", SHA1, "me").await.unwrap();
    let second = us.rename("a", "b", "me").await.unwrap();
    for spoil in [
        |head: &mut gitferry::ledger::head::Head| head.frontier.seq = 1,
        |head: &mut gitferry::ledger::head::Head| head.manifest += 1,
        |head: &mut gitferry::ledger::head::Head| head.frontier.hash.0[0] ^= 1,
    ] {
        let mut after = second.head.clone();
        spoil(&mut after);
        let step = Advance { id: first.id, before: Some(second.clone()), after, manifest: None, with: Vec::new() };
        assert_eq!(advance_head(&*us.table, step).await.unwrap_err().kind(), Kind::Internal);
    }
    assert_eq!(us.get("b").await.unwrap(), second);
}
