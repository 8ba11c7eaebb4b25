//! `gitferry export`

use std::path::PathBuf;

use clap::Args;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Write a repository to disk as a bare Git repository.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry export team/app --region eu-west-1 --to /srv/restore/app.git")]
pub struct Export {
    /// Name or id of the repository.
    name: String,
    /// Region to export from.
    #[arg(long, value_name = "R")]
    region: String,
    /// Folder for the bare repository; it must be missing or empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Export {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let region = context.region(&self.region).await?;
        let exported = region.exporter().export(&self.name, &self.to).await?;
        if self.json {
            output::json(&exported)?;
        } else {
            output::line(format!(
                "exported {} to {}: {}, {}{} ({})",
                self.name,
                self.to.display(),
                output::count(exported.refs, "ref"),
                output::count(exported.packs, "pack"),
                output::and_lfs(exported.lfs_objects),
                output::bytes(exported.bytes)
            ));
        }
        Ok(Exit::Done)
    }
}
