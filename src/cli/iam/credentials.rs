//! `gitferry iam access-key`, `git-credential` and `ssh-key`: the credentials of users.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gitferry_iam::edit::NewGitCredential;
use gitferry_iam::model::{GIT_SERVICE, Status};
use serde_json::json;

use super::common::{AccountArgs, read_document};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};

/// Create, deactivate and delete access keys, two for each user.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  gitferry iam access-key create --user ann --region us-east-1")]
pub enum AccessKeyCommand {
    /// Create an access key. Its secret is printed once.
    #[command(after_help = "Example:\n  gitferry iam access-key create --user ann --region us-east-1 --json")]
    Create(Create),
    /// Accept an access key again.
    #[command(
        after_help = "Example:\n  gitferry iam access-key activate AKIAIOSFODNN7EXAMPLE --user ann --region us-east-1"
    )]
    Activate(Existing),
    /// Refuse an access key, and keep it.
    #[command(
        after_help = "Example:\n  gitferry iam access-key deactivate AKIAIOSFODNN7EXAMPLE --user ann --region us-east-1"
    )]
    Deactivate(Existing),
    /// Delete an access key.
    #[command(
        after_help = "Example:\n  gitferry iam access-key delete AKIAIOSFODNN7EXAMPLE --user ann --region us-east-1"
    )]
    Delete(Existing),
}

/// Create, reset, deactivate and delete user names and passwords for Git over HTTPS, two for each user.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  gitferry iam git-credential create --user ann --region us-east-1")]
pub enum GitCredentialCommand {
    /// Create a Git credential. Its password is printed once.
    #[command(after_help = "Example:\n  gitferry iam git-credential create --user ann --region us-east-1 --json")]
    Create(Create),
    /// Give a Git credential a new password, printed once.
    #[command(
        after_help = "Example:\n  gitferry iam git-credential reset ACCAIOSFODNN7EXAMPLE --user ann --region us-east-1"
    )]
    Reset(Existing),
    /// Accept a Git credential again.
    #[command(
        after_help = "Example:\n  gitferry iam git-credential activate ACCAIOSFODNN7EXAMPLE --user ann --region us-east-1"
    )]
    Activate(Existing),
    /// Refuse a Git credential, and keep it.
    #[command(
        after_help = "Example:\n  gitferry iam git-credential deactivate ACCAIOSFODNN7EXAMPLE --user ann --region us-east-1"
    )]
    Deactivate(Existing),
    /// Delete a Git credential.
    #[command(
        after_help = "Example:\n  gitferry iam git-credential delete ACCAIOSFODNN7EXAMPLE --user ann --region us-east-1"
    )]
    Delete(Existing),
}

/// Upload, deactivate and delete SSH public keys, five for each user.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  gitferry iam ssh-key upload id_ed25519.pub --user ann --region us-east-1")]
pub enum SshKeyCommand {
    Upload(Upload),
    /// Accept a public key again.
    #[command(
        after_help = "Example:\n  gitferry iam ssh-key activate APKAIOSFODNN7EXAMPLE --user ann --region us-east-1"
    )]
    Activate(Existing),
    /// Refuse a public key, and keep it.
    #[command(
        after_help = "Example:\n  gitferry iam ssh-key deactivate APKAIOSFODNN7EXAMPLE --user ann --region us-east-1"
    )]
    Deactivate(Existing),
    /// Delete a public key.
    #[command(
        after_help = "Example:\n  gitferry iam ssh-key delete APKAIOSFODNN7EXAMPLE --user ann --region us-east-1"
    )]
    Delete(Existing),
}

/// The user of a new credential.
#[derive(Debug, Args)]
pub struct Create {
    /// Name of the user.
    #[arg(long)]
    user: String,
    #[command(flatten)]
    common: AccountArgs,
}

/// A credential of a user.
#[derive(Debug, Args)]
pub struct Existing {
    /// Id of the credential, as `gitferry iam user show` prints it.
    id: String,
    /// Name of the user.
    #[arg(long)]
    user: String,
    #[command(flatten)]
    common: AccountArgs,
}

/// Upload a public key. The id that is printed is the user name of SSH.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry iam ssh-key upload id_ed25519.pub --user ann --region us-east-1")]
pub struct Upload {
    /// File with the public key, as ssh-keygen writes it.
    file: PathBuf,
    /// Name of the user.
    #[arg(long)]
    user: String,
    #[command(flatten)]
    common: AccountArgs,
}

