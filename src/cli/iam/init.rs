//! `gitferry iam init`

use clap::Args;
use gitferry_config::Config;
use gitferry_iam::AccountId;
use gitferry_identity::{Founding, found, has_account};
use gitferry_service::open;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;

/// Found the account of a region, with an administrator.
#[derive(Debug, Args)]
#[command(
    after_help = "The account is the repository gitferry/account of the region, and links replicate it: found it in
one region only. Its secrets are sealed with the KMS keys of the configuration (`[account]
kms_key`), or with its key file (`key`, by default account.key beside it), which is made if it is
missing. Every host of the account needs one of them; without, secret access keys cannot be
recovered.

The secret access key is printed once.

Example:
  gitferry iam init --region us-east-1
  gitferry iam init --region us-east-1 --account 111111111111 --administrator ann --json"
)]
pub struct Init {
    /// Region of the account.
    #[arg(long, value_name = "R")]
    region: String,
    /// Id of the account: 12 digits [default: random].
    #[arg(long, value_name = "ID")]
    account: Option<AccountId>,
    /// Name of the account for people: lower-case letters, digits and hyphens.
    #[arg(long)]
    alias: Option<String>,
    /// Name of the administrator, a user with the policy AdministratorAccess.
    #[arg(long, value_name = "NAME", default_value = "administrator")]
    administrator: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Refuses to found an account in a region that a link gives the account of another one: neither would be replicated.
async fn check_linked_regions(config: &Config, region: &str) -> Result<(), Failure> {
    let links = || config.links.iter().filter(|(_, link)| config.carries_account(link));
    for (name, link) in links() {
        let goes_back = links().any(|(_, other)| other.source == link.target && other.target == link.source);
        if link.target == region && !goes_back {
            let source = &link.source;
            return Err(Failure::usage(format!("links.{name} brings the account of {source} to {region}"))
                .hint(format!("found it there: `gitferry iam init --region {source}`")));
        }
        let other = if link.source == region {
            &link.target
        } else if link.target == region {
            &link.source
        } else {
            continue;
        };
        if has_account(&open::region(config, other).await?).await? {
            let hint = format!("`gitferry iam user list --region {other}` shows its users");
            return Err(Failure::usage(format!("region {other} has an account already, and links.{name} connects it"))
                .hint(hint));
        }
    }
    Ok(())
}

impl Init {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config()?;
        let region = open::writable_region(&config, &self.region).await?;
        check_linked_regions(&config, &self.region).await?;
        let services = open::make_key_services(&config).await?;
        let founding = Founding { account: self.account, alias: self.alias, administrator: self.administrator };
        let founded = found(&region, &services, founding).await?;
        let key = &founded.access_key;
        if self.json {
            output::json(&json!({
                "account": founded.account.as_str(),
                "user": founded.user_arn,
                "access_key_id": key.id,
                "secret_access_key": key.secret.expose(),
            }))?;
        } else {
            output::line(format!("account            {}", founded.account));
            output::line(format!("user               {}", founded.user_arn));
            output::line(format!("access key id      {}", key.id));
            output::line(format!("secret access key  {}", key.secret.expose()));
            output::note("The secret access key is not shown again.");
            if let Some(file) = config.account.key_file() {
                output::note(format!("Keep {} safe: hosts need it.", config.path(file).display()));
            }
        }
        Ok(Exit::Done)
    }
}
