//! `gitferry iam group`

use clap::{Args, Subcommand};
use gitferry_iam::edit::NewGroup;
use serde_json::json;

use super::common::AccountArgs;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};

/// Create, list and delete groups, and change their members.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  gitferry iam group create developers --region us-east-1
  gitferry iam group add developers ann --region us-east-1")]
pub enum GroupCommand {
    Create(Create),
    List(List),
    Delete(Delete),
    /// Add a user to a group.
    #[command(after_help = "Example:\n  gitferry iam group add developers ann --region us-east-1")]
    Add(Member),
    /// Remove a user from a group.
    #[command(after_help = "Example:\n  gitferry iam group remove developers ann --region us-east-1")]
    Remove(Member),
}

/// Create a group.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam group create developers --region us-east-1")]
pub struct Create {
    /// Name of the group.
    name: String,
    /// Path of the group, such as /teams/.
    #[arg(long)]
    path: Option<String>,
    #[command(flatten)]
    common: AccountArgs,
}

/// List the groups with their members.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam group list --region us-east-1")]
pub struct List {
    #[command(flatten)]
    common: AccountArgs,
}

/// Delete a group without members and policies.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam group delete developers --region us-east-1")]
pub struct Delete {
    /// Name of the group.
    name: String,
    #[command(flatten)]
    common: AccountArgs,
}

/// A group and a user.
#[derive(Debug, Args)]
pub struct Member {
    /// Name of the group.
    group: String,
    /// Name of the user.
    user: String,
    #[command(flatten)]
    common: AccountArgs,
}

impl GroupCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            GroupCommand::Create(Create { name, path, common }) => {
                let new = NewGroup { name: name.clone(), path };
                let done = (json!({ "created": name }), format!("created group {name}"));
                common.change(context, |editor| editor.create_group(new.clone()), done).await
            }
            GroupCommand::List(List { common }) => {
                let account = common.read(context).await?;
                let mut values = Vec::new();
                let mut rows = Vec::new();
                for group in account.groups() {
                    let members: Vec<&str> = account.members(&group.name).map(|user| user.name.as_str()).collect();
                    rows.push(vec![group.name.clone(), members.join(" "), group.arn.clone()]);
                    values.push(json!({
                        "name": group.name,
                        "arn": group.arn,
                        "id": group.record.id,
                        "members": members,
                        "attached_policies": group.record.attached_policies,
                        "inline_policies": group.inline.keys().collect::<Vec<_>>(),
                    }));
                }
                common.list("groups", values, &["NAME", "MEMBERS", "ARN"], rows, "there are no groups")
            }
            GroupCommand::Delete(Delete { name, common }) => {
                let done = (json!({ "deleted": name }), format!("deleted group {name}"));
                common.change(context, |editor| editor.delete_group(&name), done).await
            }
            GroupCommand::Add(Member { group, user, common }) => {
                let done = (json!({ "group": group, "added": user }), format!("added {user} to {group}"));
                common.change(context, |editor| editor.add_user_to_group(&user, &group), done).await
            }
            GroupCommand::Remove(Member { group, user, common }) => {
                let done = (json!({ "group": group, "removed": user }), format!("removed {user} from {group}"));
                common.change(context, |editor| editor.remove_user_from_group(&user, &group), done).await
            }
        }
    }
}
