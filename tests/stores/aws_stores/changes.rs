//! What replicating costs in requests to the stores of both regions together, counted on the wire: with a worker,
//! its queue and the target's publisher at work, until all is quiet again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gitferry_engine::region::Region;
use gitferry_engine::region::import::ImportOptions;
use gitferry_git::local::RefPatterns;
use gitferry_replication::link::Link;
use gitferry_replication::status::FrontierText;
use gitferry_service::delivery::pending::PendingJobs;
use gitferry_service::events::eventbridge::EventBridge;
use gitferry_service::events::outbox::{Publisher, PublisherCounters};
use gitferry_service::events::sqs::Queue;
use gitferry_service::worker::status::Status;
use gitferry_service::worker::{Worker, WorkerOptions};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use gitferry_test_support::aws::{Emulator, fresh};
use gitferry_test_support::aws_region::AwsRegion;
use gitferry_test_support::faulty::link;
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::proxy::{Proxy, Request};
use gitferry_test_support::samples;
use gitferry_test_support::world::{SOURCE, TARGET};

/// What a change of one commit may cost.
const CHANGE: usize = 12;
/// What an event may cost that tells nothing new.
const DUPLICATE: usize = 3;
/// A long time.
const HOURS: Duration = Duration::from_secs(24 * 3600);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing is asked for so long where all is quiet.
const QUIET: Duration = Duration::from_millis(500);

/// Two regions that are reached through a proxy, and a repository in one of them.
struct Place {
    dir: tempfile::TempDir,
    proxy: Proxy,
    link: Link,
    /// The source, not through the proxy.
    source: Region,
    repo: GitRepo,
}

impl Place {
    async fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let services = Emulator::get().endpoint();
        let proxy = Proxy::start(services).await;
        proxy.tell_checksums();
        let (from, to) = (AwsRegion::new(SOURCE).await, AwsRegion::new(TARGET).await);
        let link = link(from.open(&proxy.endpoint, dir.path()).await, to.open(&proxy.endpoint, dir.path()).await);
        let source = from.open(services, &dir.path().join("near")).await;
        let repo = GitRepo::init(dir.path().join("app.git"), &[]);
        let place = Place { dir, proxy, link, source, repo };
        place.commit("one").await;
        place
    }

    /// One commit in the source.
    async fn commit(&self, content: &str) {
        self.repo.commit("main", "file", content);
        self.import().await;
    }

    async fn import(&self) {
        let options = ImportOptions { patterns: RefPatterns::default(), allow_empty: false, actor: "me".into() };
        self.source.importer().import(&self.repo.path, "app", &options, Default::default()).await.unwrap();
    }

    /// The repository as `gitferry repo show` has it.
    async fn show(&self) -> Value {
        let item = self.source.repositories().get("app").await.unwrap();
        json!({ "id": item.id, "name": "app", "frontier": FrontierText::from(item.head.frontier) })
    }

    /// What was asked of the stores since this was asked the last time, once nothing more is.
    async fn asked(&self) -> Vec<Request> {
        loop {
            let before = self.proxy.count();
            tokio::time::sleep(QUIET).await;
            if self.proxy.count() == before {
                let is_store = |request: &Request| ["dynamodb", "s3"].contains(&request.service);
                return self.proxy.requests().into_iter().filter(is_store).collect();
            }
        }
    }

    /// Requests since the last time, without the checks of the stores' identities: once a minute, a worker reads a small
    /// object and two rows of each region. Nothing else here reads objects.
    async fn cost(&self) -> BTreeMap<String, usize> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        self.asked().await.into_iter().for_each(|request| *counts.entry(request.operation).or_default() += 1);
        if let Some(checks) = counts.remove("GetObject") {
            *counts.get_mut("TransactGetItems").unwrap() -= checks;
            counts.retain(|_, count| *count > 0);
        }
        counts
    }

    async fn assert_equal(&self) {
        gitferry_test_support::faulty::assert_equal(&self.source, &self.link.target).await;
        let to = self.dir.path().join(fresh("export"));
        self.link.target.exporter().export("app", &to).await.unwrap();
        assert_eq!(GitRepo::at(to).reachable(), self.repo.reachable());
    }
}

fn costs(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(operation, count)| ((*operation).to_owned(), *count)).collect()
}

fn total(costs: &BTreeMap<String, usize>) -> usize {
    costs.values().sum()
}

/// A worker that hears of everything from its queue alone, and what announces the target's changes.
struct Crew {
    sqs: aws_sdk_sqs::Client,
    queue: String,
    status: Arc<Status>,
    published: Arc<PublisherCounters>,
    _running: tokio::task::JoinSet<()>,
    _stop: watch::Sender<bool>,
}

impl Crew {
    /// At work, and done with what there is at the start.
    async fn start(place: &Place) -> Crew {
        let (emulator, sdk) = (Emulator::get(), Emulator::get().sdk_config().await);
        let (sqs, bridge) = (aws_sdk_sqs::Client::new(&sdk), aws_sdk_eventbridge::Client::new(&sdk));
        let (queue, dead, bus) = (emulator.queue().await, emulator.queue().await, fresh("bus"));
        bridge.create_event_bus().name(&bus).send().await.unwrap();
        let publisher = Publisher::new(place.link.target.clone(), Arc::new(EventBridge::new(bridge, bus)));
        let (waker, woken) = Publisher::waker(place.link.target.name());
        let options = WorkerOptions { outbox_every: None, sweep_every: HOURS, ..WorkerOptions::default() };
        let worker = Worker::new(vec![place.link.clone()], options)
            .listen(&place.link.name, Queue::new(sqs.clone(), &queue, Some(dead)))
            .announcing(Arc::new(waker));
        let (status, published) = (worker.status(), publisher.counters.clone());
        let (stop, stopped) = watch::channel(false);
        let mut running = tokio::task::JoinSet::new();
        running.spawn(publisher.run(woken, HOURS, stopped.clone()));
        running.spawn(worker.run(mpsc::channel(1).1, stopped));
        let crew = Crew { sqs, queue, status, published, _running: running, _stop: stop };
        eventually("it has looked at all there is", || crew.status.counters.sweeps.get() == 1).await;
        eventually("that is announced", || crew.published.announced.get() > 0).await;
        place.asked().await;
        crew
    }

