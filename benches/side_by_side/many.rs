//! A pass over 1,000 repositories of which none has changed: the work per repository, without the process.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use gitferry_config::LinkMode;
use gitferry_replication::link::Link;
use gitferry_replication::progress::Progress;
use gitferry_replication::transfer::PARTS_IN_MEMORY;
use gitferry_service::open;
use globset::{Glob, GlobSet, GlobSetBuilder};
use tokio::sync::Semaphore;

use super::support::measure::{Sample, run};
use super::support::place::{Place, gitferry};
use super::support::report::{Row, millis};

const REPOSITORIES: usize = 1_000;
/// Milliseconds of work per repository that a pass may cost.
const MILLIS_EACH: f64 = 0.1;
const CONFIG: &str = "gitferry.toml";

/// Runs in a process of its own, so that its memory is not that of the others; see [`inside`].
pub fn row(place: &Place, runs: usize) -> io::Result<Row> {
    let dir = place.path("many-repositories");
    std::fs::create_dir_all(&dir)?;
    run(gitferry().arg("init").current_dir(&dir))?;
    let mut again = Command::new(std::env::current_exe()?);
    let out = again.arg("--pass-in").arg(&dir).args(["--runs", &runs.to_string()]).output()?;
    if !out.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&out.stderr).into_owned()));
    }
    let lines = String::from_utf8_lossy(&out.stdout).into_owned();
    let passes = lines.lines().filter_map(|line| line.parse::<f64>().ok());
    let passes: Vec<Sample> = passes
        .map(|ms| Sample { wall: std::time::Duration::from_secs_f64(ms / 1_000.0), ..Sample::default() })
        .collect();
    let mut whole = Vec::new();
    for _ in 0..runs {
        whole.push(run(gitferry().args(["replicate", "dr"]).current_dir(&dir))?);
    }
    let mut row = Row::new("nothing changed in 1,000 repositories");
    let pass = row.add("one pass, stores freshly opened, in a running process", &passes);
    row.add("gitferry replicate", &whole);
    let each = millis(pass.wall) / REPOSITORIES as f64;
    row.at_most("at most 0.1 ms per repository", each, MILLIS_EACH, " ms");
    Ok(row)
}

/// Makes the repositories, delivers them, and prints how many milliseconds each further pass takes.
pub fn inside(dir: &Path, runs: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let link = open(dir).await?;
        for number in 0..REPOSITORIES {
            let name = format!("team-{}/app-{number}", number % 10);
            link.source.repositories().create(&name, gix::hash::Kind::Sha1, "bench").await.map_err(io::Error::other)?;
        }
        link.pass(&[], 4).await.map_err(io::Error::other)?;
        drop(link);
        for _ in 0..=runs {
            let start = std::time::Instant::now();
            let summary = open(dir).await?.pass(&[], 4).await.map_err(io::Error::other)?;
            let elapsed = start.elapsed();
            if summary.unchanged != REPOSITORIES as u64 {
                return Err(io::Error::other(format!("not all are unchanged: {summary:?}")));
            }
            println!("{}", millis(elapsed));
        }
        Ok(())
    })
}

fn everything() -> io::Result<GlobSet> {
    let glob = Glob::new("*").map_err(io::Error::other)?;
    GlobSetBuilder::new().add(glob).build().map_err(io::Error::other)
}

async fn open(dir: &Path) -> io::Result<Link> {
    let config = gitferry_config::Config::load(&dir.join(CONFIG)).map_err(io::Error::other)?;
    Ok(Link {
        name: "dr".into(),
        source: open::region(&config, "us-east-1").await.map_err(io::Error::other)?,
        target: open::region(&config, "eu-west-1").await.map_err(io::Error::other)?,
        repositories: everything()?.into(),
        mode: LinkMode::Active,
        active_links: vec!["dr".to_owned()].into(),
        account_links: Arc::new([]),
        memory: Arc::new(Semaphore::new(PARTS_IN_MEMORY)),
        progress: Arc::new(Progress::default()),
    })
}
