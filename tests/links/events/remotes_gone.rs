//! Links with a Git server at one end: what becomes of a repository that is gone.

use std::sync::{Arc, Mutex};

use gitferry_base::Kind;
use gitferry_base::clock::Clock;
use gitferry_service::delivery::RepositoryKey;
use gitferry_service::delivery::intake::take_batch;
use gitferry_service::delivery::request::DeliveryRequest;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::events::place::block_on;
use crate::events::remotes::{NAME, ONLY_BY_EVENTS, Servers, deliver};

/// A clock that is set by hand.
#[derive(Debug)]
struct ByHand(Mutex<Timestamp>);

impl ByHand {
    fn pass(&self, hours: i64) {
        *self.0.lock().unwrap() += SignedDuration::from_hours(hours);
    }
}

impl Clock for ByHand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn new_id(&self) -> Uuid {
        Uuid::new_v4()
    }
}

#[test]
fn what_is_gone_at_the_source_for_a_day_is_given_up() {
    let servers = Servers::linked("us", "eu", &format!("{ONLY_BY_EVENTS}table = \"sqlite:cc.db\"\n"));
    servers.world.ok(&["replicate", "cc", NAME]);
    block_on(async {
        let clock = Arc::new(ByHand(Mutex::new("2026-01-01T00:00:00Z".parse().unwrap())));
        let link = servers.open().await.with_clock(clock.clone());
        servers.from.commit("main", "file", "never carried\n");
        assert_eq!(take_batch(&link, None, &[&servers.event().to_string()]).await.pending.len(), 1);
        let fails = async || {
            let asked = DeliveryRequest {
                repository: RepositoryKey::Name(NAME.into()),
                jobs: servers.marks().await,
                compare: true,
            };
            deliver(&link, &asked).await.err().map(|error| error.kind())
        };
        let is_known = async || !link.known_names().await.unwrap().is_empty();
        // A target that is not there is another matter.
        let away = servers.world.path("away");
        std::fs::rename(&servers.to.path, &away).unwrap();
        for _ in 0..2 {
            assert_eq!((fails().await, servers.marks().await.len()), (Some(Kind::NotFound), 1));
            clock.pass(25);
        }
        std::fs::rename(&away, &servers.to.path).unwrap();
        std::fs::rename(&servers.from.path, &away).unwrap();
        for hours in [23, 1] {
            assert_eq!((fails().await, servers.marks().await.len()), (Some(Kind::NotFound), 1));
            assert!(is_known().await);
            clock.pass(hours);
        }
        assert_eq!((fails().await, servers.marks().await.len()), (None, 0));
        assert!(!is_known().await && !servers.to.refs().is_empty());
        // What is announced once more, and was never there, goes the same way.
        let event = crate::events::remotes::event_of(NAME, "0123456789012345678901234567890123456789").to_string();
        assert_eq!(take_batch(&link, None, &[&event]).await.pending.len(), 1);
        assert_eq!((fails().await, servers.marks().await.len()), (Some(Kind::NotFound), 1));
        clock.pass(24);
        assert_eq!((fails().await, servers.marks().await.len()), (None, 0));
        assert!(!is_known().await);
    });
}
