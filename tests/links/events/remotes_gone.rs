//! Links with a Git server at one end: what becomes of a repository that is gone.

use std::sync::{Arc, Mutex};

use gitferry_base::Kind;
use gitferry_base::clock::Clock;
use gitferry_replication::{AnyLink, Which};
use gitferry_service::events::due::{Asked, deliver_due};
use gitferry_service::events::sqs::take_batch;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::events::place::block_on;
use crate::events::remotes::{NAME, ONLY_BY_EVENTS, Servers};

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
        let AnyLink::Remote(mut remote) = servers.open().await else { panic!("it has no remote") };
        remote.clock = clock.clone();
        let link = AnyLink::Remote(remote.clone());
        servers.from.commit("main", "file", "never carried\n");
        assert_eq!(take_batch(&link, None, &[&servers.event().to_string()]).await.due.len(), 1);
        let fails = async || {
            let asked = Asked { which: Which::Name(NAME.into()), marks: servers.marks().await, look: true };
            deliver_due(&link, &asked).await.err().map(|error| error.kind())
        };
        let is_known = async || remote.names_of(&[]).await.is_ok();
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
        assert_eq!(take_batch(&link, None, &[&event]).await.due.len(), 1);
        assert_eq!((fails().await, servers.marks().await.len()), (Some(Kind::NotFound), 1));
        clock.pass(24);
        assert_eq!((fails().await, servers.marks().await.len()), (None, 0));
        assert!(!is_known().await);
    });
}
