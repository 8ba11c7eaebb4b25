//! A link between two Git servers beside git clone, fetch and push, on the branches and tags of the same repository,
//! in one run: `cargo bench --bench passthrough -- --repo PATH`.
//!
//! Source and target are `git http-backend` behind a CGI server, each a process of its own. gitferry and git take
//! turns in every round. Processor time, memory, what is written to disk and the requests are those of the client, a
//! whole process with all its children. The medians are printed with the targets, and written to
//! `target/bench/passthrough.json`.

#![allow(missing_docs, clippy::match_bool)]

mod clients;
mod rows;
#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use clients::{REPOSITORY, Site};
use rows::Contest;
use support::git_server::GitServer;
use support::place::{Place, clear, describe, git_says, main_branch};
use support::report::{Report, machine};
use support::{Options, Runs};

/// Compares a link between two Git servers with git clone, fetch and push.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    runs: Runs<3>,
    /// Leave out the first copy.
    #[arg(long)]
    only_changes: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    arguments.options.run(|| measure_all(&arguments))
}

fn measure_all(arguments: &Arguments) -> io::Result<()> {
    let place = Place::new()?;
    let contest = prepare(&place, arguments)?;
    let mut about = vec![format!("repository: {}", describe(&contest.source())?)];
    about.extend(machine()?);
    about.push("median of all runs; ratios to the first line; processor time, memory and disk are the client's".into());
    let mut report = Report::new("passthrough", arguments.options.json, about, Some(contest.runs));
    contest.site.warm()?;
    let mut cold = Vec::new();
    if !arguments.only_changes {
        let (row, samples) = contest.first()?;
        report.show(row);
        cold = samples;
    }
    let base = place.path("base.git");
    contest.fall_behind(&base)?;
    report.show(contest.last_commits(&base)?);
    report.show(contest.one_commit(&cold)?);
    report.show(contest.nothing()?);
    report.end()
}

fn prepare(place: &Place, arguments: &Arguments) -> io::Result<Contest> {
    let (source, target) = (GitServer::start(place.path("source"))?, GitServer::start(place.path("target"))?);
    let (whole, repository) = (place.path("whole.git"), source.path(REPOSITORY));
    arguments.options.copy_repository(&whole)?;
    let branch = main_branch(&whole)?;
    copy_branches_and_tags(&whole, &repository)?;
    clear(&whole)?;
    git_says(&repository, &["symbolic-ref", "HEAD", &branch])?;
    let refs = git_says(&repository, &["for-each-ref", "--format=x"])?.lines().count() as u64;
    let site = Site::new(source, target, place.path("clients"))?;
    Ok(Contest { site, branch, refs, runs: arguments.runs.count() })
}

/// A bare repository with the branches and tags of another, as a server keeps it after a push: what only other refs
/// need (pull requests) stays behind.
fn copy_branches_and_tags(from: &Path, to: &Path) -> io::Result<()> {
    git_says(Path::new("."), &["init", "-q", "--bare", &to.to_string_lossy()])?;
    let from = from.to_string_lossy();
    git_says(to, &["-c", "gc.auto=0", "fetch", "-q", &from, "refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*"])?;
    git_says(to, &["pack-refs", "--all"]).map(drop)
}
