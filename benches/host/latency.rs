//! From a push in one region to its being visible in the other.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gitferry_engine::announce::Event;
use gitferry_engine::region::Region;
use gitferry_host::auth::Open;
use gitferry_host::{Host, HostOptions};
use gitferry_replication::link::Link;
use gitferry_replication::transfer::PARTS_IN_MEMORY;
use gitferry_service::events::in_process;
use gitferry_service::worker::{Worker, WorkerOptions};
use gitferry_test_support::objects::DelayedStore;
use gitferry_test_support::table::DelayedTable;
use globset::{Glob, GlobSet};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::server::Server;
use super::support::measure::{Sample, run};
use super::support::place::{Regions, commit, git, git_says, synthetic};
use super::support::report::{Row, millis};
use super::wire::Wire;

/// What the delayed runs add to every request between regions.
pub const ROUND_TRIP: Duration = Duration::from_millis(80);
/// Longest that a push may take to be visible.
const PATIENCE: Duration = Duration::from_secs(60);
const BRANCH: &str = "refs/heads/main";

/// Pushes one commit at a time and waits until the replica shows it; both from the start of `git push` and from
/// the end of it, when the person who pushed has the answer.
pub struct Pushes {
    pub from_start: Vec<Sample>,
    pub from_answer: Vec<Sample>,
}

pub fn pushes(dir: &Path, wire: &Wire, source: &str, replica: &str, count: usize) -> io::Result<Pushes> {
    synthetic(dir, 200)?;
    let (source, replica) = (format!("{source}/latency"), format!("{replica}/latency"));
    let mut pushes = Pushes { from_start: Vec::new(), from_answer: Vec::new() };
    for number in 0..=count {
        commit(dir, BRANCH, &format!("commit {number}"))?;
        let id = git_says(dir, &["rev-parse", BRANCH])?;
        let (start, answered, visible) = std::thread::scope(|scope| {
            let seen = scope.spawn(|| seen(wire, &replica, &id));
            let start = Instant::now();
            run(&mut git(dir, &["push", "-q", &source, BRANCH]))?;
            let answered = Instant::now();
            Ok::<_, io::Error>((start, answered, seen.join().unwrap_or_else(|_| Err(io::Error::other("died")))?))
        })?;
        // The first one makes the repository.
        if number > 0 {
            let timed = |since: Instant| Sample { wall: visible.saturating_duration_since(since), ..Sample::default() };
            pushes.from_start.push(timed(start));
            pushes.from_answer.push(timed(answered));
        }
    }
    Ok(pushes)
}

/// Asks again and again until the branch is there.
fn seen(wire: &Wire, url: &str, id: &str) -> io::Result<Instant> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        // Before the first delivery there is no such repository.
        if let Ok(answer) = wire.ls_refs_of(url, &[BRANCH])
            && answer.windows(id.len()).any(|window| window == id.as_bytes())
        {
            return Ok(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(io::Error::other(format!("{id} did not become visible")))
}

/// The row of `up` as it is.
pub fn with_up(server: &Server, dir: &Path, wire: &Wire, count: usize) -> io::Result<Row> {
    let pushes = pushes(dir, wire, &server.url, &server.replica, count)?;
    let mut row = Row::new(format!("one-commit push until it is visible in the other region, {count} pushes"));
    let start = row.add("from the start of git push", &pushes.from_start);
    row.add("from its answer", &pushes.from_answer);
    row.at_most("p50 at most 100 ms", millis(start.wall), 100.0, " ms");
    Ok(row)
}

/// The row with 80 ms added to every request of the worker to the source region, and half of that to events.
pub fn far_apart(place: &Path, dir: &Path, wire: &Wire, count: usize) -> io::Result<Row> {
    let regions = Regions::new(place.to_owned())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (stop, stopped) = watch::channel(false);
    let (source, replica) = runtime.block_on(start(&regions, stopped))?;
    let pushes = pushes(dir, wire, &source, &replica, count)?;
    stop.send_replace(true);
    let mut row =
        Row::new(format!("the same with {} ms added to every request between regions", ROUND_TRIP.as_millis()));
    let start = row.add("from the start of git push", &pushes.from_start);
    row.add("from its answer", &pushes.from_answer);
    row.at_most("p50 at most 500 ms", millis(start.wall), 500.0, " ms");
    row.at_most("p99 at most 2 s", millis(percentile(&pushes.from_start, 99)), 2_000.0, " ms");
    Ok(row)
}

fn percentile(samples: &[Sample], percent: usize) -> Duration {
    let mut walls: Vec<Duration> = samples.iter().map(|sample| sample.wall).collect();
    walls.sort_unstable();
    walls.get((walls.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}

/// Two hosts and a worker in the target's region; where they are.
async fn start(regions: &Regions, stopped: watch::Receiver<bool>) -> io::Result<(String, String)> {
    let region = |name: &str| {
        let folder = regions.region(name);
        Region::open_embedded(name, &folder.join("objects"), &folder.join("table.db")).map_err(io::Error::other)
    };
    let (sink, announced) = in_process::channel();
    let mut urls = Vec::new();
    for name in ["us-east-1", "eu-west-1"] {
        let options = HostOptions { create_on_push: true, ..HostOptions::default() };
        let host = Host::new(region(name)?, Arc::new(Open), Arc::new(sink.clone()), options);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        urls.push(format!("http://{}", listener.local_addr()?));
        tokio::spawn(async move { axum::serve(listener, host.router()).await });
    }
    let source = region("us-east-1")?;
    let source = source
        .with_objects(Arc::new(DelayedStore::new(source.shared_objects().clone(), ROUND_TRIP)))
        .with_table(Arc::new(DelayedTable::new(source.shared_table().clone(), ROUND_TRIP)));
    let glob = Glob::new("*").map_err(io::Error::other)?;
    let link = Link {
        name: "dr".into(),
        source,
        target: region("eu-west-1")?,
        repositories: GlobSet::builder().add(glob).build().map_err(io::Error::other)?.into(),
        mode: Default::default(),
        active_links: vec!["dr".to_owned()].into(),
        account_links: Arc::new([]),
        memory: Arc::new(tokio::sync::Semaphore::new(PARTS_IN_MEMORY)),
        progress: Default::default(),
    };
    tokio::spawn(Worker::new(vec![link], WorkerOptions::default()).run(late(announced), stopped));
    let replica = urls.pop().unwrap_or_default();
    Ok((urls.pop().unwrap_or_default(), replica))
}

/// Events that take their time, too.
fn late(mut events: mpsc::Receiver<Event>) -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(1_000);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                tokio::time::sleep(ROUND_TRIP / 2).await;
                let _ = sender.send(event).await;
            });
        }
    });
    receiver
}
