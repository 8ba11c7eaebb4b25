//! Two regions on AWS with a link between them, a queue for it and a bus for the target's events.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gitferry_engine::announce::{Event, Sink};
use gitferry_engine::region::Region;
use gitferry_engine::region::import::ImportOptions;
use gitferry_git::local::RefPatterns;
use gitferry_replication::status::FrontierText;
use gitferry_service::events::outbox::Relay;
use gitferry_service::events::sqs::MAX_MESSAGES;
use serde_json::{Value, json};

use super::support::place::{clear, gitferry};
use gitferry_test_support::aws::{Emulator, fresh};
use gitferry_test_support::aws_region::{AwsRegion, aws_toml};
use gitferry_test_support::samples;

/// The regions and the link.
pub const SOURCE: &str = "us-east-1";
pub const TARGET: &str = "eu-west-1";
pub const LINK: &str = "dr";
/// Imports at a time.
const AT_A_TIME: usize = 8;

/// Is told, and does nothing.
#[derive(Debug)]
struct Nobody;

impl Sink for Nobody {
    fn publish(&self, _: Event) {}
}

/// All of it.
pub struct Site {
    /// Where the configuration is.
    pub dir: PathBuf,
    from: AwsRegion,
    to: AwsRegion,
    /// The source, in this process.
    pub source: Region,
    sqs: aws_sdk_sqs::Client,
    queue: String,
    dead_letters: String,
    bus: String,
}

impl Site {
    /// Empty regions; a folder for the configuration.
    pub async fn new(dir: PathBuf) -> io::Result<Site> {
        clear(&dir)?;
        std::fs::create_dir_all(&dir)?;
        let (emulator, sdk) = (Emulator::get(), Emulator::get().sdk_config().await);
        let (from, to) = (AwsRegion::new(SOURCE).await, AwsRegion::new(TARGET).await);
        let source = from.open(emulator.endpoint(), &dir.join("import")).await;
        let bus = fresh("bus");
        let bridge = aws_sdk_eventbridge::Client::new(&sdk);
        bridge.create_event_bus().name(&bus).send().await.map_err(io::Error::other)?;
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        let (queue, dead_letters) = (emulator.queue().await, emulator.queue().await);
        Ok(Site { dir, from, to, source, sqs, queue, dead_letters, bus })
    }

    /// Writes the configuration: all services are at this endpoint; `announced`: the target's changes are.
    pub fn configure(&self, endpoint: &str, announced: bool) -> io::Result<()> {
        let events = if announced { format!("events = \"eventbridge:{}\"\n", self.bus) } else { String::new() };
        let cache = |name: &str| format!("cache.dir = \"cache-{name}\"\n");
        let link = format!(
            "[links.{LINK}]\nsource = \"{SOURCE}\"\ntarget = \"{TARGET}\"\nqueue = \"{}\"\ndead_letters = \"{}\"\n{}",
            self.queue,
            self.dead_letters,
            aws_toml(endpoint)
        );
        let text = self.from.toml(endpoint, &cache(SOURCE)) + &self.to.toml(endpoint, &(events + &cache(TARGET)));
        std::fs::write(self.dir.join("gitferry.toml"), text + &link)?;
        let made = self.command(&["region", "init"]).status()?;
        if made.success() { Ok(()) } else { Err(io::Error::other("the regions cannot be made")) }
    }

    /// Another queue, to be configured: the last long poll of a worker that is gone may still take messages from
    /// the one before.
    pub async fn renew_queue(&mut self) {
        self.queue = Emulator::get().queue().await;
    }

    /// A gitferry command on it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = gitferry();
        command.current_dir(&self.dir).args(arguments).envs(Emulator::get().environment());
        command
    }

    /// Imports a repository under many names, many at a time.
    pub async fn import(&self, repository: &Path, names: &[String]) -> io::Result<()> {
        import(&self.source, repository, names).await
    }

    /// Events that announce the newest changes of repositories, put into the queue.
    pub async fn announce(&self, names: &[String]) -> io::Result<()> {
        self.empty_outbox().await?;
        let events: Vec<Value> =
            stream::iter(names.iter().cloned().map(|name| self.event(name))).buffered(AT_A_TIME).try_collect().await?;
        self.send(&events).await
    }

    /// What the source's publisher does: the outbox is empty when the events are out.
    pub async fn empty_outbox(&self) -> io::Result<()> {
        Relay::new(self.source.clone(), Arc::new(Nobody)).pass_on().await.map_err(io::Error::other)
    }

    /// The event that announces the newest change of a repository.
    pub async fn event(&self, name: String) -> io::Result<Value> {
        let item = self.source.repositories().get(&name).await.map_err(io::Error::other)?;
        let frontier = FrontierText::from(item.head.frontier);
        Ok(samples::gitferry_at(&json!({ "id": item.id, "name": name, "frontier": frontier })))
    }

    /// Puts events into the queue.
    pub async fn send(&self, events: &[Value]) -> io::Result<()> {
        for events in events.chunks(MAX_MESSAGES as usize) {
            let entry = |(number, event): (usize, &Value)| {
                let entry = SendMessageBatchRequestEntry::builder().id(number.to_string());
                entry.message_body(event.to_string()).build().map_err(io::Error::other)
            };
            let entries = events.iter().enumerate().map(entry).collect::<io::Result<Vec<_>>>()?;
            let request = self.sqs.send_message_batch().queue_url(&self.queue).set_entries(Some(entries));
            request.send().await.map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// Imports a repository into a region under many names, many at a time.
pub async fn import(region: &Region, repository: &Path, names: &[String]) -> io::Result<()> {
    let options = ImportOptions { patterns: RefPatterns::default(), allow_empty: false, actor: "bench".into() };
    let imports: Vec<_> =
        names.iter().map(|name| region.importer().import(repository, name, &options, Default::default())).collect();
    stream::iter(imports).buffer_unordered(AT_A_TIME).map_err(io::Error::other).try_for_each(|_| async { Ok(()) }).await
}
