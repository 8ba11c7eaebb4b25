//! A link between two Git servers beside git clone, fetch and push, on the same repository, in one run:
//! `cargo bench --bench passthrough -- --repo PATH`.
//!
//! Source and target are `git http-backend` behind a CGI server, each a process of its own. gitferry and git take
//! turns in every round. Processor time, memory, what is written to disk and the requests are those of the client, a
//! whole process with all its children. The medians are printed with the targets, and written to
//! `target/bench/passthrough.json`.

#![allow(missing_docs)]

#[path = "../../tests/support/cgi.rs"]
mod cgi;
mod clients;
#[path = "../support/measure.rs"]
#[allow(dead_code)]
mod measure;
#[path = "../support/place.rs"]
#[allow(dead_code)]
mod place;
#[path = "../support/report.rs"]
#[allow(dead_code)]
mod report;
mod rows;
mod server;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use clients::{REPOSITORY, Site};
use place::{Place, copy_repository, git_says, out_dir, synthetic};
use report::{Report, Row};
use rows::Contest;
use server::Server;

/// Compares a link between two Git servers with git clone, fetch and push.
#[derive(Debug, Parser)]
struct Arguments {
    /// A bare repository, of which branches and tags are copied; a small one is made when left out. It is never
    /// written to.
    #[arg(long, value_name = "PATH")]
    repo: Option<PathBuf>,
    /// How often each thing is measured, and three times as often what is short; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Leave out the first copy.
    #[arg(long)]
    only_changes: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Only serves a folder with git http-backend; used by the benchmark itself.
    #[arg(long, hide = true)]
    cgi: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.cgi.clone() {
        Some(dir) => server::serve(dir),
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

fn measure_all(arguments: &Arguments) -> io::Result<()> {
    let place = Place::new()?;
    let contest = prepare(&place, arguments)?;
    let mut report = Report { about: about(&contest)?, runs: contest.runs, rows: Vec::new() };
    if !arguments.json {
        report.about.iter().for_each(|line| println!("{line}"));
    }
    let mut show = |row: Row| {
        if !arguments.json {
            println!("\n{}", row.text().trim_end());
        }
        report.rows.push(row);
    };
    let mut cold = Vec::new();
    if !arguments.only_changes {
        let (row, samples) = contest.first()?;
        show(row);
        cold = samples;
    }
    let base = place.path("base.git");
    contest.fall_behind(&base)?;
    show(contest.last_commits(&base)?);
    show(contest.one_commit(&cold)?);
    show(contest.nothing()?);
    let json = serde_json::to_string_pretty(&report)?;
    let file = out_dir().join("passthrough.json");
    std::fs::write(&file, &json)?;
    let missed = report.rows.iter().flat_map(|row| &row.targets).filter(|target| !target.met).count();
    match arguments.json {
        true => println!("{json}"),
        false => println!("{missed} targets missed; all figures are in {}", file.display()),
    }
    Ok(())
}

fn prepare(place: &Place, arguments: &Arguments) -> io::Result<Contest> {
    let (source, target) = (Server::start(place.path("source"))?, Server::start(place.path("target"))?);
    let repository = source.path(REPOSITORY);
    match &arguments.repo {
        Some(repo) => copy_branches_and_tags(repo, &repository)?,
        None => synthetic(&repository, 20_000)?,
    }
    let site = Site::new(source, target, place.path("clients"))?;
    let newest = ["for-each-ref", "--sort=-committerdate", "--count=1", "--format=%(refname)", "refs/heads/"];
    let refs = git_says(&repository, &["for-each-ref", "--format=x"])?.lines().count() as u64;
    let branch = git_says(&repository, &newest)?;
    git_says(&repository, &["symbolic-ref", "HEAD", &branch])?;
    Ok(Contest { site, branch, refs, runs: usize::from(arguments.runs) })
}

/// A bare repository with the branches and tags of another, as a server keeps it after a push: what only other refs
/// need (pull requests) stays behind.
fn copy_branches_and_tags(from: &Path, to: &Path) -> io::Result<()> {
    let whole = to.with_extension("whole");
    copy_repository(from, &whole)?;
    git_says(Path::new("."), &["init", "-q", "--bare", &to.to_string_lossy()])?;
    let from = whole.to_string_lossy();
    git_says(to, &["-c", "gc.auto=0", "fetch", "-q", &from, "refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*"])?;
    git_says(to, &["pack-refs", "--all"])?;
    place::clear(&whole)
}

fn about(contest: &Contest) -> io::Result<Vec<String>> {
    let count = git_says(&contest.site.source.path(REPOSITORY), &["count-objects", "-v"])?;
    let of = |key: &str| count.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("?").trim().to_owned();
    let git = git_says(Path::new("."), &["--version"])?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    Ok(vec![
        format!(
            "repository: {} KiB of packs, {} objects in them, {} branches and tags",
            of("size-pack:"),
            of("in-pack:"),
            contest.refs
        ),
        format!("{} processors; {git}; gitferry {}", std::thread::available_parallelism()?, env!("CARGO_PKG_VERSION")),
        format!("load before the run: {} (times are worth little when others use the processors)", load.join(" ")),
        "median of all runs; ratios to the first line; processor time, memory and disk are the client's".to_owned(),
    ])
}