    async fn tell(&self, event: &Value) {
        let taken = self.status.counters.messages.get();
        self.sqs.send_message().queue_url(&self.queue).message_body(event.to_string()).send().await.unwrap();
        eventually("the message is taken", || self.status.counters.messages.get() > taken).await;
    }

    /// Tells of a change and waits until the target has announced it in its turn.
    async fn tell_of_change(&self, event: &Value) {
        let counts = || (self.status.counters.delivered.get(), self.published.announced.get());
        let before = counts();
        self.tell(event).await;
        eventually("it is delivered and announced", || counts() == (before.0 + 1, before.1 + 1)).await;
    }
}

async fn eventually(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_from_its_event_until_the_target_has_announced_it() {
    let place = Place::new().await;
    let crew = Crew::start(&place).await;
    for content in ["two", "three"] {
        place.commit(content).await;
        crew.tell_of_change(&samples::gitferry_at(&place.show().await)).await;
        let cost = place.cost().await;
        assert!(total(&cost) <= CHANGE, "{cost:?}");
        let expected = costs(&[
            // The target's head, for the event and for the delivery, and the source's manifest.
            ("GetItem", 3),
            // The source's head with the newest change; the publisher's changes.
            ("Query", 2),
            // The due mark.
            ("UpdateItem", 1),
            // The pack and its index.
            ("CopyObject", 2),
            // The commit, with the change, the link's row and the mark; the publisher's.
            ("TransactWriteItems", 2),
            // The target's manifest and claims; the publisher's look at outbox and head.
            ("TransactGetItems", 2),
        ]);
        assert_eq!(cost, expected);
    }
    let marks = PendingJobs::new(&place.link.target, &place.link.name);
    assert_eq!(marks.read(place.source.clock().now()).await.unwrap(), []);
    assert_eq!(crew.status.counters.failed.get(), 0);
    place.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_tells_nothing_new() {
    let place = Place::new().await;
    let crew = Crew::start(&place).await;
    crew.tell(&samples::gitferry_at(&place.show().await)).await;
    let cost = place.cost().await;
    assert!(total(&cost) <= DUPLICATE, "{cost:?}");
    assert_eq!(cost, costs(&[("GetItem", 1)]), "the target's head");
    // CodeCommit's events tell no state: the name, and both heads.
    crew.tell(&samples::updated_of("app")).await;
    let cost = place.cost().await;
    assert!(total(&cost) <= DUPLICATE, "{cost:?}");
    assert_eq!(cost, costs(&[("GetItem", 3)]));
    // And without a queue.
    assert_eq!(place.link.deliver(place.source.repositories().get("app").await.unwrap().id).await.unwrap(), None);
    assert_eq!(place.cost().await, costs(&[("GetItem", 1), ("Query", 1)]), "both heads");
    assert_eq!(crew.status.counters.duplicates.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_over_one_repository() {
    let place = Place::new().await;
    place.link.pass(&[], 1).await.unwrap();
    for content in ["two", "three"] {
        place.commit(content).await;
        place.asked().await;
        let summary = place.link.pass(&["app".into()], 1).await.unwrap();
        assert_eq!((summary.delivered, summary.changes, summary.packs), (1, 1, 1));
        let cost = place.cost().await;
        assert!(total(&cost) <= CHANGE, "{cost:?}");
        // To find it: its name and both heads.
        let expected = costs(&[
            ("GetItem", 5),
            ("TransactGetItems", 1),
            ("Query", 1),
            ("CopyObject", 2),
            ("TransactWriteItems", 1),
        ]);
        assert_eq!(cost, expected);
    }
    place.link.pass(&["app".into()], 1).await.unwrap();
    assert_eq!(place.cost().await, costs(&[("GetItem", 3)]), "nothing has changed");
    place.assert_equal().await;
}

/// As large as packs that go up in parts.
const LARGE: usize = 10 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_pack_passes_the_worker() {
    let place = Place::new().await;
    place.repo.commit_bytes("main", "large", &noise(1, LARGE));
    place.import().await;
    place.asked().await;
    let delivered =
        place.link.deliver(place.source.repositories().get("app").await.unwrap().id).await.unwrap().unwrap();
    assert!(delivered.bytes > LARGE as u64 && delivered.packs == 2, "{delivered:?}");
    let asked: Vec<Request> = place.asked().await.into_iter().filter(|request| request.service == "s3").collect();
    let copies = asked.iter().filter(|request| request.operation == "CopyObject").count();
    assert_eq!(copies, 4, "two packs with their indexes: {asked:?}");
    for request in &asked {
        let carries = ["GetObject", "PutObject", "UploadPart"].contains(&request.operation.as_str());
        assert!(!carries, "{request:?}");
    }
    // What S3 says of the copies.
    let bytes: u64 = asked.iter().map(|request| request.sent + request.received).sum();
    assert!(bytes < 10_000, "{bytes} bytes: {asked:?}");
    place.assert_equal().await;
}
