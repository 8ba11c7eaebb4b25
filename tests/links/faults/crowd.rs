//! A crowd at work on one pair of regions: pushers, importers, workers, sweepers and consolidation at the same time,
//! each a process of its own with a clock that is wrong and stores that fail, while repositories change their names,
//! go, and are made anew. The ledger and real Git judge what is there at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gitferry_base::Kind;
use gitferry_base::clock::{Clock, SystemClock};
use gitferry_engine::ledger::head::{HeadItem, RepositoryId, State};
use gitferry_engine::region::push::{FreshStates, PushPolicy, PushState, PushStates, Serving};
use gitferry_engine::region::{Region, RegionError};
use gitferry_git::protocol::{PacketReader, PacketWriter};
use gitferry_git::receive_pack::PushRequest;
use gitferry_test_support::faults::Faults;
use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::faults::pool::{COMMITS, LEVELS, Source, pool};
use gitferry_test_support::faulty::{Sites, assert_equal, assert_prefix, assert_sound, faulty, link, refs_of};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::stale::StaleTable;

const NAMES: [&str; 3] = ["one", "two", "team/three"];
/// Branches of a repository that pushers fight for.
const BRANCHES: u64 = 6;
/// One call to a store in so many fails.
const ONE_IN: u64 = 80;
/// Passes without faults until nothing is left to do.
const MAX_PASSES: usize = 6;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.roll(NAMES.len() as u64) as usize]
    }

    fn branch(&mut self) -> String {
        format!("refs/heads/b{}", self.roll(BRANCHES))
    }
}

/// The machine's clock, wrong by a fixed time.
#[derive(Debug)]
struct WrongClock {
    offset: SignedDuration,
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().checked_add(self.offset).unwrap()
    }

    fn new_id(&self) -> Uuid {
        let now = self.now();
        let seconds = now.as_second().try_into().unwrap();
        Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, now.subsec_nanosecond().try_into().unwrap()))
    }
}

/// One try to change a repository, as its client saw it.
#[derive(Debug)]
struct Attempt {
    /// The actor of the change; no other attempt has it.
    actor: String,
    /// The repository that the client spoke with.
    id: RepositoryId,
    outcome: Outcome,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    /// Accepted, with these refs.
    Done(BTreeMap<String, Option<String>>),
    /// Not done.
    Refused,
    /// The client cannot know.
    Unknown,
}

/// What all actors share.
struct Crowd {
    sites: Sites,
    seed: u64,
    attempts: Mutex<Vec<Attempt>>,
    /// Pushers and editors that still work; the others stop with the last of them.
    working: AtomicU64,
    steps: AtomicU64,
}

impl Crowd {
    /// A region as one process sees it.
    fn region(&self, name: &str, process: u64, clock_days: i64) -> Region {
        let faults = Arc::new(Faults::random(self.seed.wrapping_mul(1_000).wrapping_add(process), ONE_IN));
        let mut region = self.sites.region(name);
        if process.is_multiple_of(2) {
            // What this process has committed, it sees by halves at first.
            region = region.with_table(StaleTable::new(region.shared_table().clone()));
        }
        let clock = Arc::new(WrongClock { offset: SignedDuration::from_hours(24 * clock_days) });
        faulty(region, &faults).with_clock(clock)
    }

    fn dice(&self, process: u64) -> Dice {
        Dice(self.seed.wrapping_mul(0x1000_0001).wrapping_add(process))
    }

    fn note(&self, attempt: Attempt) {
        self.attempts.lock().unwrap().push(attempt);
    }

    fn is_at_work(&self) -> bool {
        self.working.load(Ordering::SeqCst) > 0
    }

