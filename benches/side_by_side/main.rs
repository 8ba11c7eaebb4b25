//! gitferry beside Git itself, on the same repository, in one run:
//! `cargo bench --bench side_by_side -- --repo PATH`.
//!
//! Both take turns in every round, so that a machine that slows down slows both. The medians are printed
//! as a table with the targets, and written to `target/bench/side_by_side.json`.

#![allow(missing_docs)]

mod changes;
mod many;
#[path = "../support/measure.rs"]
#[allow(dead_code)]
mod measure;
#[path = "../support/place.rs"]
#[allow(dead_code)]
mod place;
#[path = "../support/report.rs"]
#[allow(dead_code)]
mod report;
mod whole;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use changes::Growing;
use place::copy_repository;
use place::{KeptMirror, Place, Regions, git_says, out_dir, synthetic};
use report::{Report, Row};
use whole::Whole;

/// Compares gitferry with Git.
#[derive(Debug, Parser)]
struct Arguments {
    /// A bare repository; a small one is made when left out. It is copied, never written to.
    #[arg(long, value_name = "PATH")]
    repo: Option<PathBuf>,
    /// How often each thing is measured; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Also a repository of 1,000,000 refs, which takes a while to make.
    #[arg(long)]
    million_refs: bool,
    /// Leave out what takes the whole repository each time: first sync, import, deep verification.
    #[arg(long)]
    only_changes: bool,
    /// Only measures passes over 1,000 repositories in this folder; used by the benchmark itself.
    #[arg(long, hide = true)]
    pass_in: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runs = usize::from(arguments.runs);
    let done = match &arguments.pass_in {
        Some(dir) => many::inside(dir, runs),
        None => measure_all(&arguments, runs),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(arguments: &Arguments, runs: usize) -> io::Result<()> {
    let place = Place::new()?;
    let source = place.path("source.git");
    match &arguments.repo {
        Some(repo) => copy_repository(repo, &source)?,
        None => synthetic(&source, 20_000)?,
    }
    let mut report = Report { about: about(&source)?, runs, rows: Vec::new() };
    for line in &report.about {
        println!("{line}");
    }
    let regions = Regions::new(place.path("regions"))?;
    let kept = KeptMirror::new(place.path("kept"), &source)?;
    let mut from_nothing = Vec::new();
    if !arguments.only_changes {
        let whole = Whole { source: &source, regions: &regions, kept: &kept, runs };
        let shared = whole.measure(&place)?;
        show(&mut report, shared.first_sync());
        show(&mut report, shared.import());
        show(&mut report, whole.verify(&shared)?);
        from_nothing = shared.clone_and_push;
    } else {
        regions.import(&source, "repository")?;
        regions.replicate()?;
    }
    let mut big = Growing::new(source, regions)?;
    for row in changes::one_commit(&place, &mut big, &kept, &from_nothing, runs)? {
        show(&mut report, row);
    }
    show(&mut report, changes::nothing(&big, &kept, runs)?);
    show(&mut report, many::row(&place, runs)?);
    show(&mut report, changes::one_ref(&place, runs)?);
    if arguments.million_refs {
        show(&mut report, changes::million_refs(&place)?);
    }
    let file = out_dir().join("side_by_side.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&report)?)?;
    let missed = report.rows.iter().flat_map(|row| &row.targets).filter(|target| !target.met).count();
    println!("{missed} targets missed; all figures are in {}", file.display());
    Ok(())
}

fn show(report: &mut Report, row: Row) {
    println!("\n{}", row.text().trim_end());
    report.rows.push(row);
}

fn about(source: &std::path::Path) -> io::Result<Vec<String>> {
    let processors = std::thread::available_parallelism()?;
    let git = git_says(std::path::Path::new("."), &["--version"])?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    Ok(vec![
        format!("repository: {}", changes::describe(source)?),
        format!("{processors} processors; {git}; gitferry {}", env!("CARGO_PKG_VERSION")),
        format!("load before the run: {} (times are worth little when others use the processors)", load.join(" ")),
        "median of all runs; ratios to the first line of each row; memory is that of the largest process".to_owned(),
    ])
}
