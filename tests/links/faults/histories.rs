//! Random histories against a model: pushes, force-pushes, deletions, renames, HEAD moves, repositories
//! that come and go, with crashes anywhere, on a random schedule of replications over A → B → C.

use std::collections::BTreeMap;
use std::sync::Arc;

use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::Region;
use gitferry_replication::link::Link;
use gitferry_test_support::faults::{Faults, When};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::faults::pool::{LEVELS, Source};
use gitferry_test_support::faulty::{Sites, assert_equal, assert_prefix, assert_sound, link, refs_of};

/// Few names, so that they meet; some cannot be there together.
const REFS: [&str; 9] = [
    "refs/heads/main",
    "refs/heads/a",
    "refs/heads/a/b",
    "refs/heads/a/b/c",
    "refs/heads/z",
    "refs/tags/v1",
    "refs/tags/v1/rc",
    "refs/notes/commits",
    "refs/replace/x",
];
const NAMES: [&str; 3] = ["one", "two", "team/three"];
/// A pass that finds nothing more to do comes after fewer than this.
const MAX_PASSES: usize = 4;

/// Where a process dies: at which call, and whether that call still happened.
type Crash = Option<(u64, bool)>;

#[derive(Clone, Debug)]
enum Step {
    /// A state of the source, imported; the repository is made where there is none.
    Push {
        name: usize,
        levels: usize,
        edits: Vec<(usize, Option<usize>)>,
        head: Option<usize>,
        crash: Crash,
    },
    Rename {
        from: usize,
        to: usize,
        crash: Crash,
    },
    Delete {
        name: usize,
        crash: Crash,
    },
    /// Over the first link or the second.
    Replicate {
        first: bool,
        crash: Crash,
    },
}

fn crash() -> impl Strategy<Value = Crash> {
    proptest::option::weighted(0.35, (1..60u64, any::<bool>()))
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    let edits = vec((0..REFS.len(), proptest::option::weighted(0.75, 0..500usize)), 0..6);
    let head = proptest::option::weighted(0.2, 0..REFS.len() + 3);
    prop_oneof![
        5 => (name(), 0..3usize, edits, head, crash())
            .prop_map(|(name, levels, edits, head, crash)| Step::Push { name, levels, edits, head, crash }),
        1 => (name(), name(), crash()).prop_map(|(from, to, crash)| Step::Rename { from, to, crash }),
        1 => (name(), crash()).prop_map(|(name, crash)| Step::Delete { name, crash }),
        3 => (any::<bool>(), crash()).prop_map(|(first, crash)| Step::Replicate { first, crash }),
    ]
}

/// The regions, and what should be in the first of them.
struct History {
    sites: Sites,
    live: BTreeMap<&'static str, (RepositoryId, Source)>,
    sources: usize,
}

impl History {
    fn new() -> History {
        History { sites: Sites::new(&["a", "b", "c"]), live: BTreeMap::new(), sources: 0 }
    }

    fn region(&self, name: &str) -> Region {
        self.sites.region(name)
    }

