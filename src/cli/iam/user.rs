//! `gitferry iam user`

use clap::{Args, Subcommand};
use gitferry_iam::edit::NewUser;
use gitferry_iam::model::User;
use serde_json::{Value, json};

use super::common::{AccountArgs, tag};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};

/// Create, list, show and delete users.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  gitferry iam user create ann --region us-east-1
  gitferry iam user show ann --region us-east-1 --json")]
pub enum UserCommand {
    Create(Create),
    List(List),
    Show(Show),
    Delete(Delete),
}

/// Create a user, who may do nothing until a policy allows it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam user create ann --tag team=infra --region us-east-1")]
pub struct Create {
    /// Name of the user.
    name: String,
    /// Path of the user, such as /people/.
    #[arg(long)]
    path: Option<String>,
    /// ARN of the policy that bounds all rights of the user.
    #[arg(long, value_name = "ARN")]
    permissions_boundary: Option<String>,
    /// Tag, which policies see as aws:PrincipalTag. May be given several times.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    #[command(flatten)]
    common: AccountArgs,
}

/// List the users.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam user list --region us-east-1 --json")]
pub struct List {
    #[command(flatten)]
    common: AccountArgs,
}

/// Show a user with groups, policies and credentials.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam user show ann --region us-east-1")]
pub struct Show {
    /// Name of the user.
    name: String,
    #[command(flatten)]
    common: AccountArgs,
}

/// Delete a user without credentials, policies and groups.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam user delete ann --region us-east-1")]
pub struct Delete {
    /// Name of the user.
    name: String,
    #[command(flatten)]
    common: AccountArgs,
}

impl UserCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            UserCommand::Create(command) => command.run(context).await,
            UserCommand::List(List { common }) => {
                let account = common.read(context).await?;
                let users: Vec<_> = account.users().collect();
                let rows = users.iter().map(|user| vec![user.name.clone(), user.record.id.clone(), user.arn.clone()]);
                let values = users.iter().map(|user| describe(user)).collect();
                common.list("users", values, &["NAME", "ID", "ARN"], rows.collect(), "there are no users")
            }
            UserCommand::Show(Show { name, common }) => {
                let account = common.read(context).await?;
                let user = account.user(&name).ok_or_else(|| Failure::usage(format!("there is no user {name}")))?;
                let value = describe(user);
                let text = serde_json::to_string_pretty(&value)?;
                common.print(&value, text)
            }
            UserCommand::Delete(Delete { name, common }) => {
                let done = (json!({ "deleted": name }), format!("deleted user {name}"));
                common.change(context, |editor| editor.delete_user(&name), done).await
            }
        }
    }
}

impl Create {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let Create { name, path, permissions_boundary, tags, common } = self;
        let new = NewUser { name: name.clone(), path, permissions_boundary, tags };
        let opened = common.open(context).await?;
        opened.change(|editor| Ok((editor.create_user(new.clone())?, ()))).await?;
        let account = opened.administration.account().await?;
        let user = account.user(&name).ok_or_else(|| Failure::usage(format!("user {name} was deleted meanwhile")))?;
        common.print(&describe(user), format!("created user {}", user.arn))
    }
}

fn describe(user: &User) -> Value {
    let record = &user.record;
    let keys = user
        .access_keys
        .iter()
        .map(|(id, key)| json!({ "access_key_id": id, "status": key.status.as_str(), "created": key.created }));
    let ssh_keys = user
        .ssh_keys
        .iter()
        .map(|(id, key)| json!({ "ssh_key_id": id, "status": key.status.as_str(), "fingerprint": key.fingerprint }));
    let git_credentials = user.git_credentials.iter().map(
        |(id, credential)| json!({ "id": id, "user_name": credential.user_name, "status": credential.status.as_str() }),
    );
    json!({
        "name": user.name,
        "arn": user.arn,
        "id": record.id,
        "created": record.created,
        "groups": record.groups,
        "attached_policies": record.attached_policies,
        "inline_policies": user.inline.keys().collect::<Vec<_>>(),
        "permissions_boundary": record.permissions_boundary,
        "tags": record.tags,
        "access_keys": keys.collect::<Vec<_>>(),
        "ssh_keys": ssh_keys.collect::<Vec<_>>(),
        "git_credentials": git_credentials.collect::<Vec<_>>(),
    })
}