    /// Pushes as a host takes them, bound to the repository that had the name when the client came.
    fn push_often(&self, pusher: u64, steps: u64, runtime: &Handle) {
        let region = self.region("us", pusher, i64::try_from(pusher % 3).unwrap() * 3 - 3);
        let mut dice = self.dice(pusher);
        for step in 0..steps {
            self.steps.fetch_add(1, Ordering::Relaxed);
            let Ok(Some(item)) = runtime.block_on(region.repositories().find(dice.name())) else { continue };
            let states = FreshStates { region: region.clone(), id: item.id, hidden: None, mirror: false };
            // What the client is shown, from which it decides what to send.
            let Ok(seen) = runtime.block_on(states.state()) else { continue };
            let (commands, pack) = what_to_push(&seen, &mut dice);
            let request = request(&commands);
            let actor = format!("pusher-{pusher}-{step}");
            let policy = PushPolicy::default();
            let serving = Serving { region: &region, runtime, policy: &policy, actor: &actor, request: &request };
            let result = serving.push(&states, &mut &pack[..], &Default::default());
            let outcome = match result {
                Ok(pushed) if pushed.report.unpack.is_err() => Outcome::Refused,
                Ok(pushed) => {
                    let done: BTreeSet<String> =
                        pushed.report.refs.iter().filter(|r| r.result.is_ok()).map(|r| r.name.to_string()).collect();
                    let edits = commands.into_iter().filter(|(name, old, new)| done.contains(name) && old != new);
                    let edits: BTreeMap<_, _> = edits.map(|(name, _, new)| (name, new)).collect();
                    if pushed.item.is_none() { Outcome::Refused } else { Outcome::Done(edits) }
                }
                Err(error) => outcome_of(&error),
            };
            self.note(Attempt { actor, id: item.id, outcome });
        }
        self.working.fetch_sub(1, Ordering::SeqCst);
    }

    /// Imports by name; the repository may be another one each time, and is made where there is none.
    async fn import_often(&self, importer: u64, steps: u64) {
        let region = self.region("us", importer, 2);
        let mut dice = self.dice(importer);
        for step in 0..steps {
            self.steps.fetch_add(1, Ordering::Relaxed);
            let path = self.sites.path(&format!("source-{importer}-{step}"));
            let branch = format!("refs/heads/import-{importer}");
            let levels = 1 + dice.roll(LEVELS as u64) as usize;
            // A commit: Git wants nothing else in a branch.
            let number = dice.roll(levels as u64) as usize + levels * dice.roll(COMMITS as u64) as usize;
            let source = Source::with(path.clone(), levels, &[(&branch, number)]);
            let actor = format!("importer-{importer}-{step}");
            let imported = source.import_as(&region, dice.name(), &[&branch], &actor).await;
            if let Ok(imported) = imported
                && imported.change.is_some()
            {
                let edits = BTreeMap::from([(branch.clone(), Some(source.refs[&branch].clone()))]);
                self.note(Attempt { actor, id: imported.id.parse().unwrap(), outcome: Outcome::Done(edits) });
            }
            std::fs::remove_dir_all(path).unwrap();
        }
        self.working.fetch_sub(1, Ordering::SeqCst);
    }

    /// Renames, swaps, deletes and makes repositories.
    async fn edit_often(&self, editor: u64, steps: u64) {
        let region = self.region("us", editor, -2);
        let mut dice = self.dice(editor);
        for step in 0..steps {
            self.steps.fetch_add(1, Ordering::Relaxed);
            let (name, other, actor) = (dice.name(), dice.name(), format!("editor-{editor}-{step}"));
            // Any of these may fail: the name is not there, or taken, or a store fails. The judges look at what came of it.
            match dice.roll(12) {
                0 => drop(region.repositories().delete(name, &actor).await),
                1 => {
                    // Gone and back in one breath.
                    let _ = region.repositories().delete(name, &actor).await;
                    let _ = region.repositories().create(name, gix::hash::Kind::Sha1, &format!("{actor}-again")).await;
                }
                2..4 => {
                    // Two names change places.
                    let _ = region.repositories().rename(name, "between", &actor).await;
                    let _ = region.repositories().rename(other, name, &actor).await;
                    let _ = region.repositories().rename("between", other, &actor).await;
                }
                4..7 => drop(region.repositories().create(name, gix::hash::Kind::Sha1, &actor).await),
                _ => drop(region.repositories().rename(name, other, &actor).await),
            }
            tokio::time::sleep(Duration::from_millis(dice.roll(20))).await;
        }
        self.working.fetch_sub(1, Ordering::SeqCst);
    }

    /// Passes over the link, which fail and go on.
    async fn replicate_often(&self, worker: u64) {
        while self.is_at_work() {
            let link = link(self.region("us", worker, 1), self.region("eu", worker + 100, -1));
            let _ = crate::faults::histories::deliver_all(&link).await;
        }
    }

