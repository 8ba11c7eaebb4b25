//! gitferry beside Git itself, on the same repository, in one run:
//! `cargo bench --bench side_by_side -- --repo PATH`.
//!
//! Both take turns in every round, so that a machine that slows down slows both. The medians are printed
//! as a table with the targets, and written to `target/bench/side_by_side.json`.

#![allow(missing_docs, clippy::match_bool)]

mod changes;
mod many;
#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;
mod whole;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use changes::Growing;
use support::place::{KeptMirror, Place, Regions, describe};
use support::report::{Report, machine};
use support::{Options, Runs};
use whole::Whole;

/// Compares gitferry with Git.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    runs: Runs<5>,
    /// Also a repository of 1,000,000 refs, which takes a while to make.
    #[arg(long)]
    million_refs: bool,
    /// Leave out what takes the whole repository each time: first sync, import, deep verification.
    #[arg(long)]
    only_changes: bool,
    /// Only measures passes over 1,000 repositories in this folder; used by the benchmark itself.
    #[arg(long, hide = true)]
    pass_in: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runs = arguments.runs.count();
    arguments.options.run(|| match &arguments.pass_in {
        Some(dir) => many::inside(dir, runs),
        None => measure_all(&arguments, runs),
    })
}

fn measure_all(arguments: &Arguments, runs: usize) -> io::Result<()> {
    let place = Place::new()?;
    let source = place.path("source.git");
    arguments.options.copy_repository(&source)?;
    let mut about = vec![format!("repository: {}", describe(&source)?)];
    about.extend(machine()?);
    about.push(
        "median of all runs; ratios to the first line of each row; memory is that of the largest process".to_owned(),
    );
    let mut report = Report::new("side_by_side", arguments.options.json, about, Some(runs));
    let regions = Regions::new(place.path("regions"))?;
    let kept = KeptMirror::new(place.path("kept"), &source)?;
    let mut from_nothing = Vec::new();
    if !arguments.only_changes {
        let whole = Whole { source: &source, regions: &regions, kept: &kept, runs };
        let shared = whole.measure(&place)?;
        report.show(shared.first_sync());
        report.show(shared.import());
        report.show(whole.verify(&shared)?);
        from_nothing = shared.clone_and_push;
    } else {
        regions.import(&source, "repository")?;
        regions.replicate()?;
    }
    let mut big = Growing::new(source, regions)?;
    for row in changes::one_commit(&place, &mut big, &kept, &from_nothing, runs)? {
        report.show(row);
    }
    report.show(changes::nothing(&big, &kept, runs)?);
    report.show(many::row(&place, runs)?);
    report.show(changes::one_ref(&place, runs)?);
    if arguments.million_refs {
        report.show(changes::million_refs(&place)?);
    }
    report.end()
}
