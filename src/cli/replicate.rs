//! `gitferry replicate`

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use gitferry::Kind;
use gitferry::fault::crash_point;
use gitferry::replication::pass::{DEFAULT_JOBS, Summary};
use gitferry::replication::progress::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::context::Context;
use super::failure::{Exit, Failure, hint_for, is_refusal};
use super::output;

/// Bring the target of a link up to date, in one pass.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 1 when a repository is on two histories (nothing is overwritten), 2 when a rule forbids
all that failed (as a second active link to one target), 3 when anything failed otherwise. Running it again is always safe: what was copied is not copied again.

Example:
  gitferry replicate dr
  gitferry replicate dr team/app --json"
)]
pub struct Replicate {
    /// The link.
    link: String,
    /// Only these repositories (names or ids); all when left out.
    names: Vec<String>,
    /// Repositories to work on at a time.
    #[arg(long, default_value_t = DEFAULT_JOBS, value_name = "N")]
    jobs: usize,
    /// Print one line of JSON at the end.
    #[arg(long)]
    json: bool,
}

impl Replicate {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config()?;
        let link = context.writable_link(&config, &self.link).await?;
        let bars = (!self.json && std::io::stderr().is_terminal()).then(|| show(link.progress.clone()));
        let result = link.pass(&self.names, self.jobs).await;
        if let Some(bars) = bars {
            bars.abort();
        }
        let summary = result?;
        crash_point("before-summary");
        match self.json {
            true => output::json(&summary)?,
            false => print(&summary),
        }
        Ok(exit(&summary))
    }
}

fn exit(summary: &Summary) -> Exit {
    match (summary.found_difference(), summary.failed) {
        (true, _) => Exit::Difference,
        (false, 0) => Exit::Done,
        (false, _) if summary.failures().all(is_refusal) => Exit::Refused,
        _ => Exit::Failed,
    }
}

fn print(summary: &Summary) {
    for report in &summary.reports {
        match (&report.delivered, &report.error) {
            (_, Some(error)) => {
                // Errors of a store do not know for which repository it was asked.
                let text = error.to_string();
                match text.contains(&report.repository) {
                    true => eprintln!("error: {text}"),
                    false => eprintln!("error: {}: {text}", report.repository),
                }
                if let Some(hint) = hint_for(error.kind()) {
                    eprintln!("  hint: {hint}");
                }
            }
            (Some(delivered), None) => output::line(format!(
                "{}: {}, {}, {}{} ({})",
                report.repository,
                output::count(delivered.changes, "change"),
                output::count(delivered.edits, "ref edit"),
                output::count(delivered.packs, "pack"),
                output::and_lfs(delivered.lfs_objects),
                output::bytes(delivered.bytes),
            )),
            (None, None) => {}
        }
    }
    output::line(format!(
        "{}: {} delivered, {} unchanged, {} failed; {} copied in {}",
        summary.link,
        summary.delivered,
        summary.unchanged,
        summary.failed,
        output::bytes(summary.bytes_copied),
        output::millis(summary.elapsed_ms),
    ));
    if summary.failures().any(Kind::is_retryable) {
        output::line("what failed may pass when it is run again; that is always safe");
    }
}

/// Draws repositories and bytes until it is aborted.
fn show(progress: Arc<Progress>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let bars = MultiProgress::new();
        let style =
            |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let repositories = bars.add(ProgressBar::new(0));
        repositories.set_style(style("repositories {bar:30} {pos}/{len}"));
        let bytes = bars.add(ProgressBar::new(0));
        bytes.set_style(style("bytes        {bar:30} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}"));
        loop {
            repositories.set_length(progress.repositories.get());
            repositories.set_position(progress.repositories_done.get());
            bytes.set_length(progress.bytes.get());
            bytes.set_position(progress.bytes_done.get());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}
