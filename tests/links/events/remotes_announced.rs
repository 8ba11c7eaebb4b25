//! What a link brings from a Git server into a region is announced there like any other change.

use std::collections::BTreeSet;

use gitferry_config::Config;
use gitferry_service::events::outbox::read_outbox;
use gitferry_service::open;
use serde_json::Value;

use crate::events::place::{block_on, eventually};
use crate::events::remotes::{NAME, ONLY_BY_EVENTS, ONLY_EVENTS, Servers};
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::queues::{Bus, Queues};
use gitferry_test_support::running::Running;

/// A link from a server into a region whose events go over a bus to `announced`.
struct Announcing {
    servers: Servers,
    /// What the link is told by.
    heard: Queues,
    announced: Queues,
}

impl Announcing {
    async fn new() -> Announcing {
        let (heard, announced) = (Queues::new().await, Queues::new().await);
        let bus = Bus::to(&announced).await;
        let servers = Servers::linked("us", "here", &(ONLY_BY_EVENTS.to_owned() + &heard.toml()));
        let file = servers.world.path("gitferry.toml");
        let events = format!("[regions.here]\nevents = \"eventbridge:{}\"\n{}", bus.name, Emulator::get().aws_toml());
        let text = std::fs::read_to_string(&file).unwrap().replace("[regions.here]\n", &events);
        std::fs::write(&file, text).unwrap();
        Announcing { servers, heard, announced }
    }

    fn worker(&self, environment: &[(&str, &str)]) -> Running {
        Running::start(&self.servers.world, environment, &ONLY_EVENTS)
    }

    /// The next so many announcements: event, ref and new value of each. All are of the one repository, as the region
    /// has it.
    async fn told(&self, count: usize) -> BTreeSet<[String; 3]> {
        let bodies = self.announced.take(count).await;
        let id = self.servers.world.show(NAME, "here")["id"].clone();
        let told = bodies.into_iter().map(|body| {
            let event: Value = serde_json::from_str(&body).unwrap();
            let detail = &event["detail"];
            assert_eq!((event["source"].as_str(), detail["repositoryName"].as_str()), (Some("gitferry"), Some(NAME)));
            assert_eq!(detail["repositoryId"], id);
            ["event", "referenceFullName", "commitId"].map(|name| detail[name].as_str().unwrap_or_default().to_owned())
        });
        told.collect()
    }

    /// What is to be told of a new repository: that there is one, and its refs.
    fn all(&self) -> BTreeSet<[String; 3]> {
        let lines = self.servers.from.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
        let refs = lines.lines().map(|line| line.split_once(' ').unwrap());
        let refs = refs.map(|(name, id)| ["referenceCreated".into(), name.into(), id.into()]);
        refs.chain([["repositoryUpdated".into(), String::new(), String::new()]]).collect()
    }

    async fn outbox(&self) -> usize {
        let config = Config::load(&self.servers.world.path("gitferry.toml")).unwrap();
        let region = open::region(&config, "here").await.unwrap();
        read_outbox(region.table()).await.unwrap().len()
    }
}

#[test]
fn by_the_worker_that_brought_it() {
    block_on(async {
        let place = Announcing::new().await;
        let worker = place.worker(&[]);
        place.heard.send(&place.servers.event()).await;
        assert_eq!(place.told(place.all().len()).await, place.all());
        let new = place.servers.from.commit("main", "file", "two\n");
        // The same twice brings one change, and that is announced once.
        for _ in 0..2 {
            place.heard.send(&place.servers.event()).await;
        }
        let updated = ["referenceUpdated".into(), "refs/heads/main".into(), new];
        assert_eq!(place.told(1).await, BTreeSet::from([updated]));
        eventually("all were heard", async || worker.counter("messages") == 3).await;
        eventually("the outbox is empty", async || place.outbox().await == 0).await;
        assert_eq!(worker.stop().0, Some(0));
        assert_eq!(place.announced.count(&place.announced.url).await, 0);
    });
}

#[test]
fn by_the_next_worker_where_one_died_in_between() {
    block_on(async {
        let place = Announcing::new().await;
        place.heard.send(&place.servers.event()).await;
        // The second commit is the one with the refs.
        let mut worker = place.worker(&[("FAILPOINTS", "commit-after-head=1*off->return")]);
        worker.ended();
        place.servers.world.assert_exports_as(&place.servers.from, NAME, "here");
        assert_eq!(place.announced.count(&place.announced.url).await, 0);
        let worker = place.worker(&[]);
        assert_eq!(place.told(place.all().len()).await, place.all());
        eventually("the outbox is empty", async || place.outbox().await == 0).await;
        assert_eq!(worker.stop().0, Some(0));
    });
}

#[test]
fn by_a_command_before_it_ends() {
    block_on(async {
        let place = Announcing::new().await;
        let mut command = place.servers.world.command(&["replicate", "cc", NAME]);
        let done = command.envs(Emulator::get().environment()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(place.outbox().await, 0);
        assert_eq!(place.told(place.all().len()).await, place.all());
    });
}
