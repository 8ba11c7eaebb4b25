//! Events out: from a commit to EventBridge, through a rule to a queue, and what comes out there.

use std::sync::Arc;
use std::time::Duration;

use gitferry_service::events::codecommit::{Announcement, ReferenceEvent, StateChange, parse};
use gitferry_service::events::eventbridge::{EventBridge, MAX_EDITS};
use gitferry_service::events::outbox::{Publisher, read_outbox};
use serde_json::{Value, json};

use crate::events::place::{Place, block_on};
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::queues::{Bus, Queues};
use gitferry_test_support::world::SOURCE;

/// All events that are in the queue.
async fn events(queues: &Queues, count: usize) -> Vec<(Value, StateChange)> {
    let queue = queues.open();
    let mut found = Vec::new();
    while found.len() < count {
        let messages = queue.receive(Duration::from_secs(10)).await.unwrap();
        assert!(!messages.is_empty(), "{count} events, not {}", found.len());
        for message in &messages {
            let Announcement::Change(change) = parse(message.body.as_bytes()).unwrap() else { panic!("{message:?}") };
            found.push((serde_json::from_str(&message.body).unwrap(), change));
        }
        queue.delete(&messages).await.unwrap();
    }
    found
}

#[test]
fn a_change_is_announced_as_codecommit_would() {
    let place = Place::new("");
    let id = place.id();
    block_on(async {
        let queues = Queues::new().await;
        let Bus { client, name: bus, .. } = Bus::to(&queues).await;
        let region = place.region(SOURCE);
        let publisher = Publisher::new(region.clone(), Arc::new(EventBridge::new(client, bus)));
        publisher.publish(id).await.unwrap();
        let refs = place.repo.refs().len();
        let first = events(&queues, refs).await;
        assert!(first.iter().all(|(_, change)| change.events == [ReferenceEvent::Created]));
        let old = place.repo.git(&["rev-parse", "main"]);
        let new = place.repo.commit("main", "file", "two");
        place.repo.git(&["update-ref", "-d", "refs/heads/side"]);
        place.world.import(&place.repo, "app");
        publisher.publish(id).await.unwrap();
        let second = events(&queues, 2).await;
        let of = |event: &str| &second.iter().find(|(raw, _)| raw["detail"]["event"] == event).unwrap().0;
        let updated = of("referenceUpdated");
        assert_eq!(updated["source"], "gitferry");
        let show = place.show();
        let expected = json!({
            "event": "referenceUpdated",
            "repositoryName": "app",
            "repositoryId": id.to_string(),
            "referenceType": "branch",
            "referenceName": "main",
            "referenceFullName": "refs/heads/main",
            "commitId": new,
            "oldCommitId": old,
            "gitferry": {
                "region": SOURCE,
                "epoch": show["frontier"]["epoch"],
                "seq": show["frontier"]["seq"],
                "hash": show["frontier"]["hash"],
            },
        });
        assert_eq!(updated["detail"], expected);
        let deleted = &of("referenceDeleted")["detail"];
        assert_eq!(deleted["referenceName"], "side");
        assert!(deleted.get("commitId").is_none() && deleted["oldCommitId"].is_string());
        assert!(read_outbox(region.table()).await.unwrap().is_empty());
        // A change without refs has an event of its own.
        place.world.ok(&["repo", "rename", "app", "renamed", "--region", SOURCE]);
        publisher.publish(id).await.unwrap();
        let renamed = events(&queues, 1).await;
        assert_eq!(renamed[0].1.events, [ReferenceEvent::Repository]);
        assert_eq!(renamed[0].1.repository, "renamed");
    });
}

#[test]
fn a_large_change_goes_out_in_many_requests_up_to_a_limit() {
    let place = Place::new("");
    let id = place.id();
    let value = place.repo.git(&["rev-parse", "main"]);
    place.repo.pack_many_refs("refs/tags/n", 57, &value);
    place.world.import(&place.repo, "app");
    const { assert!(MAX_EDITS > 57) };
    block_on(async {
        let queues = Queues::new().await;
        let Bus { client, name: bus, .. } = Bus::to(&queues).await;
        Publisher::new(place.region(SOURCE), Arc::new(EventBridge::new(client, bus))).publish(id).await.unwrap();
        let count = place.repo.refs().len();
        let mut names: Vec<String> =
            events(&queues, count).await.into_iter().filter_map(|(_, change)| change.reference).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    });
}

#[test]
fn a_bus_that_is_not_there_leaves_the_outbox_as_it_is() {
    let place = Place::new("");
    let id = place.id();
    block_on(async {
        // Nobody listens there.
        let config = Emulator::get().sdk_config().await.into_builder().endpoint_url("http://127.0.0.1:9").build();
        let config = aws_sdk_eventbridge::config::Builder::from(&config)
            .retry_config(aws_sdk_eventbridge::config::retry::RetryConfig::disabled())
            .build();
        let client = aws_sdk_eventbridge::Client::from_conf(config);
        let region = place.region(SOURCE);
        let publisher = Publisher::new(region.clone(), Arc::new(EventBridge::new(client, "git")));
        let error = publisher.publish(id).await.unwrap_err();
        assert_eq!(error.kind(), gitferry_base::Kind::Transient, "{error}");
        assert!(error.to_string().contains("git") && error.to_string().contains(SOURCE), "{error}");
        assert_eq!(read_outbox(region.table()).await.unwrap().len(), 1);
    });
}
