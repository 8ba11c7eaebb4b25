//! Replication between two regions on S3 and DynamoDB: what it asks of them, and how it keeps up.
//! `cargo bench --bench aws -- --repo PATH`.
//!
//! It runs against the emulator of the tests, one Python process on this machine, or what `--endpoint` names. Counts
//! of requests and bytes are those of AWS; times are mostly the emulator's, so its share of the processor is printed
//! beside them. All figures are written to `target/bench/aws.json`.

#![allow(missing_docs)]

#[path = "../../tests/support/aws.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod aws;
#[path = "../../tests/support/aws_region.rs"]
mod aws_region;
mod backlog;
mod first_sync;
#[path = "../support/measure.rs"]
#[allow(dead_code)]
mod measure;
#[path = "../support/place.rs"]
#[allow(dead_code)]
mod place;
#[path = "../../tests/support/proxy.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod proxy;
#[path = "../support/report.rs"]
#[allow(dead_code)]
mod report;
mod requests;
#[path = "../../tests/events/samples.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod samples;
mod section;
mod site;
mod worker;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use serde_json::json;

use aws::Emulator;
use place::{Place, git_says, out_dir, synthetic};
use section::Section;

/// Commits of the repository that is made when none is given.
const SYNTHETIC_COMMITS: usize = 2_000;

/// Measures replication on AWS.
#[derive(Debug, Parser)]
struct Arguments {
    /// A bare repository for the first sync; a small one is made when left out. It is never written to.
    #[arg(long, value_name = "PATH")]
    repo: Option<PathBuf>,
    /// How many repositories have a change each in the backlog.
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repositories: u32,
    /// Repositories that the worker works on at a time; its own default when left out.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// The services to use instead of the emulator.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Only these parts.
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Print JSON, and nothing else.
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What is asked of the stores for a change, a duplicate, and nothing.
    Requests,
    /// The first sync of a repository.
    FirstSync,
    /// A backlog of many repositories with one change each.
    Backlog,
    /// The same on the embedded stores.
    Embedded,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    if let Some(endpoint) = &arguments.endpoint {
        Emulator::use_services(endpoint.clone());
    }
    let place = Place::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let wanted = |part: Part| arguments.only.is_empty() || arguments.only.contains(&part);
    let about = about()?;
    if !arguments.json {
        about.iter().for_each(|line| println!("{line}"));
    }
    let mut sections = Vec::new();
    let mut show = |section: Section| {
        if !arguments.json {
            println!("\n{}", section.text().trim_end());
        }
        sections.push(section);
    };
    runtime.block_on(async {
        if wanted(Part::Requests) {
            show(requests::measure(&place).await?);
        }
        if wanted(Part::FirstSync) {
            let repo = match &arguments.repo {
                Some(repo) => repo.canonicalize()?,
                None => {
                    let made = place.path("synthetic.git");
                    synthetic(&made, SYNTHETIC_COMMITS)?;
                    made
                }
            };
            show(first_sync::measure(&place, &repo).await?);
        }
        let count = arguments.repositories as usize;
        if wanted(Part::Backlog) {
            show(backlog::on_aws(&place, count, arguments.jobs).await?);
        }
        if wanted(Part::Embedded) {
            show(backlog::embedded(&place, count, arguments.jobs).await?);
        }
        Ok::<_, io::Error>(())
    })?;
    let report = json!({ "about": about, "sections": sections });
    let file = out_dir().join("aws.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&report)?)?;
    if arguments.json {
        println!("{report}");
        return Ok(());
    }
    let missed = sections.iter().flat_map(|section| &section.targets).filter(|target| !target.met).count();
    println!("\n{missed} targets missed; all figures are in {}", file.display());
    Ok(())
}

fn about() -> io::Result<Vec<String>> {
    let processors = std::thread::available_parallelism()?;
    let git = git_says(std::path::Path::new("."), &["--version"])?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let services = match Emulator::get().process() {
        Some(_) => "an emulator on this machine, one Python process: its times are not those of AWS".to_owned(),
        None => Emulator::get().endpoint().to_owned(),
    };
    Ok(vec![
        format!("{processors} processors; {git}; gitferry {}", env!("CARGO_PKG_VERSION")),
        format!("services: {services}"),
        format!("load before the run: {} (times are worth little when others use the processors)", load.join(" ")),
    ])
}
