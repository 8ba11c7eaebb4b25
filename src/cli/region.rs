//! `gitferry region …`

use clap::{Args, Subcommand};
use gitferry_config::Config;
use gitferry_service::open::{self, make_link_table};
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
Without names, the tables of links between two remotes are made, too, where they are files.

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
    /// Print JSON: one line for each region and each table of a link.
    #[arg(long)]
    json: bool,
}

impl RegionCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let RegionCommand::Init(command) = self;
        let config = context.config()?;
        let all = command.regions.is_empty();
        let names = if all { config.regions.keys().cloned().collect() } else { command.regions };
        for name in names {
            let made = open::init_region(&config, &name, command.accept_older_table).await?;
            match (command.json, made) {
                (true, _) => output::json(&json!({ "region": name, "made": made }))?,
                (false, true) => output::line(format!("made region {name}")),
                (false, false) => output::line(format!("region {name} is there")),
            }
        }
        for (link, made) in if all { make_link_tables(&config)? } else { Vec::new() } {
            match (command.json, made) {
                (true, _) => output::json(&json!({ "link": link, "made": made }))?,
                (false, true) => output::line(format!("made the table of link {link}")),
                (false, false) => output::line(format!("the table of link {link} is there")),
            }
        }
        Ok(Exit::Done)
    }
}

/// Makes all regions of a configuration, and the tables of its links.
pub async fn init_all(config: &Config) -> Result<(), Failure> {
    for name in config.regions.keys() {
        open::init_region(config, name, false).await?;
    }
    make_link_tables(config).map(drop)
}

/// Makes the tables of links between two remotes. The names of these links, and whether the table was missing.
fn make_link_tables(config: &Config) -> Result<Vec<(&String, bool)>, Failure> {
    let mut tables = Vec::new();
    for (name, link) in &config.links {
        let location = config.link_table(link).map_err(|reason| Failure::usage(format!("links.{name}: {reason}")))?;
        if let Some(location) = location {
            tables.push((name, make_link_table(&location, name)?));
        }
    }
    Ok(tables)
}
