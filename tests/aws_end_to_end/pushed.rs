//! From `git push` to `git clone` in the other region, and proof that the event was the cause.

use serde_json::Value;

use crate::pair::{EU, US};
use crate::place::Place;
use crate::support::TARGET;
use crate::waiting::{block_on, eventually};

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