    /// Removes what is of no use any more, by a clock that is a month ahead.
    async fn sweep_often(&self, sweeper: u64, name: &str) {
        let region = self.region(name, sweeper, 30);
        while self.is_at_work() {
            let _ = region.sweeper().sweep().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn consolidate_often(&self, process: u64, name: &str) {
        let region = self.region(name, process, 0);
        while self.is_at_work() {
            for item in region.repositories().heads().await.map(|heads| heads.items).unwrap_or_default() {
                let item = region.snapshots().maintain(item).await;
                let _ = region.consolidator().consolidate(item.id).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Clean passes until both sides are the same.
    async fn settle(&self) {
        let (us, eu) = (self.sites.region("us"), self.sites.region("eu"));
        assert_prefix(&us, &eu).await;
        for _ in 0..MAX_PASSES {
            let summary = link(us.clone(), eu.clone()).pass(&[], 2).await.unwrap();
            assert_eq!(summary.failed, 0, "{summary:#?}");
            if summary.delivered == 0 {
                break;
            }
        }
        assert_equal(&us, &eu).await;
        assert_sound(&us).await;
        assert_sound(&eu).await;
    }

    /// Each answer that a client got agrees with the ledger of the repository that it spoke with.
    async fn judge_answers(&self) {
        let us = self.sites.region("us");
        let mut changes: BTreeMap<RepositoryId, BTreeMap<String, BTreeMap<String, Option<String>>>> = BTreeMap::new();
        let mut everywhere: BTreeMap<String, RepositoryId> = BTreeMap::new();
        for item in us.repositories().heads().await.unwrap().items {
            let found = changes_of(&us, &item).await;
            for actor in found.keys().filter(|actor| actor.starts_with("pusher-")) {
                let before = everywhere.insert(actor.clone(), item.id);
                assert_eq!(before, None, "{actor} is in two ledgers");
            }
            changes.insert(item.id, found);
        }
        let attempts = std::mem::take(&mut *self.attempts.lock().unwrap());
        let (mut done, mut unknown) = (0, 0);
        for Attempt { actor, id, outcome } in &attempts {
            let Some(ledger) = changes.get(id) else { panic!("the ledger of {id} is gone") };
            match outcome {
                Outcome::Done(edits) => {
                    done += 1;
                    let found = ledger.get(actor).unwrap_or_else(|| panic!("{actor} was accepted, and is not in {id}"));
                    // An import also changes HEAD alone, where the branch is as it should be already.
                    let is_known = found == edits || (actor.starts_with("importer-") && found.is_empty());
                    assert!(is_known, "{actor} was accepted by {id}: {found:?}, not {edits:?}");
                }
                Outcome::Refused => assert!(!everywhere.contains_key(actor), "{actor} was refused, and is in a ledger"),
                Outcome::Unknown => {
                    unknown += 1;
                    let of = everywhere.get(actor);
                    assert!(of.is_none_or(|of| of == id), "{actor} spoke with {id} and is in the ledger of {of:?}");
                }
            }
        }
        assert!(done > 0 && done > unknown, "{done} of {} attempts were accepted, {unknown} unknown", attempts.len());
        let steps = self.steps.load(Ordering::Relaxed);
        println!("seed {}: {steps} steps, {} attempts, {done} done, {unknown} unknown", self.seed, attempts.len());
    }

    /// Git takes what each region exports, with the refs that the ledger has.
    async fn judge_by_git(&self) {
        for name in ["us", "eu"] {
            let region = self.sites.region(name);
            let live = region
                .repositories()
                .heads()
                .await
                .unwrap()
                .items
                .into_iter()
                .filter(|item| item.head.state == State::Active);
            for item in live {
                let to = self.sites.path(&format!("export-{name}-{}", item.id));
                region.exporter().export(&item.id.to_string(), &to).await.unwrap();
                let export = GitRepo::at(&to);
                export.git(&["fsck", "--strict", "--no-dangling"]);
                let mut refs = refs_of(&region, &item).await;
                refs.remove("HEAD");
                let listed = export.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
                let listed: BTreeMap<String, String> = listed
                    .lines()
                    .map(|line| line.split_once(' ').unwrap())
                    .map(|(n, v)| (n.into(), v.into()))
                    .collect();
                assert_eq!(listed, refs, "{} in {name}", item.head.name);
                std::fs::remove_dir_all(to).unwrap();
            }
        }
    }
}

/// A ref, what it is, and what it is to be.
type Command = (String, Option<String>, Option<String>);

/// The next pack of the pool with its tag and a branch into it, or a move or deletion of a branch.
fn what_to_push(seen: &PushState, dice: &mut Dice) -> (Vec<Command>, Vec<u8>) {
    let value = |name: &str| {
        let entry = seen.refs.find(name.into())?;
        entry.id.map(|id| id.to_string())
    };
    let levels = (0..LEVELS).take_while(|level| value(&format!("refs/tags/t{level}")).is_some()).count();
    let branch = dice.branch();
    let old = value(&branch);
    if levels < LEVELS && (levels == 0 || dice.roll(3) == 0) {
        let tag = (format!("refs/tags/t{levels}"), None, Some(pool().tag(levels).to_owned()));
        let new = pool().commit(levels, dice.roll(100) as usize).to_owned();
        return (vec![tag, (branch, old, Some(new))], pool().pack(levels));
    }
    if old.is_some() && dice.roll(5) == 0 {
        return (vec![(branch, old, None)], Vec::new());
    }
    let level = dice.roll(levels as u64) as usize;
    let new = pool().commit(level, dice.roll(100) as usize).to_owned();
    (vec![(branch, old, Some(new))], pool().pack(level))
}

fn request(commands: &[Command]) -> PushRequest {
    let null = "0".repeat(40);
    let mut bytes = Vec::new();
    let mut writer = PacketWriter::new(&mut bytes);
    for (number, (name, old, new)) in commands.iter().enumerate() {
        let [old, new] = [old, new].map(|id| id.as_deref().unwrap_or(&null));
        let capabilities = if number == 0 { "\0report-status atomic object-format=sha1" } else { "" };
        writer.data(format!("{old} {new} {name}{capabilities}").as_bytes()).unwrap();
    }
    writer.flush_packet().unwrap();
    PushRequest::read(&mut PacketReader::new(&bytes[..]), gix::hash::Kind::Sha1).unwrap().unwrap()
}

/// An error that leaves no doubt says that nothing happened.
fn outcome_of(error: &RegionError) -> Outcome {
    match error.kind() {
        Kind::Transient | Kind::InDoubt => Outcome::Unknown,
        Kind::Internal => panic!("{error}"),
        _ => Outcome::Refused,
    }
}

/// The edits of each change in a repository's ledger, by actor.
async fn changes_of(region: &Region, item: &HeadItem) -> BTreeMap<String, BTreeMap<String, Option<String>>> {
    let rows = region.reader().changes_above(item, 0).await.unwrap();
    let (log, id) = (region.log(), item.id);
    let read = move || {
        let mut changes = BTreeMap::new();
        for row in &rows {
            let mut edits = BTreeMap::new();
            let header = log
                .read(id, row, |_, edit| {
                    edits.insert(edit.name.to_string(), edit.new.map(|value| value.to_string()));
                })
                .unwrap();
            let before = changes.insert(header.actor.clone(), edits);
            assert!(before.is_none() || !header.actor.starts_with("pusher-"), "{} is there twice", header.actor);
        }
        changes
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// Every actor takes `steps`; pushers are `pushers`.
fn run(seed: u64, pushers: u64, steps: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let sites = Sites::new(&["us", "eu"]);
        for name in NAMES {
            sites.region("us").repositories().create(name, gix::hash::Kind::Sha1, "creator").await.unwrap();
        }
        let crowd = Arc::new(Crowd {
            sites,
            seed,
            attempts: Mutex::default(),
            working: AtomicU64::new(pushers + 2),
            steps: AtomicU64::new(0),
        });
        let mut tasks = tokio::task::JoinSet::new();
        for pusher in 0..pushers {
            let (crowd, runtime) = (crowd.clone(), Handle::current());
            tasks.spawn_blocking(move || crowd.push_often(pusher, steps, &runtime));
        }
        let works: [futures::future::BoxFuture<'static, ()>; 8] = {
            let of = || crowd.clone();
            let (a, b, c, d, e, f, g, h) = (of(), of(), of(), of(), of(), of(), of(), of());
            [
                Box::pin(async move { a.import_often(20, steps).await }),
                Box::pin(async move { b.edit_often(21, steps / 3 + 1).await }),
                Box::pin(async move { c.replicate_often(30).await }),
                Box::pin(async move { d.replicate_often(31).await }),
                Box::pin(async move { e.sweep_often(40, "us").await }),
                Box::pin(async move { f.sweep_often(41, "eu").await }),
                Box::pin(async move { g.consolidate_often(50, "us").await }),
                Box::pin(async move { h.consolidate_often(51, "eu").await }),
            ]
        };
        for work in works {
            tasks.spawn(work);
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        crowd.settle().await;
        crowd.judge_answers().await;
        crowd.judge_by_git().await;
    });
}

#[test]
fn a_crowd_at_work_loses_nothing() {
    run(1, 6, 60);
}

#[test]
#[ignore = "takes many minutes: more than a thousand steps from each of a dozen seeds"]
fn many_crowds_at_work_lose_nothing() {
    for seed in 100..112 {
        run(seed, 8, 150);
    }
}
