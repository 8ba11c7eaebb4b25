//! From `git push` to `git clone` in the other region, and proof that the event was the cause.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::aws_end_to_end::place::Place;
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::pair::{EU, US};
use gitferry_test_support::proxy::{Proxy, Request};
use gitferry_test_support::waiting::{block_on, eventually};
use gitferry_test_support::world::TARGET;

#[test]
fn from_a_push_to_a_clone_in_the_other_region() {
    block_on(async {
        let place = Place::new().await;
        let worker = place.worker().await;
        place.push();
        eventually("it is there", async || place.is_synced().await).await;
        place.assert_replicated();
        let first = place.first_events() as u64;
        eventually("all events were taken", async || worker.counter("messages") >= first).await;
        // Created, updated, replaced, deleted.
        place.repo.commit("new", "file", "new");
        place.repo.git(&["update-ref", "refs/heads/main", "main~1"]);
        place.repo.git(&["update-ref", "-d", "refs/heads/side"]);
        place.push();
        eventually("it is there, too", async || place.is_synced().await).await;
        place.assert_replicated();
        eventually("all events were taken", async || worker.counter("messages") >= first + 3).await;
        eventually("the queue is empty", async || place.queues().count(&place.queues().url).await == 0).await;
        // Nothing else has looked: no outbox, no sweep, and marks are made by events alone.
        assert_eq!((worker.counter("outboxes"), worker.counter("sweeps"), worker.counter("unannounced")), (1, 1, 0));
        assert_eq!((worker.counter("changes"), worker.counter("rejected")), (place.changes("app"), 0));
        eventually("everything was announced", async || place.unannounced(US).await == 0).await;
        assert_eq!(worker.stop().0, Some(0));
        assert_eq!(place.marks().await, []);
    });
}

/// A → B → C would go on from here: what is delivered is announced on the target's own bus.
#[test]
fn the_target_announces_what_it_got() {
    block_on(async {
        let place = Place::new().await;
        let worker = place.worker().await;
        place.push();
        let announced = place.stores[EU].queues.take(place.first_events()).await;
        let (mut refs, newest) = (Vec::new(), place.show("app")["frontier"]["hash"].clone());
        for event in announced {
            let event: Value = serde_json::from_str(&event).unwrap();
            let detail = &event["detail"];
            assert_eq!((&event["source"], &detail["repositoryName"]), (&"gitferry".into(), &"app".into()));
            assert_eq!(detail["gitferry"]["region"], TARGET);
            if let Some(name) = detail["referenceFullName"].as_str() {
                assert_eq!(detail["gitferry"]["hash"], newest);
                refs.push(format!("{} {name}", detail["commitId"].as_str().unwrap()));
            }
        }
        refs.sort();
        let mut expected: Vec<String> =
            place.repo.git(&["for-each-ref", "--format=%(objectname) %(refname)"]).lines().map(String::from).collect();
        expected.sort();
        assert_eq!(refs, expected);
        assert_eq!(worker.stop().0, Some(0));
    });
}

/// Longer than a host goes on with what a push has left it.
const QUIET: Duration = Duration::from_secs(1);

/// The requests of a push of one commit at a warm host, as `docs/operations.md` has them.
#[test]
fn what_a_push_asks_of_the_stores_of_its_host() {
    block_on(async {
        let proxy = Proxy::start(Emulator::get().endpoint()).await;
        let place = Place::behind(&proxy.endpoint).await;
        place.push();
        let id = place.show("app")["id"].as_str().unwrap().to_owned();
        for (content, warm) in [("two", false), ("three", true), ("four", true)] {
            eventually("all is announced", async || place.unannounced(US).await == 0).await;
            tokio::time::sleep(QUIET).await;
            proxy.requests();
            place.commit(content);
            eventually("all is announced", async || place.unannounced(US).await == 0).await;
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            let of_push = proxy.requests().into_iter().filter(|request| is_of_push(request, &id));
            of_push.for_each(|request| *counts.entry(request.operation).or_default() += 1);
            let expected = [("GetItem", 6), ("Query", 1), ("TransactGetItems", 1), ("TransactWriteItems", 1)];
            let expected = expected.map(|(operation, count)| (operation.to_owned(), count));
            assert!(!warm || counts == BTreeMap::from(expected), "{counts:?}");
        }
    });
}

/// A request about a repository that its publisher does not make: that reads outbox and newest changes, and writes what it
/// has announced.
fn is_of_push(request: &Request, repository: &str) -> bool {
    let Request { service, operation, body, .. } = request;
    let publishes = match operation.as_str() {
        "Query" => body.contains("\"ScanIndexForward\":false"),
        "TransactGetItems" => body.contains("outbox/"),
        _ => body.contains("announced"),
    };
    *service == "dynamodb" && body.contains(repository) && !publishes
}
