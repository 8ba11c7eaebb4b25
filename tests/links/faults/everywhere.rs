//! One fault of every kind at every single call of an import and of a replication, before and after it took effect, on
//! tables that are fresh and on such that show half of a commit: what is left is the old state or the new one, and a
//! clean run gets there.

use std::sync::Arc;

use gitferry_engine::region::Region;
use gitferry_test_support::faults::{Failure, Faults, Operation, When};

use crate::faults::histories::deliver_all;
use crate::faults::pool::Source;
use gitferry_test_support::faulty::{Sites, assert_equal, assert_prefix, assert_sound, faulty, link, refs_of, states};
use gitferry_test_support::stale::StaleTable;

/// Far more calls than anything here makes.
const MAX_CALLS: u64 = 500;

/// What goes wrong: the process dies there, only that call of that operation fails, or the answer of a transaction is
/// lost and the read behind it fails that was to find out.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Crash(u64, When, Failure),
    Single(Operation, u64, When, Failure),
    Doubt(u64, Operation, Failure),
}

/// A fault, and whether it meets a table that shows half of each commit for a moment.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    fault: Fault,
    stale: bool,
}

impl Plan {
    pub fn arm(self) -> Arc<Faults> {
        let faults = Arc::new(Faults::none());
        match self.fault {
            Fault::Crash(nth, when, failure) => {
                faults.fail_as(failure);
                faults.crash_at(nth, when);
            }
            Fault::Single(operation, nth, when, failure) => {
                faults.fail_as(failure);
                faults.fail_nth(operation, nth, when);
            }
            Fault::Doubt(nth, read, failure) => faults.doubt(nth, read, failure),
        }
        faults
    }

    /// A region as the process sees it that the fault meets.
    pub fn region(self, sites: &Sites, name: &str, faults: &Arc<Faults>) -> Region {
        let mut region = sites.region(name);
        if self.stale {
            region = region.with_table(StaleTable::new(region.shared_table().clone()));
        }
        faulty(region, faults)
    }
}

/// How many of the combinations of kinds are tried at each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breadth {
    /// One, another one at each call.
    One,
    All,
}

impl Breadth {
    /// The kinds of failures at the `nth` call, each with a table that is stale and one that is not.
    fn kinds(self, nth: u64) -> Vec<(Failure, bool)> {
        let all: Vec<_> = [false, true].into_iter().flat_map(|stale| Failure::ALL.map(|kind| (kind, stale))).collect();
        match self {
            Breadth::All => all,
            Breadth::One => vec![all[nth as usize % all.len()]],
        }
    }
}

/// Runs `one` with the fault that `fault` names for each call, until there is no such call; how many there were.
async fn at_each_call<F: Future<Output = bool>>(
    breadth: Breadth,
    one: &mut impl FnMut(Plan) -> F,
    fault: impl Fn(u64, Failure) -> Fault,
) -> u64 {
    for nth in 1..MAX_CALLS {
        let mut met = false;
        for (failure, stale) in breadth.kinds(nth) {
            met |= one(Plan { fault: fault(nth, failure), stale }).await;
        }
        if !met {
            return nth - 1;
        }
    }
    panic!("there are more than {MAX_CALLS} calls");
}

/// Runs `one` with a crash at every call, until it needs no more calls; how many there were.
pub async fn crash_everywhere<F: Future<Output = bool>>(breadth: Breadth, mut one: impl FnMut(Plan) -> F) -> u64 {
    let before = at_each_call(breadth, &mut one, |nth, failure| Fault::Crash(nth, When::Before, failure)).await;
    before + at_each_call(breadth, &mut one, |nth, failure| Fault::Crash(nth, When::After, failure)).await
}

/// Runs `one` with a single failure of every call of every operation, and with every transaction in doubt; how many
/// there were.
pub async fn fail_everywhere<F: Future<Output = bool>>(breadth: Breadth, mut one: impl FnMut(Plan) -> F) -> u64 {
    let mut calls = 0;
    for operation in Operation::ALL {
        // A read that fails afterwards is one that fails.
        let whens: &[When] = if operation.is_write() { &[When::Before, When::After] } else { &[When::Before] };
        for when in whens {
            let fault = |nth, failure| Fault::Single(operation, nth, *when, failure);
            calls += at_each_call(breadth, &mut one, fault).await;
        }
    }
    for read in [Operation::TableGet, Operation::TableQuery] {
        calls += at_each_call(breadth, &mut one, |nth, failure| Fault::Doubt(nth, read, failure)).await;
    }
    calls
}

/// A state before, and a source that brings the next: new packs, refs that move, go and come.
async fn prepare(sites: &Sites, large: usize) -> Source {
    let us = sites.region("us");
    let mut source = Source::with(sites.path("source"), 2, &[("refs/heads/main", 3), ("refs/tags/x", 8)]);
    source.import(&us, "app").await.unwrap();
    source.levels = 4;
    source.set("refs/heads/main", 5);
    source.set("refs/tags/x/y", 7);
    for number in 0..large {
        source.set(&format!("refs/many/{number:05}"), number);
    }
    source.head = "ref: refs/heads/other".into();
    source.write();
    source
}

