//! `gitferry worker`: queues, sweeps, health, signals.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gitferry_replication::link::Link;
use gitferry_service::delivery::job::PendingJob;
use gitferry_service::delivery::pending::PendingJobs;
use gitferry_service::worker::{Worker, WorkerOptions};
use gitferry_test_support::objects::DelayedStore;
use tokio::sync::{mpsc, watch};

use crate::events::place::{Place, block_on, eventually, link_toml, wait};
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::queues::{Bus, Queues};
use gitferry_test_support::running::Running;
use gitferry_test_support::samples;
use gitferry_test_support::world::{LINK, SOURCE, TARGET};

fn start(place: &Place, environment: &[(&str, &str)]) -> Running {
    start_with(place, environment, &[])
}

fn start_with(place: &Place, environment: &[(&str, &str)], more: &[&str]) -> Running {
    Running::start(&place.world, environment, more)
}

async fn marks(place: &Place) -> Vec<PendingJob> {
    let target = place.region(TARGET);
    PendingJobs::new(&target, LINK).read(target.clock().now()).await.unwrap()
}

#[test]
fn from_the_queue_to_the_target() {
    block_on(async {
        let queues = Queues::new().await;
        let place = Place::new(&queues.toml());
        let worker = start(&place, &[]);
        eventually("the first commit is there", async || place.is_synced()).await;
        // Sweeps are minutes apart, and the outbox is empty: it is the event that is heard.
        place.commit("two");
        let event = samples::gitferry_at(&place.show());
        for _ in 0..3 {
            queues.send(&event).await;
        }
        queues.send_text("poison").await;
        queues.send(&samples::updated_of("app")).await;
        eventually("the second is there", async || place.is_synced()).await;
        eventually("the queue is empty", async || queues.count(&queues.url).await == 0).await;
        eventually("no mark is left", async || marks(&place).await.is_empty()).await;
        let letters = queues.dead_letters().await;
        assert_eq!((letters.len(), letters[0].0.as_str()), (1, "poison"));
        eventually("it is ready", async || worker.get("/_ready").0 == 200).await;
        assert_eq!((worker.counter("messages"), worker.counter("rejected")), (5, 1));
        let (code, last) = worker.stop();
        assert_eq!((code, &last["stopped"], &last["counters"]["rejected"]), (Some(0), &true.into(), &1.into()));
        place.world.assert_synced(&place.repo, "app");
    });
}

#[test]
fn from_a_commit_through_a_bus_and_a_queue_to_the_target() {
    block_on(async {
        let queues = Queues::new().await;
        let Bus { client, name: bus, .. } = Bus::to(&queues).await;
        let place = Place::new(&queues.toml());
        let aws = Emulator::get().aws_toml();
        let region = |name: &str, more: &str| {
            format!("[regions.{name}]\nobjects = \"file:{name}/objects\"\ntable = \"sqlite:{name}/table.db\"\n{more}")
        };
        let text = region(SOURCE, &format!("events = \"eventbridge:{bus}\"\n{aws}"))
            + &region(TARGET, "")
            + &link_toml(&queues.toml());
        std::fs::write(place.config(), &text).unwrap();
        let worker = start(&place, &[]);
        eventually("the first commit is there", async || place.is_synced()).await;
        place.commit("two");
        let bridge = Arc::new(gitferry_service::events::eventbridge::EventBridge::new(client, bus));
        let publisher = gitferry_service::events::outbox::Publisher::new(place.region(SOURCE), bridge);
        publisher.publish(place.id()).await.unwrap();
        eventually("the second is there", async || place.is_synced()).await;
        eventually("the worker heard of it", async || worker.counter("messages") > 0).await;
        assert_eq!(worker.stop().0, Some(0));
    });
}

#[test]
fn a_poisoned_repository_holds_up_no_other() {
    block_on(async {
        let queues = Queues::new().await;
        let place = Place::new(&queues.toml());
        for pack in place.world.pack_files(SOURCE) {
            std::fs::remove_file(pack).unwrap();
        }
        let good = GitRepo::with_history(place.world.path("good.git"), &[]);
        let worker = start_with(&place, &[], &["--jobs", "1"]);
        queues.send(&samples::gitferry_at(&place.show())).await;
        eventually("it has failed", async || worker.counter("failed") > 0).await;
        place.world.import(&good, "good");
        queues.send(&samples::gitferry_at(&place.world.show("good", SOURCE))).await;
        eventually("the other is there", async || {
            place.world.run(&["repo", "show", "good", "--region", TARGET]).status.success()
        })
        .await;
        // Its mark stays, its message does not come again.
        eventually("the queue is empty", async || queues.count(&queues.url).await == 0).await;
        assert_eq!(marks(&place).await, [PendingJob::Change { id: place.id(), seq: 1 }]);
        assert_eq!(worker.stop().0, Some(0));
    });
}

