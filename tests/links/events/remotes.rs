//! Links with a Git server at one end: CodeCommit's events, gitferry's own, and `gitferry worker`.

use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use gitferry_config::Config;
use gitferry_replication::ReplicationError;
use gitferry_replication::mirror::RemoteLink;
use gitferry_service::delivery::intake::take_batch;
use gitferry_service::delivery::job::PendingJob;
use gitferry_service::delivery::pending::PendingJobs;
use gitferry_service::delivery::request::{Delivery, DeliveryRequest};
use gitferry_service::delivery::run::{Announce, Retries, run};
use gitferry_service::delivery::{Link, RepositoryKey};
use gitferry_service::open;
use serde_json::Value;

use crate::events::place::{block_on, eventually, wait};
use gitferry_test_support::backend::Backend;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::queues::Queues;
use gitferry_test_support::running::{Ends, Running};
use gitferry_test_support::samples;
use gitferry_test_support::world::World;

pub const NAME: &str = "team/app";
/// Events can tell of it; no sweep can.
pub const ONLY_BY_EVENTS: &str = "repositories = [\"team/*\"]\n";
/// What keeps a worker from finding anything by itself, but for what it looks at once when it starts.
pub const ONLY_EVENTS: [&str; 4] = ["--outbox-every", "1h", "--sweep-every", "1h"];

/// Two Git servers `us` and `eu`, and a region `here`.
pub struct Servers {
    pub world: World,
    pub source: Backend,
    pub target: Backend,
    pub from: GitRepo,
    pub to: GitRepo,
}

impl Servers {
    /// With a link `cc` from one to the other, and more lines for it.
    pub fn linked(source: &str, target: &str, more: &str) -> Servers {
        let world = World::with(&[], "");
        let from = GitRepo::with_history(world.path("us/team/app.git"), &[]);
        let to = GitRepo::init(world.path("eu/team/app.git"), &[]);
        let (at_us, at_eu) = (Backend::serve(&world.path("us")), Backend::serve(&world.path("eu")));
        let servers = Servers { world, source: at_us, target: at_eu, from, to };
        servers.link(source, target, more);
        servers
    }

    pub fn link(&self, source: &str, target: &str, more: &str) {
        let remote = |name: &str, backend: &Backend| {
            format!("[remotes.{name}]\nurl = \"http://{}/{{name}}.git\"\n", backend.address)
        };
        let remotes = remote("us", &self.source) + &remote("eu", &self.target);
        let link = format!("[links.cc]\nsource = \"{source}\"\ntarget = \"{target}\"\n{more}");
        self.world.configure(&["here"], &(remotes + &link));
    }

    /// What both servers were asked since they were asked last.
    pub fn requests(&self) -> usize {
        self.source.requests().len() + self.target.requests().len()
    }

    /// What an event would say of the branch `main` as it is now.
    pub fn event(&self) -> Value {
        event_of(NAME, &self.from.git(&["rev-parse", "main"]))
    }

    /// Whether the target has the branch as the source has it.
    pub fn has_main(&self) -> bool {
        let wanted = self.from.git(&["rev-parse", "main"]);
        let found = self.to.try_git(&["rev-parse", "-q", "--verify", "main"]);
        String::from_utf8_lossy(&found.stdout).trim() == wanted.trim()
    }

    pub fn assert_mirrored(&self) {
        assert_eq!(self.to.refs(), self.from.refs());
        assert_eq!(self.to.reachable(), self.from.reachable());
        assert_eq!(self.to.fsck().0, Some(0));
    }

    /// A worker that has looked around.
    async fn worker(&self, environment: &[(&str, &str)]) -> Running {
        let worker = Running::start(&self.world, environment, &ONLY_EVENTS);
        eventually("it has looked around", async || worker.counter("sweeps") == 1 && worker.counter("pending") == 0)
            .await;
        worker
    }

    pub async fn open(&self) -> RemoteLink {
        let config = Config::load(&self.world.path("gitferry.toml")).unwrap();
        open::remote_link(&config, "cc").await.unwrap()
    }

