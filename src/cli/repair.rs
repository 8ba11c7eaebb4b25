//! `gitferry repair`

use clap::Args;
use gitferry_replication::repair::Repair as Repairing;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Replace what a region has lost of a repository, or holds damaged, with what another region holds.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads every pack and LFS object of the repository in --region and compares size and CRC-64 with what
the region recorded. What is missing or damaged is copied from --from, checked against the same
record, and only then put in its place. Changes and refs are not touched. Hosts and workers may run.

Exit code 1 when something is left that --from does not hold, or holds damaged as well.

Example:
  gitferry verify team/app --region us-east-1 --deep
  gitferry repair team/app --region us-east-1 --from eu-west-1"
)]
pub struct Repair {
    /// The repository's name or id.
    name: String,
    /// The region to repair.
    #[arg(long, value_name = "R")]
    region: String,
    /// The region that has sound copies.
    #[arg(long, value_name = "OTHER")]
    from: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Repair {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        if self.region == self.from {
            return Err(Failure::usage("--region and --from name the same region"));
        }
        let target = context.writable_region(&self.region).await?;
        let source = context.region(&self.from).await?;
        let repaired = Repairing::new(target, source).run(&self.name).await?;
        if self.json {
            output::json(&repaired)?;
        } else {
            for text in repaired.repaired_packs.iter().chain(&repaired.repaired_lfs_objects) {
                output::line(format!("repaired  {text}"));
            }
            for text in &repaired.left {
                output::line(format!("LEFT  {text}"));
            }
            let mended = repaired.repaired_packs.len() + repaired.repaired_lfs_objects.len();
            output::line(format!(
                "{} in {}: {}{} read, {mended} repaired from {}, {} left",
                repaired.repository,
                repaired.region,
                output::count(repaired.packs, "pack"),
                output::and_lfs(repaired.lfs_objects),
                repaired.from,
                repaired.left.len(),
            ));
        }
        Ok(if repaired.left.is_empty() { Exit::Done } else { Exit::Difference })
    }
}
