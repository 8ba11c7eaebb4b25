//! What the benchmarks share: their command line and how they end, the servers, the repositories, the measuring, and
//! the report.

pub mod git_server;
pub mod measure;
pub mod place;
pub mod process;
pub mod report;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use place::{copy_repository, synthetic};

/// Commits of the repository that is made when none is given.
const SYNTHETIC_COMMITS: usize = 20_000;
/// What takes a few milliseconds runs so many times as often as the rest: one late wake-up is most of it.
pub const SHORT_RUNS: usize = 3;

/// The options of every benchmark.
#[derive(Debug, Args)]
pub struct Options {
    /// A bare repository; a small one is made when left out. It is never written to.
    #[arg(long, value_name = "PATH")]
    pub repo: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Only serves a folder with git http-backend; used by the benchmark itself.
    #[arg(long, hide = true)]
    cgi: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How often it is measured, where the median counts.
#[derive(Clone, Copy, Debug, Args)]
pub struct Runs<const DEFAULT: u16> {
    /// How often each thing is measured, and three times as often what is short; the median counts.
    #[arg(long, default_value_t = DEFAULT, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
}

impl Options {
    /// Runs a benchmark, or what one has started this program for.
    pub fn run(&self, measure: impl FnOnce() -> io::Result<()>) -> ExitCode {
        let done = match &self.cgi {
            Some(dir) => git_server::serve(dir.clone()),
            None => measure(),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// Makes a copy of the repository, which may be written to.
    pub fn copy_repository(&self, to: &Path) -> io::Result<()> {
        match &self.repo {
            Some(repo) => copy_repository(repo, to),
            None => synthetic(to, SYNTHETIC_COMMITS),
        }
    }
}

impl<const DEFAULT: u16> Runs<DEFAULT> {
    /// How often.
    pub fn count(self) -> usize {
        usize::from(self.runs)
    }
}