    pub async fn marks(&self) -> Vec<PendingJob> {
        let link = self.open().await;
        PendingJobs::of(&link).read(link.clock().now()).await.unwrap()
    }
}

/// Delivers a repository in one attempt.
pub async fn deliver(link: &dyn Link, request: &DeliveryRequest) -> Result<Option<Delivery>, ReplicationError> {
    run(link, request, Announce::Off, Retries::Off).await
}

/// CodeCommit says that the branch `main` of a repository has moved.
pub fn event_of(name: &str, commit: &str) -> Value {
    let mut event = samples::updated_of(name);
    event["detail"]["referenceName"] = "main".into();
    event["detail"]["referenceFullName"] = "refs/heads/main".into();
    event["detail"]["commitId"] = commit.trim().into();
    event
}

/// A link between two servers: a queue, and a table for what is due.
pub fn between(queues: &Queues, repositories: &str) -> String {
    format!("{repositories}table = \"sqlite:cc.db\"\n{}", queues.toml())
}

#[test]
fn an_event_of_codecommit_brings_the_commit_to_another_server() {
    block_on(async {
        let queues = Queues::new().await;
        let servers = Servers::linked("us", "eu", &between(&queues, "repositories = [\"team/app\", \"team/*\"]\n"));
        let worker = servers.worker(&[]).await;
        servers.assert_mirrored();
        assert_eq!((worker.counter("delivered"), worker.counter("messages")), (1, 0), "the sweep has found it");
        servers.from.commit("main", "file", "two\n");
        assert!(!servers.has_main());
        queues.send(&servers.event()).await;
        eventually("the commit is there", async || servers.has_main()).await;
        eventually("nothing is due", async || servers.marks().await.is_empty()).await;
        servers.assert_mirrored();
        assert_eq!((worker.counter("sweeps"), worker.counter("delivered")), (1, 2), "the event was the cause");
        // The same again is known from the table, and so is what the link does not carry: nobody is asked.
        servers.requests();
        for _ in 0..3 {
            queues.send(&servers.event()).await;
        }
        let mut pull = servers.event();
        pull["detail"]["referenceFullName"] = "refs/pull/1/head".into();
        queues.send(&pull).await;
        queues.send(&event_of("other", "0123456789012345678901234567890123456789")).await;
        queues.send(&event_of("team/../app", "0123456789012345678901234567890123456789")).await;
        queues.send_text("poison").await;
        eventually("all were heard", async || worker.counter("messages") == 8).await;
        eventually("the queue is empty", async || queues.count(&queues.url).await == 0).await;
        let counted = ["duplicates", "ignored", "rejected", "pending"].map(|name| worker.counter(name));
        assert_eq!((counted, servers.requests()), ([4, 2, 1, 0], 0));
        let letters = queues.dead_letters().await;
        assert_eq!((letters.len(), letters[0].0.as_str()), (1, "poison"));
        assert!(letters[0].1.as_ref().unwrap().contains("not JSON"), "{letters:?}");
        let (ready, metrics) = (worker.get("/_ready"), worker.get_text("/_metrics").1);
        assert_eq!(ready.0, 200, "{ready:?}");
        assert!(metrics.contains("gitferry_delivered_total{link=\"cc\"} 2\n"), "{metrics}");
        assert_eq!(worker.stop().0, Some(0));
    });
}

#[test]
fn a_mark_survives_the_worker_that_made_it() {
    block_on(async {
        let queues = Queues::new().await;
        let servers = Servers::linked("us", "eu", &between(&queues, ONLY_BY_EVENTS));
        queues.send(&servers.event()).await;
        let mut worker = Running::start(&servers.world, &[("FAILPOINTS", "queue-marked=return")], &ONLY_EVENTS);
        worker.ended();
        assert!(!servers.has_main());
        assert_eq!(servers.marks().await.len(), 1);
        // Its message will not come again to this one.
        let others = Queues::new().await;
        servers.link("us", "eu", &between(&others, ONLY_BY_EVENTS));
        let worker = Running::start(&servers.world, &[], &ONLY_EVENTS);
        eventually("the commit is there", async || servers.has_main()).await;
        eventually("nothing is due", async || servers.marks().await.is_empty()).await;
        servers.assert_mirrored();
        assert_eq!((worker.counter("messages"), worker.counter("delivered")), (0, 1));
        assert_eq!(worker.stop().0, Some(0));
    });
}

