//! gitferry's host beside `git http-backend` behind a CGI server, on the same repository, in one run:
//! `cargo bench --bench host -- --repo PATH`.
//!
//! Both take turns in every round. The client is git for both, or a client that has everything prepared where
//! only the server is meant. Processor time and memory are those of the server with all its processes. The
//! medians are printed with the targets, and written to `target/bench/host.json`.

#![allow(missing_docs, clippy::match_bool)]

mod fetching;
mod latency;
mod many_refs;
mod pushing;
mod server;
#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;
mod wire;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use server::Server;
use support::place::{Place, Regions, add_refs, copy_repository, describe, main_branch, synthetic};
use support::report::{Report, Row, machine};
use support::{Options, Runs};
use wire::Wire;

/// Compares gitferry's host with git http-backend.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    runs: Runs<5>,
    /// How many pushes are followed to the other region.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pushes: u16,
    /// Only what is called so: clone, fetch, crowd, refs, push, mirror, ingest, many-refs, latency.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// Both servers with the same repositories.
pub struct Contest {
    pub place: Place,
    /// The repository as it was given.
    pub source: PathBuf,
    /// Its main branch.
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
    arguments.options.run(|| measure_all(&arguments))
}

type Measure = fn(&Contest) -> io::Result<Row>;

fn measure_all(arguments: &Arguments) -> io::Result<()> {
    let contest = prepare(arguments)?;
    let mut about = vec![format!("repository: {}", describe(&contest.source)?)];
    about.extend(machine()?);
    about.push("median of all runs; ratios to the first line; memory is the anonymous memory of the server".to_owned());
    let mut report = Report::new("host", arguments.options.json, about, Some(contest.runs));
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let rows: [(&str, Measure); 8] = [
        ("clone", fetching::clone),
        ("fetch", fetching::fetch),
        ("crowd", fetching::crowd),
        ("refs", fetching::refs),
        ("push", pushing::one_commit),
        ("mirror", pushing::mirror),
        ("ingest", pushing::ingest),
        ("many-refs", many_refs::push),
    ];
    for (_, measure) in rows.iter().filter(|(name, _)| wanted(name)) {
        report.show(measure(&contest)?);
    }
    if wanted("latency") {
        let (place, pushes) = (&contest.place, usize::from(arguments.pushes));
        report.show(latency::with_up(&contest.gitferry, &place.path("near.git"), &contest.wire, pushes)?);
        let far = latency::far_apart(&place.path("far"), &place.path("far.git"), &contest.wire, pushes)?;
        report.show(far);
    }
    report.end()
}

fn prepare(arguments: &Arguments) -> io::Result<Contest> {
    let place = Place::new()?;
    let source = place.path("source.git");
    arguments.options.copy_repository(&source)?;
    let many = place.path("many.git");
    synthetic(&many, 100)?;
    add_refs(&many, fetching::MANY_REFS)?;
    let regions = Regions::new(place.path("regions"))?;
    let git = Server::git(place.path("git"))?;
    for (repository, name) in [(&source, "repository"), (&many, "many")] {
        regions.import(repository, name)?;
        let copy = git.dir.join(name);
        copy_repository(repository, &copy)?;
        server::configure(&copy)?;
    }
    regions.replicate()?;
    let gitferry = Server::gitferry(regions.dir().to_owned())?;
    let branch = main_branch(&source)?;
    Ok(Contest { place, source, branch, gitferry, git, wire: Wire::new()?, runs: arguments.runs.count() })
}
