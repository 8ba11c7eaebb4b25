//! Many repositories with one change each, while no worker was there.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::requests::{counts, to_stores};
use super::section::Section;
use super::site::{LINK, SOURCE, Site, import};
use super::support::place::{Place, Regions, commit, synthetic};
use super::support::report::mebi;
use super::worker::{Taken, Worker, cpu_of_tree};
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::proxy::Proxy;

/// What the worker's resident memory may come to, in KiB.
const RSS_KIB: u64 = 100 * 1024;
/// Repositories of the round whose requests are counted.
const COUNTED: usize = 100;
/// Commits of each repository before that.
const COMMITS: usize = 5;

/// One round of draining.
struct Round {
    count: usize,
    taken: Taken,
    emulated: Duration,
    counters: Value,
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("team-{}/app-{number}", number % 10)).collect()
}

fn worker_arguments(jobs: Option<usize>) -> Vec<String> {
    let mut arguments = vec!["worker".to_owned(), LINK.to_owned()];
    arguments.extend(jobs.into_iter().flat_map(|jobs| ["--jobs".to_owned(), jobs.to_string()]));
    arguments
}

/// On AWS, with an event of each change in the queue: first a few that are counted, then all.
pub async fn on_aws(place: &Place, count: usize, jobs: Option<usize>) -> io::Result<Section> {
    let mut site = Site::new(place.path("backlog")).await?;
    let (repo, names) = (place.path("backlog.git"), names(count));
    synthetic(&repo, COMMITS)?;
    site.import(&repo, &names).await?;
    site.configure(Emulator::get().endpoint(), false)?;
    let mut first = site.command(&["replicate", LINK]);
    let synced = first.output()?;
    if !synced.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&synced.stderr).into_owned()));
    }
    let few = &names[..count.min(COUNTED)];
    let proxy = Proxy::start(Emulator::get().endpoint()).await;
    proxy.tell_checksums();
    let counted = drain(&mut site, &proxy.endpoint, &repo, few, jobs).await?;
    let requests = proxy.requests();
    let all = drain(&mut site, Emulator::get().endpoint(), &repo, &names, jobs).await?;

    let title = format!(
        "backlog of {count} repositories with one change each, on S3 and DynamoDB, an event of each in the queue"
    );
    let mut section = Section::new(title, &[""]);
    rows(&mut section, &all);
    let emulated = share(all.emulated, all.taken.wall);
    section.row("processor time of the emulator", vec![format!("{:.1} s, {emulated}", all.emulated.as_secs_f64())]);
    let by_kind = counts(&requests);
    let each = |count: usize| format!("{:.2}", count as f64 / counted.count as f64);
    section
        .row(format!("requests to the stores, a change ({} of them)", counted.count), vec![each(to_stores(&by_kind))]);
    for ((service, operation), count) in &by_kind {
        section.row(format!("  {service} {operation}"), vec![each(*count)]);
    }
    section.note(
        "requests of a worker from its start to its end: with its probes, its sweep of all repositories and its rounds",
    );
    section.note("the emulator tells no checksum of a copy, so two requests more are made of it than of S3 for each change, but not where they are counted");
    section.at_most(
        "resident memory of the worker, at most 100 MiB",
        all.taken.rss_kib as f64 / 1024.0,
        RSS_KIB as f64 / 1024.0,
        " MiB",
    );
    Ok(section)
}

/// One change in each repository, and a worker that is started when all are announced.
async fn drain(
    site: &mut Site,
    endpoint: &str,
    repo: &Path,
    names: &[String],
    jobs: Option<usize>,
) -> io::Result<Round> {
    site.renew_queue().await;
    site.configure(endpoint, false)?;
    commit(repo, "refs/heads/main", "one more")?;
    site.import(repo, names).await?;
    site.announce(names).await?;
    let process = Emulator::get().process();
    let before = cpu_of_tree(process);
    let arguments = worker_arguments(jobs);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut worker = Worker::start(site.command(&arguments), &site.dir.join("log"))?;
    let count = names.len();
    let counters = worker.until(|counters| {
        let at_least = |name: &str| counters[name].as_u64() >= Some(count as u64);
        at_least("delivered") && at_least("messages") && counters["pending"] == 0
    })?;
    let taken = worker.taken()?;
    Ok(Round { count, taken, emulated: cpu_of_tree(process).saturating_sub(before), counters })
}

/// The same on the embedded stores, where the outbox announces.
pub async fn embedded(place: &Place, count: usize, jobs: Option<usize>) -> io::Result<Section> {
    let regions = Regions::new(place.path("embedded"))?;
    let (repo, names) = (place.path("embedded.git"), names(count));
    synthetic(&repo, COMMITS)?;
    let config = gitferry_config::Config::load(&regions.dir().join("gitferry.toml")).map_err(io::Error::other)?;
    let source = gitferry_service::open::region(&config, SOURCE).await.map_err(io::Error::other)?;
    import(&source, &repo, &names).await?;
    regions.replicate()?;
    commit(&repo, "refs/heads/main", "one more")?;
    import(&source, &repo, &names).await?;
    drop(source);
    let arguments = worker_arguments(jobs);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut worker = Worker::start(regions.command(&arguments), &regions.dir().join("log"))?;
    let counters = worker.until(|counters| counters["delivered"].as_u64() >= Some(count as u64))?;
    let round = Round { count, taken: worker.taken()?, emulated: Duration::ZERO, counters };
    let title = format!("backlog of {count} repositories with one change each, on the embedded stores");
    let mut section = Section::new(title, &[""]);
    rows(&mut section, &round);
    section.at_most(
        "resident memory of the worker, at most 100 MiB",
        round.taken.rss_kib as f64 / 1024.0,
        RSS_KIB as f64 / 1024.0,
        " MiB",
    );
    Ok(section)
}

fn rows(section: &mut Section, round: &Round) {
    let Taken { wall, cpu, rss_kib, anon_kib } = round.taken;
    section.row("wall, from the start of the process", vec![format!("{:.2} s", wall.as_secs_f64())]);
    section.row("changes a second", vec![format!("{:.1}", round.count as f64 / wall.as_secs_f64())]);
    section.row("processor time of the worker", vec![format!("{:.1} s, {}", cpu.as_secs_f64(), share(cpu, wall))]);
    section.row(
        "processor time of the worker, a change",
        vec![format!("{:.2} ms", cpu.as_secs_f64() * 1e3 / round.count as f64)],
    );
    section.row("peak resident memory of the worker", vec![mebi(rss_kib * 1024)]);
    section.row("peak anonymous memory of the worker", vec![mebi(anon_kib * 1024)]);
    for name in ["delivered", "messages", "duplicates", "failed"] {
        section.row(format!("counted by the worker: {name}"), vec![round.counters[name].to_string()]);
    }
}

fn share(cpu: Duration, wall: Duration) -> String {
    format!("{:.0} % of a processor", 100.0 * cpu.as_secs_f64() / wall.as_secs_f64())
}
