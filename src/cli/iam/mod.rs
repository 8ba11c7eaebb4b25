//! `gitferry iam`: the account of users, groups, roles and policies.

mod common;
mod credentials;
mod data_key;
mod detach;
mod group;
mod init;
mod policy;
mod policy_files;
mod quota;
mod role;
mod simulate;
mod user;

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};

/// Found and change the account of users, groups, roles and policies.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  gitferry iam init --region us-east-1
  gitferry iam user create ann --region us-east-1
  gitferry iam policy put push-all push-all.json --user ann --region us-east-1
  gitferry iam git-credential create --user ann --region us-east-1")]
pub enum Iam {
    Init(init::Init),
    Detach(detach::Detach),
    Simulate(simulate::Simulate),
    #[command(subcommand)]
    User(user::UserCommand),
    #[command(subcommand)]
    Group(group::GroupCommand),
    #[command(subcommand)]
    Role(role::RoleCommand),
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    #[command(subcommand)]
    Quota(quota::QuotaCommand),
    #[command(subcommand)]
    AccessKey(credentials::AccessKeyCommand),
    #[command(subcommand)]
    GitCredential(credentials::GitCredentialCommand),
    #[command(subcommand)]
    SshKey(credentials::SshKeyCommand),
    #[command(subcommand)]
    DataKey(data_key::DataKeyCommand),
}

impl Iam {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Iam::Init(command) => command.run(context).await,
            Iam::Detach(command) => command.run(context).await,
            Iam::Simulate(command) => command.run(context).await,
            Iam::User(command) => command.run(context).await,
            Iam::Group(command) => command.run(context).await,
            Iam::Role(command) => command.run(context).await,
            Iam::Policy(command) => command.run(context).await,
            Iam::Quota(command) => command.run(context).await,
            Iam::AccessKey(command) => command.run(context).await,
            Iam::GitCredential(command) => command.run(context).await,
            Iam::SshKey(command) => command.run(context).await,
            Iam::DataKey(command) => command.run(context).await,
        }
    }
}
