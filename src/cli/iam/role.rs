//! `gitferry iam role`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gitferry_iam::edit::NewRole;
use serde_json::json;

use super::common::{AccountArgs, read_document, tag};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};

/// Create, list and delete roles, and change who may assume them.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  gitferry iam role create ci --trust trust.json --region us-east-1")]
pub enum RoleCommand {
    Create(Create),
    List(List),
    Trust(Trust),
    Delete(Delete),
}

/// Create a role.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam role create ci --trust trust.json --region us-east-1")]
pub struct Create {
    /// Name of the role.
    name: String,
    /// File with the trust policy: who may assume the role.
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// Path of the role, such as /services/.
    #[arg(long)]
    path: Option<String>,
    /// Description for people.
    #[arg(long)]
    description: Option<String>,
    /// Longest session in seconds, 3600 to 43200 [default: 3600].
    #[arg(long, value_name = "SECONDS")]
    max_session: Option<u32>,
    /// ARN of the policy that bounds all rights of the role.
    #[arg(long, value_name = "ARN")]
    permissions_boundary: Option<String>,
    /// Tag, which policies see as aws:PrincipalTag. May be given several times.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    #[command(flatten)]
    common: AccountArgs,
}

/// List the roles.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam role list --region us-east-1 --json")]
pub struct List {
    #[command(flatten)]
    common: AccountArgs,
}

/// Replace the trust policy of a role.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam role trust ci trust.json --region us-east-1")]
pub struct Trust {
    /// Name of the role.
    name: String,
    /// File with the trust policy.
    file: PathBuf,
    #[command(flatten)]
    common: AccountArgs,
}

/// Delete a role without policies. Its sessions end at once.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam role delete ci --region us-east-1")]
pub struct Delete {
    /// Name of the role.
    name: String,
    #[command(flatten)]
    common: AccountArgs,
}

impl RoleCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            RoleCommand::Create(command) => command.run(context).await,
            RoleCommand::List(List { common }) => {
                let account = common.read(context).await?;
                let roles: Vec<_> = account.roles().collect();
                let rows = roles.iter().map(|role| vec![role.name.clone(), role.record.id.clone(), role.arn.clone()]);
                let values = roles.iter().map(|role| {
                    json!({
                        "name": role.name,
                        "arn": role.arn,
                        "id": role.record.id,
                        "trust_policy": role.record.trust_policy,
                        "max_session_seconds": role.record.max_session_seconds,
                        "attached_policies": role.record.attached_policies,
                        "inline_policies": role.inline.keys().collect::<Vec<_>>(),
                    })
                });
                common.list("roles", values.collect(), &["NAME", "ID", "ARN"], rows.collect(), "there are no roles")
            }
            RoleCommand::Trust(Trust { name, file, common }) => {
                let text = read_document(&file)?;
                let done = (json!({ "role": name }), format!("replaced the trust policy of {name}"));
                common.change(context, |editor| editor.update_trust_policy(&name, &text), done).await
            }
            RoleCommand::Delete(Delete { name, common }) => {
                let done = (json!({ "deleted": name }), format!("deleted role {name}"));
                common.change(context, |editor| editor.delete_role(&name), done).await
            }
        }
    }
}

impl Create {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let Create { name, trust, path, description, max_session, permissions_boundary, tags, common } = self;
        let new = NewRole {
            name: name.clone(),
            path,
            trust_policy: read_document(&trust)?,
            description,
            max_session_seconds: max_session,
            permissions_boundary,
            tags,
        };
        let done = (json!({ "created": name }), format!("created role {name}"));
        common.change(context, |editor| editor.create_role(new.clone()), done).await
    }
}