/// A transfer is under way, for what came in between.
#[test]
fn what_a_checkpoint_knows_is_due_all_the_same_while_something_else_is() {
    let servers = Servers::linked("us", "eu", &format!("{ONLY_BY_EVENTS}table = \"sqlite:cc.db\"\n"));
    servers.world.ok(&["replicate", "cc", NAME]);
    let first = servers.event().to_string();
    let back = servers.from.git(&["rev-parse", "main"]);
    servers.from.commit("main", "file", "in between\n");
    let second = servers.event().to_string();
    block_on(async {
        let link = servers.open().await;
        let outcome = take_batch(&link, None, &[&first, &first]).await;
        assert_eq!((outcome.pending.len(), outcome.duplicates), (0, 2), "the target has it");
        let outcome = take_batch(&link, None, &[&second, &second]).await;
        assert_eq!((outcome.pending.len(), outcome.duplicates), (1, 1));
        servers.from.git(&["update-ref", "refs/heads/main", back.trim()]);
        let outcome = take_batch(&link, None, &[&first]).await;
        assert_eq!(
            (outcome.pending.len(), outcome.duplicates),
            (1, 0),
            "what is under way may bring the one in between"
        );
        assert_eq!(servers.marks().await.len(), 2);
        // One delivery answers both; asked again for the same, there is nothing to do.
        let asked = |jobs| DeliveryRequest { repository: RepositoryKey::Name(NAME.into()), jobs, compare: false };
        let marks = servers.marks().await;
        assert_eq!(deliver(&link, &asked(marks[..1].to_vec())).await.unwrap(), None, "the target has it already");
        assert_eq!(servers.marks().await, []);
        servers.requests();
        assert_eq!(deliver(&link, &asked(marks)).await.unwrap(), None);
        assert_eq!(servers.requests(), 0);
        servers.assert_mirrored();
    });
}

#[test]
fn a_server_that_is_not_there_keeps_its_mark_and_is_told_of() {
    block_on(async {
        let queues = Queues::new().await;
        let servers = Servers::linked("us", "eu", &between(&queues, ONLY_BY_EVENTS));
        let away = servers.world.path("away");
        std::fs::rename(&servers.to.path, &away).unwrap();
        let worker = servers.worker(&[]).await;
        queues.send(&servers.event()).await;
        eventually("it has failed", async || worker.counter("failed") > 0).await;
        eventually("the queue is empty", async || queues.count(&queues.url).await == 0).await;
        assert_eq!((servers.marks().await.len(), worker.counter("pending")), (1, 1));
        let metrics = || worker.get_text("/_metrics").1;
        eventually("alarms can see it", async || metrics().contains("gitferry_pending{link=\"cc\"} 1\n")).await;
        std::fs::rename(&away, &servers.to.path).unwrap();
        eventually("the commit is there", async || servers.has_main()).await;
        eventually("nothing is due", async || servers.marks().await.is_empty()).await;
        assert_eq!(worker.stop().0, Some(0));
    });
}

#[test]
fn an_event_of_codecommit_brings_the_commit_into_a_region() {
    block_on(async {
        let queues = Queues::new().await;
        let servers = Servers::linked("us", "here", &(ONLY_BY_EVENTS.to_owned() + &queues.toml()));
        let worker = servers.worker(&[]).await;
        servers.world.ends(2, &["repo", "show", NAME, "--region", "here"]);
        queues.send(&servers.event()).await;
        eventually("it is there", async || worker.counter("delivered") == 1).await;
        servers.world.assert_exports_as(&servers.from, NAME, "here");
        servers.from.commit("main", "file", "two\n");
        servers.requests();
        for _ in 0..2 {
            queues.send(&servers.event()).await;
        }
        eventually("the second is there", async || worker.counter("delivered") == 2).await;
        eventually("nothing is due", async || servers.marks().await.is_empty()).await;
        servers.world.assert_exports_as(&servers.from, NAME, "here");
        servers.requests();
        queues.send(&servers.event()).await;
        eventually("all were heard", async || worker.counter("messages") == 4).await;
        eventually("the queue is empty", async || queues.count(&queues.url).await == 0).await;
        assert_eq!((servers.requests(), worker.counter("sweeps")), (0, 1));
        assert_eq!(worker.stop().0, Some(0));
    });
}