#[test]
fn killed_between_the_mark_and_the_message() {
    block_on(async {
        let queues = Queues::new().await;
        let place = Place::new(&queues.toml());
        // Only the mark can tell: whatever else finds it is far away.
        place.world.ok(&["replicate", LINK]);
        place.commit("two");
        queues.send(&samples::gitferry_at(&place.show())).await;
        let mut worker = start(&place, &[("FAILPOINTS", "queue-marked=return;applied=return")]);
        worker.ended();
        drop(worker);
        let worker = start(&place, &[]);
        eventually("it is there", async || place.is_synced()).await;
        eventually("no mark is left", async || marks(&place).await.is_empty()).await;
        assert_eq!(worker.stop().0, Some(0));
        place.world.assert_synced(&place.repo, "app");
    });
}

#[test]
fn stopped_in_the_middle_of_a_delivery() {
    let place = Place::new("");
    let (id, near) = (place.id(), place.link());
    block_on(async {
        // The packs do not come within any grace.
        let slow = Arc::new(DelayedStore::new(near.source.shared_objects().clone(), Duration::from_secs(3600)));
        let far = Link { source: near.source.with_objects(slow), ..near.clone() };
        let marks_of = PendingJobs::new(&near.target, LINK);
        marks_of.add(&PendingJob::Change { id, seq: 1 }).await.unwrap();
        let worker = Worker::new(vec![far], WorkerOptions { grace: Duration::from_millis(100), ..Default::default() });
        let status = worker.status();
        let (_events, events) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(worker.run(events, stopped));
        eventually("it is under way", async || status.counters.to_json()["pending"] == 1).await;
        stop.send_replace(true);
        running.await.unwrap();
        assert_eq!((status.counters.delivered.get(), place.is_synced()), (0, false));
        assert_eq!(marks(&place).await, [PendingJob::Change { id, seq: 1 }], "what was cut off is still due");
    });
    let worker = start(&place, &[]);
    wait("it is there", || place.is_synced());
    assert_eq!(worker.stop().0, Some(0));
    place.world.assert_synced(&place.repo, "app");
}

#[test]
fn a_source_that_cannot_be_used_is_not_ready_and_is_alive() {
    // Nobody listens there.
    let nowhere = "queue = \"http://127.0.0.1:9/0/in\"\ndead_letters = \"http://127.0.0.1:9/0/dead\"\n\
                   aws = { region = \"us-east-1\", endpoint_url = \"http://127.0.0.1:9\" }\n";
    let place = Place::new(nowhere);
    let worker = start(&place, &[]);
    wait("it is not ready", || worker.get("/_ready").0 == 503);
    let (_, body) = worker.get("/_ready");
    assert!(body["not_ready"][0]["what"].as_str().unwrap().contains("queue"), "{body}");
    assert_eq!(worker.get("/_health").0, 200);
    // And what needs no queue goes on.
    wait("it is there", || place.is_synced());
    assert_eq!(worker.stop().0, Some(0));
}

#[test]
fn what_no_event_announced_is_found_and_counted() {
    let place = Place::new("");
    block_on(async {
        let options = WorkerOptions {
            outbox_every: None,
            sweep_every: Duration::from_millis(200),
            announced_within: Duration::ZERO,
            ..WorkerOptions::default()
        };
        let worker = Worker::new(vec![place.link()], options);
        let status = worker.status();
        let (_events, events) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(worker.run(events, stopped));
        eventually("it is there", async || place.is_synced()).await;
        eventually("it is counted", async || status.counters.unannounced.get() == 1).await;
        place.commit("two");
        eventually("it is there", async || place.is_synced()).await;
        eventually("it is counted", async || status.counters.unannounced.get() == 2).await;
        stop.send_replace(true);
        running.await.unwrap();
        assert_eq!(status.not_ready().len(), 1, "it is stopping");
    });
}

#[test]
fn what_is_in_the_outbox_needs_no_sweep() {
    let place = Place::new("");
    block_on(async {
        // The first sweep comes at the start; the next one would be too late for this test.
        let options = WorkerOptions {
            outbox_every: Some(Duration::from_millis(100)),
            sweep_every: Duration::from_secs(3600),
            announced_within: Duration::ZERO,
            ..WorkerOptions::default()
        };
        let worker = Worker::new(vec![place.link()], options);
        let status = worker.status();
        let (_events, events) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(worker.run(events, stopped));
        eventually("the first sweep is over", async || status.counters.sweeps.get() == 1 && place.is_synced()).await;
        let before = status.counters.unannounced.get();
        place.commit("two");
        eventually("it is there", async || place.is_synced()).await;
        stop.send_replace(true);
        running.await.unwrap();
        assert_eq!((status.counters.sweeps.get(), status.counters.unannounced.get()), (1, before));
    });
}

#[test]
fn what_crashes_left_in_the_target_goes() {
    let place = Place::new("");
    let folder = place.world.path(TARGET).join("objects/.staging");
    std::fs::create_dir_all(&folder).unwrap();
    let [old, new] = ["old", "new"].map(|name| folder.join(name));
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    for file in [&old, &new] {
        std::fs::write(file, "left").unwrap();
    }
    let times = std::fs::FileTimes::new().set_modified(long_ago);
    std::fs::File::options().write(true).open(&old).unwrap().set_times(times).unwrap();
    let worker = start(&place, &[]);
    wait("it is gone", || !old.exists());
    assert!(new.exists());
    assert_eq!(worker.stop().0, Some(0));
}
