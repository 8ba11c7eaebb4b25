//! `gitferry iam policy`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gitferry_iam::edit::NewPolicy;
use serde_json::json;

use super::common::{AccountArgs, Holder, read_document};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};

/// Create, list, change and delete managed policies, and give policies to users, groups and roles.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  gitferry iam policy attach arn:aws:iam::111111111111:policy/prod --user ann --region us-east-1
  gitferry iam policy put protect-prod prod.json --group developers --region us-east-1")]
pub enum PolicyCommand {
    Create(Create),
    Update(Update),
    List(List),
    Delete(Delete),
    /// Attach a managed policy to a user, group or role.
    #[command(
        after_help = "Example:\n  gitferry iam policy attach arn:aws:iam::111111111111:policy/prod --user ann --region us-east-1"
    )]
    Attach(Attachment),
    /// Detach a managed policy from a user, group or role.
    #[command(
        after_help = "Example:\n  gitferry iam policy detach arn:aws:iam::111111111111:policy/prod --user ann --region us-east-1"
    )]
    Detach(Attachment),
    Put(Put),
    Remove(Remove),
}

/// Create a managed policy of the account.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam policy create protect-prod prod.json --region us-east-1")]
pub struct Create {
    /// Name of the policy.
    name: String,
    /// File with the policy.
    file: PathBuf,
    /// Description for people, which cannot be changed.
    #[arg(long)]
    description: Option<String>,
    #[command(flatten)]
    common: AccountArgs,
}

/// Add a version to a managed policy, and put it in force.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  gitferry iam policy update arn:aws:iam::111111111111:policy/prod prod.json --region us-east-1")]
pub struct Update {
    /// ARN of the policy.
    arn: String,
    /// File with the policy.
    file: PathBuf,
    #[command(flatten)]
    common: AccountArgs,
}

/// List the managed policies of the account.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam policy list --region us-east-1 --json")]
pub struct List {
    #[command(flatten)]
    common: AccountArgs,
}

/// Delete a managed policy that is attached nowhere and has one version.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  gitferry iam policy delete arn:aws:iam::111111111111:policy/prod --region us-east-1")]
pub struct Delete {
    /// ARN of the policy.
    arn: String,
    #[command(flatten)]
    common: AccountArgs,
}

/// A managed policy, and its holder.
#[derive(Debug, Args)]
pub struct Attachment {
    /// ARN of the policy: of this account, or of AWS.
    arn: String,
    #[command(flatten)]
    holder: Holder,
    #[command(flatten)]
    common: AccountArgs,
}

/// Write an inline policy of a user, group or role.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam policy put protect-prod prod.json --user ann --region us-east-1")]
pub struct Put {
    /// Name of the inline policy.
    name: String,
    /// File with the policy.
    file: PathBuf,
    #[command(flatten)]
    holder: Holder,
    #[command(flatten)]
    common: AccountArgs,
}

/// Remove an inline policy of a user, group or role.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam policy remove protect-prod --user ann --region us-east-1")]
pub struct Remove {
    /// Name of the inline policy.
    name: String,
    #[command(flatten)]
    holder: Holder,
    #[command(flatten)]
    common: AccountArgs,
}

impl PolicyCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            PolicyCommand::Create(command) => command.run(context).await,
            PolicyCommand::Update(Update { arn, file, common }) => {
                let text = read_document(&file)?;
                let opened = common.open(context).await?;
                let version = opened.change(|editor| editor.create_policy_version(&arn, &text, true)).await?;
                let value = json!({ "arn": arn, "version": format!("v{version}") });
                common.print(&value, format!("version v{version} of {arn} is in force"))
            }
            PolicyCommand::List(command) => command.run(context).await,
            PolicyCommand::Delete(Delete { arn, common }) => {
                let done = (json!({ "deleted": arn }), format!("deleted {arn}"));
                common.change(context, |editor| editor.delete_policy(&arn), done).await
            }
            PolicyCommand::Attach(Attachment { arn, holder, common }) => {
                let (kind, name) = holder.entity();
                let done = (json!({ "attached": arn, "to": name }), format!("attached {arn} to {name}"));
                common.change(context, |editor| editor.attach_policy(kind, name, &arn), done).await
            }
            PolicyCommand::Detach(Attachment { arn, holder, common }) => {
                let (kind, name) = holder.entity();
                let done = (json!({ "detached": arn, "from": name }), format!("detached {arn} from {name}"));
                common.change(context, |editor| editor.detach_policy(kind, name, &arn), done).await
            }
            PolicyCommand::Put(Put { name: policy, file, holder, common }) => {
                let text = read_document(&file)?;
                let (kind, name) = holder.entity();
                let done = (json!({ "put": policy, "of": name }), format!("wrote policy {policy} of {name}"));
                common.change(context, |editor| editor.put_policy(kind, name, &policy, &text), done).await
            }
            PolicyCommand::Remove(Remove { name: policy, holder, common }) => {
                let (kind, name) = holder.entity();
                let done = (json!({ "removed": policy, "of": name }), format!("removed policy {policy} of {name}"));
                common.change(context, |editor| editor.delete_inline_policy(kind, name, &policy), done).await
            }
        }
    }
}

impl Create {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let Create { name, file, description, common } = self;
        let document = read_document(&file)?;
        let new = NewPolicy { name: name.clone(), document, description, ..NewPolicy::default() };
        let opened = common.open(context).await?;
        opened.change(|editor| Ok((editor.create_policy(new.clone())?, ()))).await?;
        let arn = format!("arn:aws:iam::{}:policy/{name}", opened.account.id());
        common.print(&json!({ "arn": arn }), format!("created {arn}"))
    }
}

impl List {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let List { common } = self;
        let account = common.read(context).await?;
        let mut values = Vec::new();
        let mut rows = Vec::new();
        for policy in account.policies() {
            let version = format!("v{}", policy.record.default_version);
            rows.push(vec![policy.name.clone(), version.clone(), policy.arn.clone()]);
            values.push(json!({
                "name": policy.name,
                "arn": policy.arn,
                "id": policy.record.id,
                "default_version": version,
                "document": policy.default_version().map(|version| &version.text),
            }));
        }
        common.list("policies", values, &["NAME", "VERSION", "ARN"], rows, "there are no managed policies")
    }
}
