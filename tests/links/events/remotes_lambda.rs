//! The Lambda function on links between two Git servers.

use std::sync::Arc;
use std::time::Duration;

use gitferry_service::delivery::Link as _;
use gitferry_service::events::outbox::Publisher;
use gitferry_service::lambda::handler::Handler;
use gitferry_service::lambda::links::Served;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::events::lambda::Function;
use crate::events::outbox::{self, Told};
use crate::events::place::block_on;
use crate::events::remotes::{NAME, ONLY_BY_EVENTS, Servers, between, event_of};
use gitferry_test_support::queues::Queues;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn batch(bodies: &[&str]) -> Vec<u8> {
    let record = |(at, body): (usize, &&str)| json!({ "messageId": at.to_string(), "body": body });
    json!({ "Records": bodies.iter().enumerate().map(record).collect::<Vec<_>>() }).to_string().into_bytes()
}

async fn handler(servers: &Servers, queues: Option<&Queues>) -> Handler {
    let queue = queues.map(Queues::open);
    Handler::new(vec![Served { link: Arc::new(servers.open().await), queue, publisher: None }], 4)
}

fn failures(ids: &[&str]) -> Value {
    json!({ "batchItemFailures": ids.iter().map(|id| json!({ "itemIdentifier": id })).collect::<Vec<_>>() })
}

#[test]
fn a_batch_of_codecommits_events() {
    let servers = Servers::linked("us", "eu", "repositories = [\"team/app\"]\ntable = \"sqlite:cc.db\"\n");
    block_on(async {
        let handler = handler(&servers, None).await;
        let (event, other) = (servers.event().to_string(), event_of("other", "0").to_string());
        let answer = handler.handle(&batch(&[&event, "poison", &event, &other]), soon()).await.unwrap();
        assert_eq!(answer, failures(&["1"]));
        servers.assert_mirrored();
        assert_eq!(servers.marks().await, []);
        let metrics = handler.take_metrics();
        assert_eq!((metrics[0].link.as_str(), metrics[0].delivered, metrics[0].failed), ("cc", 1, 0));
        servers.requests();
        assert_eq!(handler.handle(&batch(&[&event, &event]), soon()).await.unwrap(), failures(&[]));
        assert_eq!(servers.requests(), 0, "it is known from the table");
        // A single event, and a schedule that finds what none has told of.
        servers.from.commit("main", "file", "two\n");
        let single = servers.event().to_string();
        assert_eq!(handler.handle(single.as_bytes(), soon()).await.unwrap(), json!({ "delivered": 1 }));
        servers.from.commit("main", "file", "three\n");
        let schedule = br#"{ "detail-type": "Scheduled Event", "source": "aws.events" }"#;
        let swept = handler.handle(schedule, soon()).await.unwrap();
        assert_eq!(swept, json!({ "delivered": 1, "left": 0 }));
        servers.assert_mirrored();
        let swept = handler.handle(schedule, soon()).await.unwrap();
        assert_eq!(swept, json!({ "delivered": 0, "left": 0 }));
    });
}

#[test]
fn the_function_itself() {
    let servers = Servers::linked("us", "eu", ONLY_BY_EVENTS);
    block_on(async {
        let mut function = Function::start(&servers.world).await;
        let event = servers.event().to_string();
        let batch: Value = serde_json::from_slice(&batch(&[&event])).unwrap();
        assert_eq!(function.invoke(batch).await, ("response".into(), failures(&[])));
        servers.assert_mirrored();
    });
}

#[test]
fn what_the_deadline_cuts_off_goes_on_with_a_message_of_its_own() {
    block_on(async {
        let queues = Queues::new().await;
        let servers = Servers::linked("us", "eu", &between(&queues, ONLY_BY_EVENTS));
        let handler = handler(&servers, Some(&queues)).await;
        let event = servers.event().to_string();
        let answer = handler.handle(&batch(&[&event]), Instant::now()).await.unwrap();
        assert_eq!(answer, failures(&[]));
        assert_eq!((servers.marks().await.len(), servers.requests()), (1, 0));
        let again = queues.take(1).await;
        assert!(again[0].contains(NAME), "{again:?}");
        assert_eq!(handler.handle(&batch(&[&again[0]]), soon()).await.unwrap(), failures(&[]));
        servers.assert_mirrored();
        assert_eq!(servers.marks().await, [], "the first mark is answered, too");
    });
}

#[test]
fn what_reached_a_region_and_was_not_announced_is_announced_by_the_next_invocation() {
    let servers = Servers::linked("us", "here", ONLY_BY_EVENTS);
    block_on(async {
        let (link, told) = (Arc::new(servers.open().await), Arc::new(Told::default()));
        let target = link.target_region().unwrap().clone();
        let publisher = Some(Publisher::new(target.clone(), told.clone()));
        let handler = Handler::new(vec![Served { link, queue: None, publisher }], 4);
        let event = servers.event().to_string();
        *told.refuses.lock().unwrap() = 1;
        assert_eq!(handler.handle(&batch(&[&event]), soon()).await.unwrap(), failures(&[]));
        let seqs = told.take();
        assert_eq!((seqs.len(), outbox::rows(&target).await), (2, 1), "that it was made, and its refs: {seqs:?}");
        assert_eq!(servers.marks().await.len(), 1, "it is not done");
        let schedule = br#"{ "detail-type": "Scheduled Event", "source": "aws.events" }"#;
        handler.handle(schedule, soon()).await.unwrap();
        assert_eq!((told.take(), outbox::rows(&target).await), (seqs, 0));
        assert_eq!(servers.marks().await, []);
    });
}

#[test]
fn a_server_that_is_not_there_brings_the_message_again() {
    let servers = Servers::linked("us", "eu", "repositories = [\"team/app\"]\n");
    let away = servers.world.path("away");
    std::fs::rename(&servers.to.path, &away).unwrap();
    block_on(async {
        let handler = handler(&servers, None).await;
        let event = servers.event().to_string();
        assert_eq!(handler.handle(&batch(&[&event]), soon()).await.unwrap(), failures(&["0"]));
        assert_eq!(handler.take_metrics()[0].failed, 1);
        std::fs::rename(&away, &servers.to.path).unwrap();
        assert_eq!(handler.handle(&batch(&[&event]), soon()).await.unwrap(), failures(&[]));
        servers.assert_mirrored();
    });
}
