//! One task per event, and backups: they replicate, announce in the target what they have brought, and end.

use crate::aws_end_to_end::place::Place;
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::pair::EU;
use gitferry_test_support::proxy::{Proxy, refusal};
use gitferry_test_support::waiting::{block_on, eventually};
use gitferry_test_support::world::{LINK, Run};

#[test]
fn a_task_for_each_event() {
    block_on(async {
        let place = Place::new().await;
        place.push();
        let events = place.queues().take(place.first_events()).await;
        let task = |event: &str| {
            let mut command = place.world.command(&["replicate", LINK, "--json"]);
            command.env("GITFERRY_EVENT", event);
            let run = Run::of(command);
            assert!(run.status.success(), "{}", run.stderr);
            run.json()["delivered"].as_u64().unwrap()
        };
        // The first one dies when all is delivered; the same event starts another.
        let mut dying = place.world.command(&["replicate", LINK]);
        dying.env("GITFERRY_EVENT", &events[0]).env("FAILPOINTS", "applied=return");
        assert!(!Run::of(dying).status.success(), "it did not die");
        assert_eq!(place.unannounced(EU).await, 1);
        assert_eq!(task(&events[0]), 0);
        place.assert_replicated();
        // What the task has committed is announced before it ends: nobody else is there to do it later.
        assert_eq!(place.unannounced(EU).await, 0);
        place.stores[EU].queues.take(place.first_events()).await;
        assert!(events[1..].iter().all(|event| task(event) == 0));
        place.commit("two");
        assert_eq!(task(&place.queues().take(1).await[0]), 1);
        place.stores[EU].queues.take(1).await;
        assert_eq!(place.stores[EU].queues.count(&place.stores[EU].queues.url).await, 0);
        place.assert_replicated();
    });
}

/// What a killed task left behind is announced, too.
#[test]
fn a_backup_announces_what_is_in_the_outbox() {
    block_on(async {
        let place = Place::new().await;
        place.push();
        let mut command = place.world.command(&["replicate", LINK]);
        command.env("FAILPOINTS", "applied=return");
        assert!(!Run::of(command).status.success(), "it did not die");
        assert!(place.is_synced().await);
        assert_eq!(place.unannounced(EU).await, 1);
        place.world.ok(&["backup", LINK, "--max-age", "1h", "--deep"]);
        assert_eq!(place.unannounced(EU).await, 0);
        place.stores[EU].queues.take(place.first_events()).await;
        place.commit("two");
        place.world.ok(&["backup", LINK, "--max-age", "1h"]);
        assert_eq!(place.unannounced(EU).await, 0);
        place.assert_replicated();
    });
}

#[test]
fn a_bus_that_takes_nothing_makes_no_failure_of_a_delivery() {
    block_on(async {
        let place = Place::new().await;
        place.push();
        let proxy = Proxy::start(Emulator::get().endpoint()).await;
        place.configure(&proxy.endpoint);
        proxy.rule(|request| (request.operation == "PutEvents").then(|| refusal(400, "AccessDeniedException")));
        let run = place.world.ends(0, &["replicate", LINK]);
        run.says(&["stay in its outbox"]);
        assert!(place.is_synced().await);
        assert_eq!(place.unannounced(EU).await, 1);
        // The next pass has nothing to deliver, and that to announce.
        proxy.relent();
        place.world.ok(&["replicate", LINK]);
        eventually("it is announced", async || place.unannounced(EU).await == 0).await;
        place.stores[EU].queues.take(place.first_events()).await;
    });
}