#[test]
fn an_event_of_gitferry_brings_the_commit_to_a_server() {
    block_on(async {
        let queues = Queues::new().await;
        let servers = Servers::linked("here", "eu", &queues.toml());
        servers.world.ok(&["import", servers.from.path.to_str().unwrap(), NAME, "--region", "here"]);
        let worker = servers.worker(&[]).await;
        eventually("the first is there", async || servers.has_main()).await;
        servers.from.commit("main", "file", "two\n");
        servers.world.ok(&["import", servers.from.path.to_str().unwrap(), NAME, "--region", "here"]);
        let event = samples::gitferry_at(&servers.world.show(NAME, "here"));
        queues.send(&event).await;
        eventually("the second is there", async || servers.has_main()).await;
        eventually("nothing is due", async || servers.marks().await.is_empty()).await;
        servers.assert_mirrored();
        assert_eq!((worker.counter("sweeps"), worker.counter("outboxes")), (1, 1), "the event was the cause");
        servers.requests();
        let heard = worker.counter("messages");
        for _ in 0..3 {
            queues.send(&event).await;
        }
        queues.send(&samples::gitferry("019a0000-0000-7000-8000-000000000001", "gone")).await;
        eventually("all were heard", async || worker.counter("messages") == heard + 4).await;
        eventually("the queue is empty", async || queues.count(&queues.url).await == 0).await;
        assert_eq!((servers.requests(), worker.counter("duplicates"), worker.counter("rejected")), (0, 3, 1));
        assert_eq!(worker.stop().0, Some(0));
    });
}

#[test]
fn a_commit_in_a_region_is_found_in_its_outbox() {
    block_on(async {
        let servers = Servers::linked("here", "eu", "repositories = [\"team/app\"]\n");
        let import =
            |name: &str| servers.world.ok(&["import", servers.from.path.to_str().unwrap(), name, "--region", "here"]);
        import(NAME);
        let worker = Running::start(&servers.world, &[], &["--outbox-every", "200ms", "--sweep-every", "1h"]);
        eventually("the first is there", async || servers.has_main()).await;
        servers.from.commit("main", "file", "two\n");
        import(NAME);
        import("other");
        eventually("the second is there", async || servers.has_main()).await;
        servers.assert_mirrored();
        assert_eq!(
            (worker.counter("sweeps"), worker.counter("failed")),
            (1, 0),
            "what it does not carry is left alone"
        );
        // What stays in the outbox is known to have been carried, also by the next worker.
        let read = worker.counter("outboxes");
        eventually("it is at rest", async || worker.counter("pending") == 0).await;
        servers.requests();
        eventually("it was read again", async || worker.counter("outboxes") > read + 1).await;
        assert_eq!(servers.requests(), 0);
        assert_eq!(worker.stop().0, Some(0));
    });
}

#[test]
fn what_is_pushed_to_a_host_of_up_reaches_a_server() {
    let servers = Servers::linked("here", "eu", "");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = servers.world.path("gitferry.toml");
    let host = format!("[hosts.here]\nlisten = \"{address}\"\ncreate_on_push = true\nauth = \"none\"\n");
    let text = std::fs::read_to_string(&config).unwrap() + &host;
    std::fs::write(&config, text).unwrap();
    let mut command = servers.world.command(&["--config", "gitferry.toml", "up"]);
    let _up = Ends(command.stdout(Stdio::null()).spawn().unwrap());
    wait("it listens", || TcpStream::connect(address).is_ok());
    let push = || servers.from.git(&["push", "-q", "--mirror", &format!("http://{address}/{NAME}")]);
    push();
    wait("the first is there", || servers.has_main());
    servers.from.commit("main", "file", "two\n");
    push();
    wait("the second is there", || servers.has_main());
    servers.assert_mirrored();
}
