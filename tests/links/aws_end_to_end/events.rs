//! Events that come twice, in the wrong order, not at all, or say nothing.

use serde_json::json;

use crate::aws_end_to_end::place::{ONLY_EVENTS, Place};
use gitferry_test_support::pair::US;
use gitferry_test_support::queues::Queues;
use gitferry_test_support::running::Running;
use gitferry_test_support::waiting::{block_on, eventually};

#[test]
fn twice_and_in_the_wrong_order() {
    block_on(async {
        let place = Place::new().await;
        let aside = Queues::impatient().await;
        place.stores[US].bus.also_to(&aside).await;
        place.stores[US].bus.lose_events().await;
        let worker = place.worker().await;
        place.push();
        ["two", "three"].into_iter().for_each(|content| place.commit(content));
        let events = aside.take(place.first_events() + 2).await;
        assert!(!place.is_synced().await, "nothing can have told of it");
        for event in events.iter().rev().chain(&events) {
            place.queues().send_text(event).await;
        }
        eventually("it is there", async || place.is_synced().await).await;
        let sent = 2 * events.len() as u64;
        eventually("all messages were taken", async || worker.counter("messages") >= sent).await;
        eventually("the queue is empty", async || place.queues().count(&place.queues().url).await == 0).await;
        eventually("nothing is left to do", async || worker.counter("pending") == 0).await;
        // All changes were applied, once each.
        let changes = place.changes("app");
        assert_eq!((worker.counter("changes"), worker.counter("failed"), worker.counter("rejected")), (changes, 0, 0));
        assert_eq!((worker.counter("sweeps"), worker.counter("outboxes")), (1, 1));
        assert_eq!(worker.stop().0, Some(0));
        assert_eq!(place.marks().await, []);
        place.assert_replicated();
    });
}

#[test]
fn a_lost_event_is_found_by_a_sweep_and_counted() {
    block_on(async {
        let place = Place::new().await;
        let worker = place.worker().await;
        place.push();
        eventually("it is there", async || place.is_synced().await).await;
        place.stores[US].bus.lose_events().await;
        place.commit("lost");
        // The bus took the event, and nobody got it: no trace is left but the change itself.
        eventually("it was announced", async || place.unannounced(US).await == 0).await;
        assert!(!place.is_synced().await, "nothing can have told of it");
        assert_eq!(worker.counter("unannounced"), 0);
        assert_eq!(worker.stop().0, Some(0));
        let sweeping = Running::start(&place.world, &[], &[&ONLY_EVENTS[..], &["--announced-within", "0s"]].concat());
        eventually("it is there", async || place.is_synced().await).await;
        eventually("it is counted", async || sweeping.counter("unannounced") == 1).await;
        assert_eq!(sweeping.counter("messages"), 0);
        // What is announced is not counted.
        place.stores[US].bus.pass_events().await;
        place.commit("announced");
        eventually("it is there, too", async || place.is_synced().await).await;
        assert_eq!(sweeping.stop().1["counters"]["unannounced"], 1);
        place.assert_replicated();
    });
}

#[test]
fn what_cannot_be_acted_on_goes_aside_with_its_reason() {
    block_on(async {
        let place = Place::new().await;
        let worker = place.worker().await;
        let id = "019a0000-0000-7000-8000-000000000001";
        let exploded = json!({ "event": "referenceExploded", "repositoryName": "app", "repositoryId": id });
        place.stores[US].bus.put(&exploded).await;
        let unknown = json!({ "event": "referenceUpdated", "repositoryName": "nowhere", "repositoryId": id });
        place.stores[US].bus.put(&unknown).await;
        place.queues().send_text("not JSON at all").await;
        place.push();
        eventually("the others go on", async || place.is_synced().await).await;
        eventually("all three went aside", async || worker.counter("rejected") == 3).await;
        place.commit("two");
        eventually("the others still go on", async || place.is_synced().await).await;
        eventually("the queue is empty", async || place.queues().count(&place.queues().url).await == 0).await;
        let mut letters = Vec::new();
        while letters.len() < 3 {
            letters.extend(place.queues().dead_letters().await);
        }
        for (body, reason) in [("Exploded", "referenceExploded"), ("nowhere", id), ("not JSON at all", "not JSON")] {
            let letter = letters.iter().find(|(letter, ..)| letter.contains(body)).unwrap();
            assert!(letter.1.as_ref().unwrap().contains(reason), "{letter:?}");
        }
        // Each once: none of them came again.
        let (code, last) = worker.stop();
        assert_eq!((code, &last["counters"]["rejected"]), (Some(0), &3.into()));
        assert_eq!(place.queues().count(&place.queues().dead).await, 3);
        place.assert_replicated();
    });
}
