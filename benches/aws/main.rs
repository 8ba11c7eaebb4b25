//! Replication between two regions on S3 and DynamoDB: what it asks of them, and how it keeps up.
//! `cargo bench --bench aws -- --repo PATH`.
//!
//! It runs against the emulator of the tests, one Python process on this machine, or what `--endpoint` names. Counts
//! of requests and bytes are those of AWS; times are mostly the emulator's, so its share of the processor is printed
//! beside them. All figures are written to `target/bench/aws.json`.

#![allow(missing_docs, clippy::match_bool)]

mod backlog;
mod first_sync;
mod requests;
mod section;
mod site;
#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;
mod worker;

use std::io;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use gitferry_test_support::aws::Emulator;
use support::Options;
use support::place::{Place, synthetic};
use support::report::{Report, machine};

/// Commits of the repository that is made when none is given.
const SYNTHETIC_COMMITS: usize = 2_000;

/// Measures replication on AWS.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
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
    let arguments = Arguments::parse();
    arguments.options.run(|| measure_all(&arguments))
}

fn measure_all(arguments: &Arguments) -> io::Result<()> {
    if let Some(endpoint) = &arguments.endpoint {
        Emulator::use_services(endpoint.clone());
    }
    let place = Place::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let wanted = |part: Part| arguments.only.is_empty() || arguments.only.contains(&part);
    let services = match Emulator::get().process() {
        Some(_) => "an emulator on this machine, one Python process: its times are not those of AWS".to_owned(),
        None => Emulator::get().endpoint().to_owned(),
    };
    let mut about = vec![format!("services: {services}")];
    about.extend(machine()?);
    let mut report = Report::new("aws", arguments.options.json, about, None);
    runtime.block_on(async {
        if wanted(Part::Requests) {
            report.show(requests::measure(&place).await?);
        }
        if wanted(Part::FirstSync) {
            let repo = match &arguments.options.repo {
                Some(repo) => repo.canonicalize()?,
                None => {
                    let made = place.path("synthetic.git");
                    synthetic(&made, SYNTHETIC_COMMITS)?;
                    made
                }
            };
            report.show(first_sync::measure(&place, &repo).await?);
        }
        let count = arguments.repositories as usize;
        if wanted(Part::Backlog) {
            report.show(backlog::on_aws(&place, count, arguments.jobs).await?);
        }
        if wanted(Part::Embedded) {
            report.show(backlog::embedded(&place, count, arguments.jobs).await?);
        }
        Ok::<_, io::Error>(())
    })?;
    report.end()
}
