//! `gitferry repair`

use clap::Args;
use gitferry_replication::repair::Repair as Repairing;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Replace missing and damaged packs and LFS objects of a repository with copies from another region.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads every pack and LFS object of the repository in --region and compares size and CRC-64 with
the region's own records. Missing and damaged ones are copied from --from, checked against the
same records, and only then put in place. Changes and refs are not touched. Safe while hosts and
workers run, and safe to run again.

Exit code 1 if damage is left, as --from lacks an object or holds it damaged as well.

Example:
  gitferry verify team/app --region us-east-1 --deep
  gitferry repair team/app --region us-east-1 --from eu-west-1"
)]
pub struct Repair {
    /// Name or id of the repository.
    name: String,
    /// Region to repair.
    #[arg(long, value_name = "R")]
    region: String,
    /// Region to copy from.
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
            let replaced = repaired.repaired_packs.len() + repaired.repaired_lfs_objects.len();
            output::line(format!(
                "{} in {}: {}{} read, {replaced} repaired from {}, {} left",
                repaired.repository,
                repaired.region,
                output::count(repaired.packs, "pack"),
                output::and_lfs(repaired.lfs_objects),
                repaired.from,
                repaired.left.len(),
            ));
            if !repaired.left.is_empty() {
                output::note(
                    "  hint: run the command again with another region in --from; damage that no region can mend needs \
                     a backup of the stores",
                );
            }
        }
        Ok(if repaired.left.is_empty() { Exit::Done } else { Exit::Difference })
    }
}
