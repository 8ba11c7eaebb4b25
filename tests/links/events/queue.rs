//! From a queue to the target: pending jobs, dead letters, duplicates, any order.

use std::time::Duration;

use gitferry_base::Kind;
use gitferry_service::delivery::RepositoryKey;
use gitferry_service::delivery::intake::take_batch;
use gitferry_service::delivery::job::PendingJob;
use gitferry_service::delivery::pending::PendingJobs;
use gitferry_service::events::codecommit::Rejection;

use crate::events::place::{Place, block_on};
use gitferry_test_support::queues::Queues;
use gitferry_test_support::samples;
use gitferry_test_support::world::TARGET;

const NO_WAIT: Duration = Duration::ZERO;

async fn marks(place: &Place) -> Vec<PendingJob> {
    let target = place.region(TARGET);
    PendingJobs::new(&target, gitferry_test_support::world::LINK).read(target.clock().now()).await.unwrap()
}

#[test]
fn a_message_goes_when_its_repository_is_due() {
    let place = Place::new("");
    let (event, id) = (samples::gitferry_at(&place.show()), place.id());
    block_on(async {
        let (queues, link) = (Queues::new().await, place.link());
        queues.send(&event).await;
        queues.send(&samples::by_sns(&samples::updated_of("app"))).await;
        let queue = queues.open();
        let messages = queue.receive(NO_WAIT).await.unwrap();
        let bodies: Vec<&str> = messages.iter().map(|message| message.body.as_str()).collect();
        let outcome = take_batch(&link, Some(&queue), &bodies).await;
        assert_eq!(outcome.done.len(), messages.len());
        assert_eq!(
            outcome.pending.iter().map(|(job, _)| job.repository()).collect::<Vec<_>>(),
            vec![RepositoryKey::Id(id); outcome.pending.len()]
        );
        assert_eq!(marks(&place).await, [PendingJob::Change { id, seq: 1 }], "one mark for both");
        queue.delete(&messages).await.unwrap();
        link.deliver(id).await.unwrap().unwrap();
        // The same again is known to be there: one read, no mark.
        PendingJobs::new(&link.target, &link.name).clear(&marks(&place).await).await.unwrap();
        let outcome = take_batch(&link, Some(&queue), &[event.to_string().as_str(); 3]).await;
        assert_eq!((outcome.done.len(), outcome.pending.len(), outcome.duplicates), (3, 0, 3));
        assert_eq!(marks(&place).await, []);
    });
}

#[test]
fn what_cannot_be_acted_on_becomes_a_dead_letter_with_its_reason() {
    let place = Place::new("repositories = [\"app\", \"gone\"]");
    block_on(async {
        let (queues, link) = (Queues::new().await, place.link());
        let queue = queues.open();
        let mut foreign = samples::updated();
        foreign["source"] = "aws.s3".into();
        let unknown_id = samples::gitferry("019a0000-0000-7000-8000-000000000001", "gone");
        let (gone, foreign, unknown_id) =
            (samples::updated_of("gone").to_string(), foreign.to_string(), unknown_id.to_string());
        // What the link does not carry is nobody's mistake, and what changes nothing neither.
        let (other, nothing) = (samples::updated_of("other").to_string(), samples::unreferenced().to_string());
        let bodies = ["not JSON", &foreign, &gone, &unknown_id, &other, &nothing];
        let outcome = take_batch(&link, Some(&queue), &bodies).await;
        assert_eq!((outcome.done.len(), outcome.rejected, outcome.ignored), (6, 4, 2), "{outcome:?}");
        let mut found = Vec::new();
        while found.len() < 4 {
            found.extend(queues.dead_letters().await);
        }
        for (body, words) in
            [("not JSON", "not JSON"), (&foreign, "aws.s3"), (&gone, "no repository gone"), (&unknown_id, "019a0000")]
        {
            let (_, reason, _) = found.iter().find(|(letter, ..)| letter == body).unwrap();
            assert!(reason.as_ref().unwrap().contains(words), "{reason:?}");
        }
        assert_eq!(marks(&place).await, []);
    });
}

#[test]
fn without_a_dead_letter_queue_nothing_is_dropped() {
    let place = Place::new("");
    block_on(async {
        let outcome = take_batch(&place.link(), None, &["not JSON"]).await;
        assert_eq!((outcome.done.len(), outcome.failed.len()), (0, 1));
    });
}

#[test]
fn a_dead_letter_queue_that_is_gone_keeps_the_message() {
    let place = Place::new("");
    block_on(async {
        let queues = Queues::new().await;
        queues.client.delete_queue().queue_url(&queues.dead).send().await.unwrap();
        let queue = queues.open();
        let outcome = take_batch(&place.link(), Some(&queue), &["not JSON"]).await;
        assert_eq!((outcome.done.len(), outcome.failed.len()), (0, 1), "{outcome:?}");
        let error = queue.dead_letter("x", &Rejection::NotJson("x".into())).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Environment, "{error}");
    });
}

#[test]
fn events_in_any_order_and_number_come_to_the_newest_state() {
    let place = Place::new("");
    let mut events = vec![samples::gitferry_at(&place.show())];
    for content in ["two", "three", "four"] {
        place.commit(content);
        events.push(samples::gitferry_at(&place.show()));
    }
    let (newest, id) = (place.show()["frontier"].clone(), place.id());
    block_on(async {
        let link = place.link();
        for order in [[3, 0, 1, 2], [1, 1, 3, 0], [2, 3, 3, 2]] {
            let bodies: Vec<String> = order.iter().map(|at| events[*at].to_string()).collect();
            let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
            let outcome = take_batch(&link, None, &bodies).await;
            assert_eq!(outcome.done.len(), 4);
            // Grouped: one mark at most, for the newest.
            assert!(
                outcome
                    .pending
                    .iter()
                    .all(|(job, places)| *job == PendingJob::Change { id, seq: 4 } && places.len() == 4),
                "{outcome:?}"
            );
            link.deliver(id).await.unwrap();
        }
    });
    assert_eq!(place.world.show("app", TARGET)["frontier"], newest);
}