impl AccessKeyCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            AccessKeyCommand::Create(Create { user, common }) => {
                let opened = common.open(context).await?;
                let keys = opened.administration.keys(&opened.account).await?;
                let key = opened.change(|editor| editor.create_access_key(&user, &keys)).await?;
                let secret = key.secret.expose();
                let value = json!({ "user": user, "access_key_id": key.id, "secret_access_key": secret });
                common.print(&value, format!("access key id      {}\nsecret access key  {secret}", key.id))
            }
            AccessKeyCommand::Activate(key) => key.set_access_key(context, Status::Active).await,
            AccessKeyCommand::Deactivate(key) => key.set_access_key(context, Status::Inactive).await,
            AccessKeyCommand::Delete(Existing { id, user, common }) => {
                let done = (json!({ "deleted": id }), format!("deleted access key {id} of {user}"));
                common.change(context, |editor| editor.delete_access_key(&user, &id), done).await
            }
        }
    }
}

impl GitCredentialCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            GitCredentialCommand::Create(Create { user, common }) => {
                let opened = common.open(context).await?;
                let made = opened.change(|editor| editor.create_git_credential(&user, GIT_SERVICE)).await?;
                print_git_credential(&common, &user, &made)
            }
            GitCredentialCommand::Reset(Existing { id, user, common }) => {
                let opened = common.open(context).await?;
                let made = opened.change(|editor| editor.reset_git_credential(&user, &id)).await?;
                print_git_credential(&common, &user, &made)
            }
            GitCredentialCommand::Activate(credential) => credential.set_git_credential(context, Status::Active).await,
            GitCredentialCommand::Deactivate(credential) => {
                credential.set_git_credential(context, Status::Inactive).await
            }
            GitCredentialCommand::Delete(Existing { id, user, common }) => {
                let done = (json!({ "deleted": id }), format!("deleted Git credential {id} of {user}"));
                common.change(context, |editor| editor.delete_git_credential(&user, &id), done).await
            }
        }
    }
}

fn print_git_credential(common: &AccountArgs, user: &str, made: &NewGitCredential) -> Result<Exit, Failure> {
    let password = made.password.expose();
    let value = json!({ "user": user, "id": made.id, "user_name": made.user_name, "password": password });
    common.print(&value, format!("id         {}\nuser name  {}\npassword   {password}", made.id, made.user_name))
}

impl SshKeyCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            SshKeyCommand::Upload(Upload { file, user, common }) => {
                let key = read_document(&file)?;
                let opened = common.open(context).await?;
                let id = opened.change(|editor| editor.upload_ssh_key(&user, &key)).await?;
                common.print(&json!({ "user": user, "ssh_key_id": id }), format!("SSH key id {id}"))
            }
            SshKeyCommand::Activate(key) => key.set_ssh_key(context, Status::Active).await,
            SshKeyCommand::Deactivate(key) => key.set_ssh_key(context, Status::Inactive).await,
            SshKeyCommand::Delete(Existing { id, user, common }) => {
                let done = (json!({ "deleted": id }), format!("deleted SSH key {id} of {user}"));
                common.change(context, |editor| editor.delete_ssh_key(&user, &id), done).await
            }
        }
    }
}

impl Existing {
    fn done(&self, status: Status) -> (serde_json::Value, String) {
        let word = status.as_str();
        (json!({ "id": self.id, "status": word }), format!("{} of {} is {word}", self.id, self.user))
    }

    async fn set_access_key(self, context: &Context, status: Status) -> Result<Exit, Failure> {
        let done = self.done(status);
        let Existing { id, user, common } = self;
        common.change(context, |editor| editor.update_access_key(&user, &id, status), done).await
    }

    async fn set_git_credential(self, context: &Context, status: Status) -> Result<Exit, Failure> {
        let done = self.done(status);
        let Existing { id, user, common } = self;
        common.change(context, |editor| editor.update_git_credential(&user, &id, status), done).await
    }

    async fn set_ssh_key(self, context: &Context, status: Status) -> Result<Exit, Failure> {
        let done = self.done(status);
        let Existing { id, user, common } = self;
        common.change(context, |editor| editor.update_ssh_key(&user, &id, status), done).await
    }
}
