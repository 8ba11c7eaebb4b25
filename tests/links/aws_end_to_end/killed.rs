//! Workers that are killed or told to end while they deliver, several of them on one queue, and hosts that die.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::aws_end_to_end::git::GitRepo;
use crate::aws_end_to_end::place::Place;
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::pair::{EU, US};
use gitferry_test_support::proxy::{Fault, Gate, Proxy};
use gitferry_test_support::waiting::{block_on, eventually};
use gitferry_test_support::world::{LINK, TARGET};

/// A place whose worker reaches AWS through a proxy.
async fn watched() -> (Place, Proxy) {
    let place = Place::new().await;
    let proxy = Proxy::start(Emulator::get().endpoint()).await;
    place.configure(&proxy.endpoint);
    (place, proxy)
}

/// Kills a worker at its n-th request about a change, for each of these; what is under way then may still land.
async fn killed_at(moments: impl IntoIterator<Item = u32>) {
    let (place, proxy) = watched().await;
    place.push();
    for moment in moments {
        let worker = place.worker().await;
        let (gate, reached) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let (held, flag, count) = (gate.clone(), reached.clone(), AtomicU32::new(0));
        proxy.rule(move |request| {
            let counts = request.operation != "ReceiveMessage" && count.fetch_add(1, Ordering::Relaxed) + 1 == moment;
            counts.then(|| {
                flag.store(true, Ordering::Relaxed);
                Fault::Hold(held.clone())
            })
        });
        place.commit(&format!("killed at {moment}"));
        // Late moments may come after all is done.
        eventually("it is in the middle", async || reached.load(Ordering::Relaxed) || place.is_synced().await).await;
        let mut worker = worker;
        worker.signal("KILL");
        worker.ended();
        drop(worker);
        if moment % 2 == 0 {
            gate.open();
        }
        proxy.relent();
        let another = place.worker().await;
        eventually("another one completes it", async || place.is_synced().await).await;
        assert_eq!(another.stop().0, Some(0), "killed at request {moment}");
        place.world.ok(&["verify", LINK]);
    }
    place.assert_replicated();
}

#[test]
fn killed_in_the_middle() {
    block_on(killed_at([3, 8]));
}

#[test]
#[ignore = "takes minutes: every request of a delivery, and some after it"]
fn killed_anywhere() {
    block_on(killed_at(1..=20));
}

/// Holds the first copy of a pack back; whether that has been asked for, and what lets it go.
fn hold_copies(proxy: &Proxy) -> (Arc<AtomicBool>, Gate) {
    let (gate, reached) = (Gate::default(), Arc::new(AtomicBool::new(false)));
    let (held, flag) = (gate.clone(), reached.clone());
    proxy.rule(move |request| {
        request.is_s3("CopyObject").then(|| {
            flag.store(true, Ordering::Relaxed);
            Fault::Hold(held.clone())
        })
    });
    (reached, gate)
}

#[test]
fn told_to_end_it_ends_what_it_has_begun() {
    block_on(async {
        let (place, proxy) = watched().await;
        let worker = place.worker().await;
        let (copying, gate) = hold_copies(&proxy);
        place.push();
        eventually("it is in the middle", async || copying.load(Ordering::Relaxed)).await;
        worker.signal("TERM");
        eventually("it is stopping", async || worker.get("/_ready").0 == 503).await;
        assert!(!place.is_synced().await);
        gate.open();
        let (code, last) = worker.finish();
        assert_eq!((code, &last["counters"]["delivered"]), (Some(0), &1.into()));
        assert!(place.is_synced().await);
        assert_eq!((place.marks().await, place.unannounced(EU).await), (vec![], 0));
        place.assert_replicated();
    });
}

#[test]
fn what_does_not_end_within_the_grace_goes_on_with_the_next_worker() {
    block_on(async {
        let (place, proxy) = watched().await;
        let worker = place.worker_with(&["--grace", "100ms"]).await;
        let (copying, _never) = hold_copies(&proxy);
        place.push();
        eventually("it is in the middle", async || copying.load(Ordering::Relaxed)).await;
        let (code, last) = worker.stop();
        assert_eq!((code, &last["counters"]["delivered"]), (Some(0), &0.into()));
        place.world.ends(2, &["repo", "show", "app", "--region", TARGET]);
        assert_eq!(place.marks().await.len(), 1, "it is still due");
        proxy.relent();
        let another = place.worker().await;
        eventually("it is there", async || place.is_synced().await).await;
        eventually("no mark is left", async || place.marks().await.is_empty()).await;
        assert_eq!(another.stop().0, Some(0));
        place.assert_replicated();
    });
}

#[test]
fn a_host_that_dies_right_after_a_commit_announces_it_when_it_is_back() {
    block_on(async {
        let mut place = Place::new().await;
        let worker = place.worker().await;
        place.push();
        eventually("it is there", async || place.is_synced().await).await;
        place.pair.restart_with(Some("commit-after-head=return"));
        place.repo.commit("main", "file", "committed, and then dead");
        let push = place.repo.try_git(&["push", "-q", "--mirror", &place.pair.url(US, "app")]);
        assert!(!push.status.success(), "it did not die");
        place.pair.ended();
        assert_eq!((place.unannounced(US).await, place.is_synced().await), (1, false));
        place.pair.restart();
        eventually("it is there", async || place.is_synced().await).await;
        eventually("everything was announced", async || place.unannounced(US).await == 0).await;
        assert_eq!((worker.counter("sweeps"), worker.counter("outboxes")), (1, 1));
        assert_eq!(worker.stop().0, Some(0));
        place.assert_replicated();
    });
}

#[test]
fn two_workers_on_one_queue() {
    block_on(async {
        let place = Place::new().await;
        let workers = [place.worker().await, place.worker().await];
        let repos: Vec<(String, GitRepo)> = (0..3)
            .map(|n| (format!("team/{n}"), GitRepo::with_history(place.world.path(&format!("{n}.git")), &[])))
            .collect();
        let push_all = || {
            for (name, repo) in &repos {
                let head = repo.git(&["rev-parse", "main"]);
                repo.commit("main", "file", &head);
                place.push_as(repo, name);
            }
        };
        // Who takes a message is up to the queue: until both have.
        eventually("both have taken messages", async || {
            push_all();
            workers.iter().all(|worker| worker.counter("messages") > 0)
        })
        .await;
        push_all();
        for (name, _) in &repos {
            eventually("it is there", async || place.is_synced_as(name).await).await;
        }
        eventually("nothing is left to do", async || workers.iter().all(|worker| worker.counter("pending") == 0)).await;
        let ends = workers.map(|worker| worker.stop());
        let sum = |name: &str| ends.iter().map(|(_, last)| last["counters"][name].as_u64().unwrap()).sum::<u64>();
        assert_eq!(ends.each_ref().map(|(code, _)| *code), [Some(0); 2]);
        // Each change was applied by one of them; one that both were about to apply is counted by both.
        let changes = repos.iter().map(|(name, _)| place.changes(name)).sum::<u64>();
        assert!((changes..=2 * changes).contains(&sum("changes")), "{} of {changes}", sum("changes"));
        assert_eq!(sum("rejected"), 0);
        place.world.ok(&["verify", LINK, "--deep"]);
        for (name, repo) in &repos {
            place.assert_clones_as(repo, name);
        }
    });
}
