//! `gitferry maintain`

use clap::Args;
use gitferry_engine::region::Region;
use gitferry_engine::region::sweep::Swept;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Clean up regions and merge small packs now, as hosts and workers do every six hours.
#[derive(Debug, Args)]
#[command(after_help = "Removes packs and uploads that crashes, lost races and consolidation left behind, once the
recovery window of the region is over, and merges the small packs of repositories that have many.
Safe while hosts and workers run.

Exit code 3 if a region failed. The other regions are cleaned up all the same, and running the
command again is safe.

Example:
  gitferry maintain --dry-run
  gitferry maintain --region us-east-1 --json")]
pub struct Maintain {
    /// Region to clean up; may be given several times [default: all regions of the configuration].
    #[arg(long = "region", value_name = "R")]
    regions: Vec<String>,
    /// Only count the items that would be removed and merged.
    #[arg(long)]
    dry_run: bool,
    /// Print one line of JSON per region.
    #[arg(long)]
    json: bool,
}

impl Maintain {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config()?;
        let names: Vec<String> =
            if self.regions.is_empty() { config.regions.keys().cloned().collect() } else { self.regions.clone() };
        for name in &names {
            config.stores(name)?;
        }
        let mut exit = Exit::Done;
        for name in &names {
            match self.maintain(context, name).await {
                Ok((swept, merged)) => self.print(name, swept, merged)?,
                Err(failure) => {
                    if self.json {
                        output::json(&json!({ "region": name, "error": failure.message() }))?;
                    }
                    failure.about(&format!("region {name}")).print();
                    exit = Exit::Failed;
                }
            }
        }
        Ok(exit)
    }

    /// Cleans up one region. Returns the counts of removed items and of merged packs; with `--dry-run`, of those that
    /// would be.
    async fn maintain(&self, context: &Context, name: &str) -> Result<(Swept, u64), Failure> {
        if self.dry_run {
            let region = context.region(name).await?;
            return Ok((region.sweeper().would_sweep().await?, region.consolidator().would_consolidate().await?));
        }
        let region: Region = context.writable_region(name).await?;
        let swept = region.sweeper().sweep().await?;
        Ok((swept, region.consolidator().consolidate_all().await?))
    }

    fn print(&self, region: &str, swept: Swept, merged: u64) -> Result<(), Failure> {
        if self.json {
            let dry = self.dry_run;
            output::json(&json!({ "region": region, "dry_run": dry, "swept": swept, "merged_packs": merged }))?;
            return Ok(());
        }
        let removed = if self.dry_run { "would remove" } else { "removed" };
        let merging = if self.dry_run { "would merge" } else { "merged" };
        let Swept { stale, retired, orphans, staging, claims, late_lfs } = swept;
        let mut parts = vec![
            output::count(retired, "replaced pack"),
            output::count(orphans, "orphaned file"),
            output::count(staging, "staging row"),
        ];
        // A dry run does not count the others.
        if !self.dry_run {
            parts.extend([output::count(stale, "temporary file"), output::count(claims, "old claim")]);
        }
        let mut line = format!("{region}: {removed} {}; {merging} {}", parts.join(", "), output::count(merged, "pack"));
        if late_lfs > 0 {
            let naming = if self.dry_run { "would name" } else { "named" };
            line += &format!("; {naming} {} of interrupted uploads", output::count(late_lfs, "LFS object"));
        }
        output::line(line);
        Ok(())
    }
}