async fn one_import(template: &Sites, source: &Source, name: &str, plan: Plan) -> bool {
    let sites = template.copy();
    let us = sites.region("us");
    let before = states(&us).await;
    let faults = plan.arm();
    let result = source.import(&plan.region(&sites, "us", &faults), name).await;
    let after = states(&us).await;
    assert_sound(&us).await;
    if result.is_ok() {
        assert_ne!(before, after, "{plan:?}");
    }
    let again = source.import(&us, name).await.unwrap();
    assert_eq!(again.change.is_some(), before == after, "{plan:?}: either it had happened or it had not");
    assert_sound(&us).await;
    let item = us.repositories().get(name).await.unwrap();
    assert_eq!(refs_of(&us, &item).await, source.expected(), "{plan:?}");
    assert_eq!(item.head.frontier.seq, if name == "app" { 2 } else { 1 }, "{plan:?}");
    faults.injected() > 0
}

async fn imports(breadth: Breadth, large: usize) {
    let sites = Sites::new(&["us"]);
    let source = prepare(&sites, large).await;
    for name in ["app", "fresh"] {
        assert!(crash_everywhere(breadth, |plan| one_import(&sites, &source, name, plan)).await >= 10);
        assert!(fail_everywhere(breadth, |plan| one_import(&sites, &source, name, plan)).await >= 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_fails_anywhere_leaves_the_old_state_or_the_new_one() {
    imports(Breadth::One, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: every kind of failure at every call"]
async fn an_import_that_fails_anywhere_in_any_way() {
    imports(Breadth::All, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: a change that is too large for its row"]
async fn an_import_with_a_large_change_that_fails_anywhere() {
    imports(Breadth::One, 5_000).await;
}

/// Brings `eu` to a first state, then changes `us` in many ways.
async fn lag(sites: &Sites, large: usize) {
    let (us, eu) = (sites.region("us"), sites.region("eu"));
    let gone = Source::with(sites.path("gone"), 1, &[("refs/heads/main", 1)]);
    gone.import(&us, "gone").await.unwrap();
    let kept = Source::with(sites.path("kept"), 1, &[("refs/heads/main", 2)]);
    kept.import(&us, "kept").await.unwrap();
    assert!(deliver_all(&link(us.clone(), eu)).await);
    // Its name goes to another; that name was another's.
    us.repositories().delete("gone", "me").await.unwrap();
    us.repositories().rename("kept", "gone", "me").await.unwrap();
    let source = prepare(sites, large).await;
    source.import(&us, "kept").await.unwrap();
    source.import(&us, "app").await.unwrap();
}

pub async fn one_replication(template: &Sites, plan: Plan) -> bool {
    let sites = template.copy();
    let (us, eu) = (sites.region("us"), sites.region("eu"));
    let before = states(&eu).await;
    let faults = plan.arm();
    let well = deliver_all(&link(plan.region(&sites, "us", &faults), plan.region(&sites, "eu", &faults))).await;
    assert_prefix(&us, &eu).await;
    let at_source = states(&us).await;
    let half = states(&eu).await;
    for (id, (frontier, _)) in &half {
        // A whole lag becomes visible at once.
        let old = before.get(id).map(|(frontier, _)| frontier);
        assert!(Some(frontier) == old || *frontier == at_source[id].0, "{plan:?}: a state between");
    }
    // A name that could not be handed over is left to the next pass, and is no failure of this one.
    if well && faults.injected() == 0 {
        assert_equal(&us, &eu).await;
    } else {
        assert_sound(&eu).await;
    }
    assert!(deliver_all(&link(us.clone(), eu.clone())).await, "{plan:?}");
    assert_equal(&us, &eu).await;
    assert_sound(&eu).await;
    // And then there is nothing more to do.
    let done = states(&eu).await;
    assert!(deliver_all(&link(us, eu.clone())).await);
    assert_eq!(states(&eu).await, done);
    faults.injected() > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_that_dies_anywhere_leaves_the_old_state_or_the_new_one() {
    let sites = Sites::new(&["us", "eu"]);
    lag(&sites, 0).await;
    assert!(crash_everywhere(Breadth::One, |plan| one_replication(&sites, plan)).await > 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_whose_calls_fail_once_leaves_the_old_state_or_the_new_one() {
    let sites = Sites::new(&["us", "eu"]);
    lag(&sites, 0).await;
    assert!(fail_everywhere(Breadth::One, |plan| one_replication(&sites, plan)).await > 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: every kind of failure at every call"]
async fn a_replication_that_fails_anywhere_in_any_way() {
    let sites = Sites::new(&["us", "eu"]);
    lag(&sites, 0).await;
    assert!(crash_everywhere(Breadth::All, |plan| one_replication(&sites, plan)).await > 40);
    assert!(fail_everywhere(Breadth::All, |plan| one_replication(&sites, plan)).await > 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: a change that is too large for its row"]
async fn a_replication_of_a_large_change_that_fails_anywhere() {
    let sites = Sites::new(&["us", "eu"]);
    lag(&sites, 5_000).await;
    assert!(crash_everywhere(Breadth::One, |plan| one_replication(&sites, plan)).await > 40);
    assert!(fail_everywhere(Breadth::One, |plan| one_replication(&sites, plan)).await > 40);
}
