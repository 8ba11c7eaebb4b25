//! What is asked of the services for a change of one commit, for an event that tells nothing new, and for nothing.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde_json::Value;

use super::section::Section;
use super::site::{LINK, Site};
use super::support::place::{Place, commit, synthetic};
use super::worker::Worker;
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::proxy::{Proxy, Request};
use gitferry_test_support::samples;

/// What a change of one commit may cost in requests to the stores of both regions.
const CHANGE: usize = 12;
/// What an event may cost that tells nothing new.
const DUPLICATE: usize = 3;
/// Nothing is asked for so long where all is quiet, but for what a worker asks for by itself.
const QUIET: Duration = Duration::from_secs(1);
/// How long an idle worker is watched.
const IDLE: Duration = Duration::from_secs(30);
const NAME: &str = "team/app";

/// How often each operation of each service was asked for.
pub type Counts = BTreeMap<(&'static str, String), usize>;

/// Whether a worker asks for this by itself, from time to time, whether something changed or not.
fn is_round(request: &Request) -> bool {
    let about = |partition: &str| request.body.contains(&format!("\"S\":\"{partition}"));
    request.operation == "Query"
        && ["outbox/", "due/", "verified/", "repositories/"].iter().any(|partition| about(partition))
        || request.operation == "ReceiveMessage"
}

/// Counts requests.
pub fn counts<'a>(requests: impl IntoIterator<Item = &'a Request>) -> Counts {
    let mut counts = Counts::new();
    for request in requests {
        *counts.entry((request.service, request.operation.clone())).or_default() += 1;
    }
    counts
}

/// Requests to the stores.
pub fn to_stores(counts: &Counts) -> usize {
    counts.iter().filter(|((service, _), _)| ["dynamodb", "s3"].contains(service)).map(|(_, count)| count).sum()
}

/// A worker that is told of one thing at a time.
struct Watched<'a> {
    site: &'a Site,
    proxy: &'a Proxy,
    worker: Worker,
    announced: bool,
}

impl Watched<'_> {
    /// What it asked for on account of what it was told, until all is quiet.
    async fn asked(&self, announcements: usize) -> Counts {
        let (mut all, mut quiet) = (Counts::new(), false);
        let events = ("events", "PutEvents".to_owned());
        while !quiet || all.get(&events).copied().unwrap_or(0) < announcements {
            tokio::time::sleep(QUIET).await;
            let more: Vec<Request> = self.proxy.requests().into_iter().filter(|request| !is_round(request)).collect();
            quiet = more.is_empty();
            counts(&more).into_iter().for_each(|(key, count)| *all.entry(key).or_default() += count);
        }
        all
    }

    /// What an event costs; `changes`: how many it is to bring.
    async fn cost(&mut self, event: Value, changes: u64) -> io::Result<Counts> {
        let before = self.worker.until(|_| true)?;
        self.site.send(&[event]).await?;
        self.worker.until(|now| {
            let more = |name: &str, count: u64| now[name].as_u64() >= before[name].as_u64().map(|n| n + count);
            more("messages", 1) && more("delivered", changes) && now["pending"] == 0
        })?;
        Ok(self.asked(if self.announced { changes as usize } else { 0 }).await)
    }
}

/// Measures all of it with a real worker.
pub async fn measure(place: &Place) -> io::Result<Section> {
    let proxy = Proxy::start(Emulator::get().endpoint()).await;
    proxy.tell_checksums();
    let (mut site, repo) = (Site::new(place.path("requests")).await?, place.path("requests.git"));
    synthetic(&repo, 10)?;
    let names = [NAME.to_owned()];
    site.import(&repo, &names).await?;
    let mut columns: Vec<(&str, Counts)> = Vec::new();
    for (announced, title, by_name) in
        [(false, "change", "…, CodeCommit event"), (true, "change, announced by target", "…, CodeCommit event")]
    {
        site.renew_queue().await;
        site.configure(&proxy.endpoint, announced)?;
        let mut worker = Worker::start(site.command(&["worker", LINK]), &site.dir.join("log"))?;
        worker.until(|counters| counters["sweeps"] == 1 && counters["pending"] == 0)?;
        let mut watched = Watched { site: &site, proxy: &proxy, worker, announced };
        watched.asked(0).await;
        for (title, named) in [(title, false), (by_name, true)] {
            commit(&repo, "refs/heads/main", title)?;
            site.import(&repo, &names).await?;
            site.empty_outbox().await?;
            let event = if named { samples::updated_of(NAME) } else { site.event(NAME.into()).await? };
            columns.push((title, watched.cost(event, 1).await?));
        }
        if !announced {
            let event = site.event(NAME.into()).await?;
            columns.push(("duplicate event", watched.cost(event, 0).await?));
            columns.push(("…, CodeCommit event", watched.cost(samples::updated_of(NAME), 0).await?));
            proxy.requests();
            tokio::time::sleep(IDLE).await;
            let a_minute = (60 / IDLE.as_secs()) as usize;
            let rounds = counts(&proxy.requests()).into_iter().map(|(key, count)| (key, count * a_minute));
            columns.push(("idle worker, a minute", rounds.collect()));
        }
    }
    Ok(section(&columns))
}

fn section(columns: &[(&str, Counts)]) -> Section {
    let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let mut section = Section::new("requests by service and operation, one repository, both regions together", &titles);
    let mut keys: Vec<_> = columns.iter().flat_map(|(_, counts)| counts.keys().cloned()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let figure = |(_, counts): &(&str, Counts)| counts.get(&key).map_or("–".to_owned(), usize::to_string);
        section.row(format!("{} {}", key.0, key.1), columns.iter().map(figure).collect());
    }
    let sums = columns.iter().map(|(_, counts)| to_stores(counts).to_string()).collect();
    section.row("to the stores, in all", sums);
    section.note("a change is one commit with a pack of a few KB; its event carries the state that it made, a CodeCommit event does not");
    section.note(
        "rounds that a worker makes anyway (outbox, due marks, queue) are in the column of the idle worker alone",
    );
    for (title, counts) in columns {
        let limit = match *title {
            title if title.starts_with("change") => CHANGE,
            title if title.starts_with("duplicate") => DUPLICATE,
            _ => continue,
        };
        section.at_most(
            format!("{title}: at most {limit} requests to the stores"),
            to_stores(counts) as f64,
            limit as f64,
            "",
        );
    }
    section
}
