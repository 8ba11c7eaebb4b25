//! `gitferry region …`

use clap::{Args, Subcommand};
use gitferry::config::Config;
use gitferry::region::Region;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Make regions.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  gitferry region init us-east-1")]
pub enum RegionCommand {
    Init(Init),
}

/// Write a region's identity into its object store and its table, which are made where they are files.
#[derive(Debug, Args)]
#[command(
    after_help = "Both stores of a region say which region they are, and every start compares: one that is missing,
empty, swapped or set back is an error, and never an empty region. Regions that are there stay
as they are. With S3 and DynamoDB, Terraform makes bucket and table, and this the region in them.

Example:
  gitferry region init
  gitferry region init us-east-1"
)]
pub struct Init {
    /// The regions; all of the configuration when left out.
    regions: Vec<String>,
    /// Take a table that was restored to an earlier time. Acknowledged changes that it lacks are lost here.
    #[arg(long, requires = "regions")]
    accept_older_table: bool,
    /// Print JSON: one line for each region.
    #[arg(long)]
    json: bool,
}

impl RegionCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let RegionCommand::Init(command) = self;
        let config = context.config()?;
        let names = if command.regions.is_empty() { config.regions.keys().cloned().collect() } else { command.regions };
        for name in names {
            let made = Region::init(&config, &name, command.accept_older_table).await?;
            match (command.json, made) {
                (true, _) => output::json(&json!({ "region": name, "made": made }))?,
                (false, true) => output::line(format!("made region {name}")),
                (false, false) => output::line(format!("region {name} is there")),
            }
        }
        Ok(Exit::Done)
    }
}

/// Makes all regions of a configuration.
pub async fn init_all(config: &Config) -> Result<(), Failure> {
    for name in config.regions.keys() {
        Region::init(config, name, false).await?;
    }
    Ok(())
}
