//! `gitferry region`

use clap::{Args, Subcommand};
use gitferry_config::Config;
use gitferry_service::open::{self, make_link_table};
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Initialize regions.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  gitferry region init us-east-1")]
pub enum RegionCommand {
    Init(Init),
}

/// Initialize regions: create local stores, and write the region's identity into object store and table.
#[derive(Debug, Args)]
#[command(
    after_help = "Both stores of a region record its identity, and every process compares them at its start: a store
that is missing, empty, swapped or rolled back is an error, never an empty region. A region that
exists is left alone. On AWS, Terraform creates bucket and table, and this command the region in
them. Without names, the command also creates the SQLite tables of links between two remotes.

Example:
  gitferry region init
  gitferry region init us-east-1"
)]
pub struct Init {
    /// Regions to initialize [default: all regions of the configuration].
    regions: Vec<String>,
    /// Accept a table that was restored to an earlier time. The region loses the acknowledged changes that it lacks.
    #[arg(long, requires = "regions")]
    accept_older_table: bool,
    /// Print one line of JSON per region and per table of a link.
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
                (false, true) => output::line(format!("created region {name}")),
                (false, false) => output::line(format!("region {name} already exists")),
            }
        }
        for (link, made) in if all { make_link_tables(&config)? } else { Vec::new() } {
            match (command.json, made) {
                (true, _) => output::json(&json!({ "link": link, "made": made }))?,
                (false, true) => output::line(format!("created the table of link {link}")),
                (false, false) => output::line(format!("the table of link {link} already exists")),
            }
        }
        Ok(Exit::Done)
    }
}

/// Initializes all regions of a configuration and the tables of its links.
pub async fn init_all(config: &Config) -> Result<(), Failure> {
    for name in config.regions.keys() {
        open::init_region(config, name, false).await?;
    }
    make_link_tables(config).map(drop)
}

/// Creates the tables of links between two remotes. Returns the name of each such link, and true if its table was
/// missing.
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
