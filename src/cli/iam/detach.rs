//! `gitferry iam detach`

use clap::Args;
use gitferry_service::open;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;

/// Remove the replica of another region's account from a region.
#[derive(Debug, Args)]
#[command(
    after_help = "For a region that no link brings the account to any more: its hosts would go on to accept what is
revoked in the region of the account. Running hosts with `auth = \"iam\"` refuse every request
within 2 seconds. The documents stay under the id of the repository; a link that carries the
account attaches them again, and `gitferry iam init` founds another account.

Example:
  gitferry iam detach --region eu-west-1 --yes"
)]
pub struct Detach {
    /// Region to detach.
    #[arg(long, value_name = "R")]
    region: String,
    /// Confirm that hosts of the region shall refuse every request.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Detach {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config()?;
        let region = &self.region;
        if let Some((name, link)) = config.account_link_to(region) {
            let source = &link.source;
            return Err(Failure::usage(format!("links.{name} brings the account of {source} to {region}")).hint(
                format!("set account = false in links.{name} first, and start the processes that read it again"),
            ));
        }
        if !self.yes {
            let reason = format!("hosts of {region} refuse every request once it is detached from its account");
            return Err(Failure::usage(reason).hint("confirm with --yes"));
        }
        let opened = open::writable_region(&config, region).await?;
        let item = opened.repositories().detach_account().await?;
        let source = &item.head.epoch.region;
        if self.json {
            output::json(&json!({ "region": region, "account_of": source, "id": item.id }))?;
        } else {
            output::line(format!(
                "detached {region} from the account of {source}; its documents stay under {}",
                item.id
            ));
        }
        Ok(Exit::Done)
    }
}