    /// The regions `names` as a process sees them that will die.
    fn doomed<const N: usize>(&self, names: [&str; N], crash: Crash) -> [Region; N] {
        let faults = Arc::new(Faults::none());
        if let Some((nth, after)) = crash {
            faults.crash_at(nth, if after { When::After } else { When::Before });
        }
        names.map(|name| self.sites.faulty(name, &faults))
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Push { name, levels, edits, head, crash } => {
                self.push(NAMES[*name], *levels, edits, *head, *crash).await;
            }
            Step::Rename { from, to, crash } => self.rename(NAMES[*from], NAMES[*to], *crash).await,
            Step::Delete { name, crash } => self.delete(NAMES[*name], *crash).await,
            Step::Replicate { first, crash } => {
                let [from, to] = if *first { ["a", "b"] } else { ["b", "c"] };
                let [source, target] = self.doomed([from, to], *crash);
                let link = link(source, target);
                let done = deliver_all(&link).await;
                assert!(done || crash.is_some(), "a replication fails by itself");
            }
        }
        assert_prefix(&self.region("a"), &self.region("b")).await;
        assert_prefix(&self.region("b"), &self.region("c")).await;
    }

    async fn push(
        &mut self,
        name: &'static str,
        levels: usize,
        edits: &[(usize, Option<usize>)],
        head: Option<usize>,
        crash: Crash,
    ) {
        let a = self.region("a");
        let before = self.live.get(name).cloned();
        let mut source = match &before {
            Some((_, source)) => source.clone(),
            None => {
                self.sources += 1;
                Source::new(self.sites.path(&format!("source{}", self.sources)))
            }
        };
        let old = source.clone();
        source.levels = (source.levels + levels).min(LEVELS);
        for (number, value) in edits {
            match value {
                Some(value) => source.set(REFS[*number], *value),
                None => drop(source.refs.remove(REFS[*number])),
            }
        }
        match head {
            Some(number) if number < REFS.len() => source.head = format!("ref: {}", REFS[number]),
            // Detached at a commit: the first ones of each pack are.
            Some(number) => source.head = crate::faults::pool::pool().id(source.levels, number % source.levels).into(),
            None => {}
        }
        source.write();
        let [doomed] = self.doomed(["a"], crash);
        let result = source.import(&doomed, name).await;
        if result.is_err() {
            assert!(crash.is_some(), "{result:?}");
            match (a.repositories().find(name).await.unwrap(), &before) {
                (None, before) => assert!(before.is_none()),
                (Some(item), _) => {
                    let found = refs_of(&a, &item).await;
                    assert!(found == source.expected() || (before.is_some() && found == old.expected()));
                }
            }
            source.import(&a, name).await.unwrap();
        }
        let item = a.repositories().get(name).await.unwrap();
        assert!(before.is_none_or(|(id, _)| id == item.id));
        assert_eq!(refs_of(&a, &item).await, source.expected());
        self.live.insert(name, (item.id, source));
    }

    async fn rename(&mut self, from: &'static str, to: &'static str, crash: Crash) {
        if from == to || !self.live.contains_key(from) || self.live.contains_key(to) {
            return;
        }
        let [doomed] = self.doomed(["a"], crash);
        if doomed.repositories().rename(from, to, "renamer").await.is_err() {
            assert!(crash.is_some());
            let a = self.region("a");
            let found = (
                a.repositories().find(from).await.unwrap().is_some(),
                a.repositories().find(to).await.unwrap().is_some(),
            );
            assert_ne!(found.0, found.1, "half a rename");
            if found.0 {
                a.repositories().rename(from, to, "renamer").await.unwrap();
            }
        }
        let repository = self.live.remove(from).unwrap();
        self.live.insert(to, repository);
    }

    async fn delete(&mut self, name: &'static str, crash: Crash) {
        if self.live.remove(name).is_none() {
            return;
        }
        let [doomed] = self.doomed(["a"], crash);
        if doomed.repositories().delete(name, "deleter").await.is_err() {
            assert!(crash.is_some());
            let a = self.region("a");
            if a.repositories().find(name).await.unwrap().is_some() {
                a.repositories().delete(name, "deleter").await.unwrap();
            }
        }
    }

    /// Clean passes until there is nothing to do; then everything is everywhere, and whole.
    async fn settle(&self) {
        for [from, to] in [["a", "b"], ["b", "c"]] {
            let (source, target) = (self.region(from), self.region(to));
            let link = link(source.clone(), target.clone());
            let mut passes = 0;
            loop {
                let summary = link.pass(&[], 2).await.unwrap();
                assert_eq!(summary.failed, 0, "{summary:#?}");
                if summary.delivered == 0 {
                    break;
                }
                passes += 1;
                assert!(passes < MAX_PASSES);
            }
            assert_equal(&source, &target).await;
        }
        for name in ["a", "b", "c"] {
            let region = self.region(name);
            assert_sound(&region).await;
            for name in NAMES {
                let found = region.repositories().find(name).await.unwrap();
                assert_eq!(found.as_ref().map(|item| item.id), self.live.get(name).map(|(id, _)| *id), "{name}");
                if let Some(item) = found {
                    assert_eq!(refs_of(&region, &item).await, self.live[name].1.expected());
                }
            }
        }
    }
}

/// Delivers everything once, as a pass does, but without its retries and their waits.
pub async fn deliver_all(link: &Link) -> bool {
    let Ok(pairs) = link.pairs(&[]).await else { return false };
    let mut well = true;
    for pair in pairs.sound {
        well &= link.deliver(pair.source.id).await.is_ok();
    }
    well
}

fn run(steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut history = History::new();
        for step in steps {
            history.take(step).await;
        }
        history.settle().await;
    });
}

fn config(cases: u32) -> ProptestConfig {
    // Every step costs milliseconds: shrinking is kept short.
    ProptestConfig { cases, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() }
}

/// The same histories every time.
fn check(cases: u32, steps: std::ops::Range<usize>) {
    let rng = proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(config(cases), rng);
    let result = runner.run(&vec(step(), steps), |steps| {
        run(&steps);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn histories_arrive_whatever_happens() {
    check(20, 1..30);
}

#[test]
#[ignore = "takes many minutes: other histories every time, and long ones"]
fn many_histories_arrive_whatever_happens() {
    let mut runner = proptest::test_runner::TestRunner::new(config(500));
    let result = runner.run(&vec(step(), 1..80), |steps| {
        run(&steps);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
