//! Services that refuse, fail and vanish, on the wire.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::aws_end_to_end::place::Place;
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::pair::US;
use gitferry_test_support::proxy::{Fault, Proxy, Request, refusal, s3_refusal};
use gitferry_test_support::waiting::{block_on, eventually};

/// Spoils one request in so many.
const ONE_IN: u64 = 6;

/// A rule that spoils requests at random, the same for the same seed and the same requests; how many it has spoiled.
fn at_random(seed: u64) -> (impl FnMut(&Request) -> Option<Fault> + Send, Arc<AtomicU32>) {
    let spoiled = Arc::new(AtomicU32::new(0));
    let count = spoiled.clone();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let rule = move |request: &Request| {
        if next(ONE_IN) > 0 {
            return None;
        }
        count.fetch_add(1, Ordering::Relaxed);
        let is_s3 = request.service == "s3";
        Some(match (next(4), is_s3) {
            (0, true) => s3_refusal(503, "SlowDown"),
            (0, false) if request.operation.contains("Item") || request.operation == "Query" => {
                refusal(400, "ProvisionedThroughputExceededException")
            }
            (0, false) => refusal(400, "ThrottlingException"),
            (1, true) => s3_refusal(500, "InternalError"),
            (1, false) => refusal(500, "InternalServerError"),
            (2, _) => Fault::Lose,
            _ => Fault::LoseAnswer,
        })
    };
    (rule, spoiled)
}

/// From pushes to clones, with services that do not do what they should, for hosts and worker alike.
async fn converges(seed: u64) {
    let endpoint = Emulator::get().endpoint();
    let (of_hosts, of_worker) = (Proxy::start(endpoint).await, Proxy::start(endpoint).await);
    let place = Place::behind(&of_hosts.endpoint).await;
    place.configure(&of_worker.endpoint);
    let worker = place.worker().await;
    let (rules, spoiled): (Vec<_>, Vec<_>) = [seed, !seed].map(at_random).into_iter().unzip();
    [&of_hosts, &of_worker].into_iter().zip(rules).for_each(|(proxy, rule)| proxy.rule(rule));
    for content in ["one", "two", "three"] {
        place.repo.commit("main", "file", content);
        // People push again when the host says that it could not.
        let url = place.pair.url(US, "app");
        eventually("it is pushed", async || place.repo.try_git(&["push", "-q", "--mirror", &url]).status.success())
            .await;
    }
    let before = place.repo.git(&["rev-parse", "main"]);
    eventually("it is there", async || place.is_synced().await).await;
    eventually("everything was announced", async || place.unannounced(US).await == 0).await;
    of_hosts.relent();
    of_worker.relent();
    let spoiled = spoiled.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
    assert!(spoiled.iter().all(|count| *count > 0), "{spoiled:?} requests were spoiled");
    // Nothing but events has led there.
    assert_eq!((worker.counter("sweeps"), worker.counter("outboxes")), (1, 1));
    assert_eq!(worker.stop().0, Some(0));
    assert_eq!(before, place.repo.git(&["rev-parse", "main"]));
    place.assert_replicated();
}

#[test]
fn the_whole_way_with_refusals_and_lost_answers() {
    block_on(converges(1));
}

#[test]
#[ignore = "takes minutes: many seeds"]
fn the_whole_way_with_many_seeds() {
    for seed in 2..22 {
        block_on(converges(seed));
    }
}

/// How EventBridge answers when it takes only the first `taken` events.
fn some_taken(count: usize, taken: usize) -> Fault {
    let refused = json!({ "ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded" });
    let entries: Vec<Value> = (0..count)
        .map(|at| if at < taken { json!({ "EventId": format!("e{at}") }) } else { refused.clone() })
        .collect();
    Fault::Answer(200, json!({ "FailedEntryCount": count - taken, "Entries": entries }).to_string())
}

#[test]
fn events_that_the_bus_does_not_take_stay_in_the_outbox() {
    block_on(async {
        let proxy = Proxy::start(Emulator::get().endpoint()).await;
        let place = Place::behind(&proxy.endpoint).await;
        let worker = place.worker().await;
        place.push();
        eventually("it is there", async || place.is_synced().await).await;
        eventually("everything was announced", async || place.unannounced(US).await == 0).await;
        let sent: Arc<Mutex<Vec<Vec<Value>>>> = Arc::default();
        let seen = sent.clone();
        proxy.rule(move |request| {
            if request.operation != "PutEvents" {
                return None;
            }
            let body: Value = serde_json::from_str(&request.body).unwrap();
            let entries = body["Entries"].as_array().unwrap().clone();
            let mut seen = seen.lock().unwrap();
            seen.push(entries);
            let (first, count) = (seen.len() == 1, seen.last().unwrap().len());
            Some(some_taken(count, usize::from(first)))
        });
        for branch in ["a", "b", "c"] {
            place.repo.git(&["branch", branch, "main"]);
        }
        place.push();
        // The publisher gives up for now, and begins anew.
        let most = gitferry_base::retry::MAX_ATTEMPTS as usize;
        eventually("it has given up once", async || sent.lock().unwrap().len() > most).await;
        assert_eq!(place.unannounced(US).await, 1);
        assert!(!place.is_synced().await, "nothing can have told of it");
        {
            let sent = sent.lock().unwrap();
            // Within one attempt at it, only what was refused goes again.
            assert_eq!(sent[0].len(), 3);
            assert!(sent[1..most].iter().all(|again| again[..] == sent[0][1..]));
            assert_eq!(sent[most], sent[0], "and all of it when it begins anew");
        }
        proxy.relent();
        eventually("it is there", async || place.is_synced().await).await;
        eventually("everything was announced", async || place.unannounced(US).await == 0).await;
        assert_eq!((worker.counter("sweeps"), worker.counter("outboxes")), (1, 1));
        assert_eq!(worker.stop().0, Some(0));
        place.assert_replicated();
    });
}
