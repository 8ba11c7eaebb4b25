//! `gitferry iam quota`

use bytesize::ByteSize;
use clap::{Args, Subcommand};
use gitferry_iam::model::{NO_LIMIT, Quota};
use serde_json::json;

use super::common::AccountArgs;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};

/// Show and set the quotas of the account.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  gitferry iam quota list --region us-east-1
  gitferry iam quota set RepositoryBytesQuota 10GiB --region us-east-1")]
pub enum QuotaCommand {
    List(List),
    Set(Set),
}

/// List the quotas with their limits.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam quota list --region us-east-1")]
pub struct List {
    #[command(flatten)]
    common: AccountArgs,
}

/// Set the limit of a quota.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam quota set RequestsPerMinuteQuota 600 --region us-east-1")]
pub struct Set {
    /// Name of the quota, as `list` shows it.
    #[arg(value_parser = quota)]
    name: Quota,
    /// A number, a size such as 10GiB, or `none` for no limit.
    #[arg(value_parser = limit)]
    limit: u64,
    #[command(flatten)]
    common: AccountArgs,
}

fn quota(name: &str) -> Result<Quota, String> {
    Quota::from_name(name).ok_or_else(|| "no quota has this name; `gitferry iam quota list` has all".to_owned())
}

fn limit(text: &str) -> Result<u64, String> {
    if text == "none" {
        return Ok(NO_LIMIT);
    }
    let size: Result<ByteSize, _> = text.parse();
    size.map(|size| size.as_u64()).map_err(|_| "a limit is a number, a size such as 10GiB, or `none`".to_owned())
}

/// A limit as JSON has it: null for none.
fn shown(limit: u64) -> Option<u64> {
    Some(limit).filter(|limit| *limit != NO_LIMIT)
}

fn text(limit: u64) -> String {
    shown(limit).map_or("none".into(), |limit| limit.to_string())
}

impl QuotaCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            QuotaCommand::List(List { common }) => {
                let account = common.read(context).await?;
                let quotas = &account.settings().quotas;
                let mut values = Vec::new();
                let mut rows = Vec::new();
                for quota in Quota::ALL {
                    let limit = quotas.limit(*quota);
                    let is_set = quotas.set(*quota).is_some();
                    let origin = if is_set { "account" } else { "default" };
                    rows.push(vec![quota.as_str().to_owned(), text(limit), origin.to_owned()]);
                    values.push(json!({ "name": quota.as_str(), "limit": shown(limit), "set": is_set }));
                }
                common.list("quotas", values, &["NAME", "LIMIT", "SET BY"], rows, "there are no quotas")
            }
            QuotaCommand::Set(Set { name, limit, common }) => {
                let shown = json!({ "name": name.as_str(), "limit": shown(limit) });
                let done = (shown, format!("{} is {}", name.as_str(), text(limit)));
                common.change(context, |editor| editor.set_quota(name, limit), done).await
            }
        }
    }
}
