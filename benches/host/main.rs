//! gitferry's host beside `git http-backend` behind a CGI server, on the same repository, in one run:
//! `cargo bench --bench host -- --repo PATH`.
//!
//! Both take turns in every round. The client is git for both, or a client that has everything prepared where
//! only the server is meant. Processor time and memory are those of the server with all its processes. The
//! medians are printed with the targets, and written to `target/bench/host.json`.

#![allow(missing_docs)]

#[path = "../../tests/support/cgi.rs"]
mod cgi;
mod fetching;
mod latency;
#[path = "../support/measure.rs"]
#[allow(dead_code)]
mod measure;
#[path = "../support/place.rs"]
#[allow(dead_code)]
mod place;
mod pushing;
#[path = "../support/report.rs"]
#[allow(dead_code)]
mod report;
mod server;
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use place::{Place, Regions, copy_repository, git_says, out_dir, synthetic};
use report::{Report, Row};
use server::Server;
use wire::Wire;

/// Compares gitferry's host with git http-backend.
#[derive(Debug, Parser)]
struct Arguments {
    /// A bare repository; a small one is made when left out. It is copied, never written to.
    #[arg(long, value_name = "PATH")]
    repo: Option<PathBuf>,
    /// How often each thing is measured; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// How many pushes are followed to the other region.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pushes: u16,
    /// Only what is called so: clone, fetch, crowd, refs, push, mirror, ingest, latency.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only serves a folder with git http-backend; used by the benchmark itself.
    #[arg(long, hide = true)]
    cgi: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Both servers with the same repositories.
pub struct Contest {
    pub place: Place,
    /// The repository as it was given.
    pub source: PathBuf,
    /// Its branch of the newest commits.
    pub branch: String,
    pub gitferry: Server,
    pub git: Server,
    pub wire: Wire,
    pub runs: usize,
}

impl Contest {
    pub fn servers(&self) -> [&Server; 2] {
        [&self.gitferry, &self.git]
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.cgi.clone() {
        Some(dir) => cgi::serve(dir),
        None => measure_all(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Measure = fn(&Contest) -> io::Result<Row>;

fn measure_all(arguments: &Arguments) -> io::Result<()> {
    let contest = prepare(arguments)?;
    let mut report = Report { about: about(&contest.source)?, runs: contest.runs, rows: Vec::new() };
    for line in &report.about {
        println!("{line}");
    }
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let rows: [(&str, Measure); 7] = [
        ("clone", fetching::clone),
        ("fetch", fetching::fetch),
        ("crowd", fetching::crowd),
        ("refs", fetching::refs),
        ("push", pushing::one_commit),
        ("mirror", pushing::mirror),
        ("ingest", pushing::ingest),
    ];
    for (_, measure) in rows.iter().filter(|(name, _)| wanted(name)) {
        show(&mut report, measure(&contest)?);
    }
    if wanted("latency") {
        let (place, pushes) = (&contest.place, usize::from(arguments.pushes));
        show(&mut report, latency::with_up(&contest.gitferry, &place.path("near.git"), &contest.wire, pushes)?);
        let far = latency::far_apart(&place.path("far"), &place.path("far.git"), &contest.wire, pushes)?;
        show(&mut report, far);
    }
    let file = out_dir().join("host.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&report)?)?;
    let missed = report.rows.iter().flat_map(|row| &row.targets).filter(|target| !target.met).count();
    println!("{missed} targets missed; all figures are in {}", file.display());
    Ok(())
}

fn prepare(arguments: &Arguments) -> io::Result<Contest> {
    let place = Place::new()?;
    let source = place.path("source.git");
    match &arguments.repo {
        Some(repo) => copy_repository(repo, &source)?,
        None => synthetic(&source, 20_000)?,
    }
    let many = place.path("many.git");
    synthetic(&many, 100)?;
    place::add_refs(&many, fetching::MANY_REFS)?;
    let regions = Regions::new(place.path("regions"))?;
    let git = Server::git(place.path("git"))?;
    for (repository, name) in [(&source, "repository"), (&many, "many")] {
        regions.import(repository, name)?;
        let copy = git.dir.join(name);
        copy_repository(repository, &copy)?;
        git.configure(&copy)?;
    }
    regions.replicate()?;
    let gitferry = Server::gitferry(regions.dir().to_owned())?;
    let branch = git_says(
        &source,
        &["for-each-ref", "--sort=-committerdate", "--count=1", "--format=%(refname)", "refs/heads/"],
    )?;
    Ok(Contest { place, source, branch, gitferry, git, wire: Wire::new()?, runs: usize::from(arguments.runs) })
}

fn show(report: &mut Report, row: Row) {
    println!("\n{}", row.text().trim_end());
    report.rows.push(row);
}

fn about(source: &Path) -> io::Result<Vec<String>> {
    let count = git_says(source, &["count-objects", "-v"])?;
    let of = |key: &str| count.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("?").trim().to_owned();
    let refs = git_says(source, &["for-each-ref", "--format=x"])?.lines().count();
    let git = git_says(Path::new("."), &["--version"])?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    Ok(vec![
        format!("repository: {} KiB of packs, {} objects in them, {refs} refs", of("size-pack:"), of("in-pack:")),
        format!("{} processors; {git}; gitferry {}", std::thread::available_parallelism()?, env!("CARGO_PKG_VERSION")),
        format!("load before the run: {} (times are worth little when others use the processors)", load.join(" ")),
        "median of all runs; ratios to the first line; memory is the anonymous memory of the server".to_owned(),
    ])
}
