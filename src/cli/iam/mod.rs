//! `gitferry iam`

mod policy_files;
mod simulate;

use clap::Subcommand;

use super::failure::{Exit, Failure};

/// Work with IAM policies.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Example:\n  gitferry iam simulate --policy deny-main.json --action codecommit:GitPush --resource '*'"
)]
pub enum Iam {
    Simulate(simulate::Simulate),
}

impl Iam {
    pub fn run(self) -> Result<Exit, Failure> {
        match self {
            Iam::Simulate(command) => command.run(),
        }
    }
}
