//! `gitferry import`

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use gitferry_base::Kind;
use gitferry_engine::region::RegionError;
use gitferry_engine::region::import::{ImportOptions, ImportProgress, Imported};
use gitferry_git::local::RefPatterns;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::context::{Context, actor};
use super::failure::{Exit, Failure};
use super::output;

/// Import a local Git repository. Adds the differences to the region as one change.
#[derive(Debug, Args)]
#[command(after_help = "Packs are checked in full and stored as they are; loose objects become one pack. Refs that the
source no longer has are deleted. Nothing is written to the source, and Git is not needed.

Example:
  gitferry import /srv/git/app.git team/app --region us-east-1
  gitferry import ~/src/app team/app --region us-east-1 --refs 'refs/heads/*' 'refs/tags/*'")]
pub struct Import {
    /// Path of a local Git repository, bare or not.
    source: PathBuf,
    /// Name of the repository in the region, created if missing.
    name: String,
    /// Region to import into.
    #[arg(long, value_name = "R")]
    region: String,
    /// Import only matching refs: `refs/heads/*`, `refs/tags/`, a full name, or `^refs/pull/*` to exclude. All other
    /// refs of the region stay as they are.
    #[arg(long, num_args = 1.., value_name = "PATTERN")]
    refs: Vec<String>,
    /// Import even if the source has no refs, which deletes every ref in the region.
    #[arg(long)]
    allow_empty: bool,
    /// Actor that the change is attributed to [default: the login name].
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Import {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let region = context.region_to_change(&self.region, &self.name).await?;
        let start = Instant::now();
        let options = ImportOptions {
            patterns: RefPatterns::new(&self.refs).map_err(|error| Failure::usage(error.to_string()))?,
            allow_empty: self.allow_empty,
            actor: self.actor.unwrap_or_else(actor),
        };
        let progress = Arc::new(ImportProgress::default());
        let bars = (!self.json && std::io::stderr().is_terminal()).then(|| show(progress.clone()));
        let result = region.importer().import(&self.source, &self.name, &options, progress).await;
        if let Some(bars) = bars {
            bars.abort();
        }
        let imported = result.map_err(explain)?;
        if self.json {
            output::json(&imported)?;
        } else {
            print(&imported, region.name(), start.elapsed());
        }
        Ok(Exit::Done)
    }
}

/// Adds a hint to errors about a damaged source; other damage is in the region's own ledger.
fn explain(error: RegionError) -> Failure {
    let of_source = matches!(error, RegionError::Source(_) | RegionError::Pack(_) | RegionError::MissingObjects { .. });
    let damaged = of_source && error.kind() == Kind::Corrupt;
    let failure = Failure::from(error);
    if damaged {
        failure
            .hint("nothing was imported; `git fsck --full` in the source lists all damage; repair it and import again")
    } else {
        failure
    }
}

fn print(imported: &Imported, region: &str, elapsed: Duration) {
    let Some(change) = imported.change else {
        output::line(format!(
            "{} in {region} is up to date: {}",
            imported.repository,
            output::count(imported.refs, "ref")
        ));
        print_lfs(imported);
        return;
    };
    output::line(format!(
        "{} in {region}: change {change} in {}",
        imported.repository,
        output::millis(elapsed.as_millis() as u64)
    ));
    output::line(format!(
        "  refs   {} created, {} updated, {} deleted; {} now",
        imported.created, imported.updated, imported.deleted, imported.refs
    ));
    output::line(format!(
        "  packs  {} with {} ({})",
        imported.packs,
        output::count(imported.objects, "object"),
        output::bytes(imported.bytes)
    ));
    print_lfs(imported);
}

fn print_lfs(imported: &Imported) {
    let taken = imported.lfs_objects;
    let missing = imported.lfs_missing;
    if taken + missing == 0 {
        return;
    }
    let taken = format!("{} imported ({})", output::count(taken, "object"), output::bytes(imported.lfs_bytes));
    output::line(format!("  lfs    {taken}, {missing} missing"));
    if missing > 0 {
        output::line(
            "         run `git lfs fetch --all` in the source and import again, or `git lfs push --all` to this region",
        );
    }
}

/// Draws progress bars for copied bytes and checked objects until the task is aborted.
fn show(progress: Arc<ImportProgress>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let bars = MultiProgress::new();
        let style =
            |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let copy = bars.add(ProgressBar::new(0));
        copy.set_style(style("copying   {bar:30} {bytes}/{total_bytes} {bytes_per_sec}"));
        let check = bars.add(ProgressBar::new(0));
        check.set_style(style("checking  {bar:30} {human_pos}/{human_len} objects ETA {eta}"));
        loop {
            copy.set_length(progress.bytes.get());
            copy.set_position(progress.bytes_done.get());
            let now = progress.check();
            check.set_length(now.objects_total.load(Ordering::Relaxed));
            check.set_position(now.objects.load(Ordering::Relaxed));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}
