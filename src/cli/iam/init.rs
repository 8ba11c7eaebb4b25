//! `gitferry iam init`

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use gitferry_account::Author;
use gitferry_config::Config;
use gitferry_engine::region::reserved::ACCOUNT;
use gitferry_iam::AccountId;
use gitferry_identity::{Administration, Founded, Founding, found, has_account};
use gitferry_service::open;
use serde_json::json;

use crate::cli::context::{Context, login_name};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;

/// Permissions of the file with the access key.
const KEY_FILE_MODE: u32 = 0o600;

/// Found the account of a region, with an administrator.
#[derive(Debug, Args)]
#[command(
    after_help = "The account is the repository gitferry/account of the region, and links replicate it: found it in
one region only. Its secrets are sealed with the KMS keys of the configuration (`[account]
kms_key`), or with its key file (`key`, by default account.key beside it), which is made if it is
missing. Every host of the account needs one of them; without, secret access keys cannot be
recovered.

The secret access key is printed once. With --access-key it is not printed: the new file has the key
as JSON, in the form that `credential_process` of the AWS command line reads. With --again, too, the
command may be repeated until the key has been kept: the account is founded once, and each run after
that replaces the administrator's access keys by a new one.

Example:
  gitferry iam init --region us-east-1
  gitferry iam init --region us-east-1 --account 111111111111 --administrator ann --json
  gitferry iam init --region us-east-1 --access-key administrator.json --again"
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
    /// New file for the access key, which only its owner may read. The secret is not printed.
    #[arg(long, value_name = "FILE")]
    access_key: Option<PathBuf>,
    /// Replace the access keys of the administrator if the region has its account already.
    #[arg(long, requires = "access_key", conflicts_with_all = ["account", "alias"])]
    again: bool,
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

/// New file of an access key. Removed when dropped, unless the key was written.
#[derive(Debug)]
struct KeyFile<'a> {
    path: &'a Path,
    file: Option<File>,
}

impl<'a> KeyFile<'a> {
    /// Makes the file, before there is a key that could be lost.
    fn create(path: &'a Path) -> Result<Self, Failure> {
        let made = OpenOptions::new().write(true).create_new(true).mode(KEY_FILE_MODE).open(path);
        let file = made.map_err(|error| failure(path, error))?;
        Ok(KeyFile { path, file: Some(file) })
    }

    /// Writes the key in the form that `credential_process` of the AWS command line reads.
    fn write(mut self, founded: &Founded) -> Result<(), Failure> {
        let key = json!({
            "Version": 1,
            "AccessKeyId": founded.access_key.id,
            "SecretAccessKey": founded.access_key.secret.expose(),
            "Account": founded.account.as_str(),
            "UserArn": founded.user_arn,
        });
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = writeln!(file, "{key}").and_then(|()| file.sync_all());
        written.map_err(|error| failure(self.path, error).hint("the key is lost: run the command with --again"))?;
        self.file = None;
        Ok(())
    }
}

impl Drop for KeyFile<'_> {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

fn failure(file: &Path, error: std::io::Error) -> Failure {
    Failure::from(error).about(&format!("the access key cannot be written to {}", file.display()))
}

impl Init {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config()?;
        let file = self.access_key.as_deref().map(KeyFile::create).transpose()?;
        let founded = self.founded(context, &config).await?;
        if let Some(file) = file {
            file.write(&founded)?;
        }
        self.print(&config, &founded)?;
        Ok(Exit::Done)
    }

    /// Founds the account, or replaces the access keys of its administrator.
    async fn founded(&self, context: &Context, config: &Config) -> Result<Founded, Failure> {
        let region = open::writable_region(config, &self.region).await?;
        if self.again && has_account(&region).await? {
            return self.replace_keys(context, config).await;
        }
        check_linked_regions(config, &self.region).await?;
        let services = open::make_key_services(config).await?;
        let administrator = self.administrator.clone();
        let founding = Founding { account: self.account, alias: self.alias.clone(), administrator };
        Ok(found(&region, &services, founding).await?)
    }

    /// Deletes all access keys of the administrator, and makes one. An interrupted replacement is finished by the next.
    async fn replace_keys(&self, context: &Context, config: &Config) -> Result<Founded, Failure> {
        let region = context.region_to_change(&self.region, ACCOUNT).await?;
        let services = open::key_services(config, Some(&self.region)).await?;
        let administration = Administration::open(&region, services).await?;
        let account = administration.account().await?;
        let keys = administration.keys(&account).await?;
        let author = Author::new(login_name(), account.id().root_arn());
        let name = &self.administrator;
        let user = account.user(name).ok_or_else(|| {
            let hint = "name the administrator with --administrator; `gitferry iam user list` shows all users";
            Failure::usage(format!("the account has no user {name}")).hint(hint)
        })?;
        for id in user.access_keys.keys() {
            administration.change(&author, |editor| Ok((editor.delete_access_key(name, id)?, ()))).await?;
        }
        let access_key = administration.change(&author, |editor| editor.create_access_key(name, &keys)).await?;
        Ok(Founded { account: account.id(), user_arn: user.arn.clone(), access_key })
    }

    fn print(&self, config: &Config, founded: &Founded) -> Result<(), Failure> {
        let key = &founded.access_key;
        if self.json {
            let mut value = json!({
                "account": founded.account.as_str(),
                "user": founded.user_arn,
                "access_key_id": key.id,
            });
            match &self.access_key {
                Some(file) => value["access_key_file"] = json!(file),
                None => value["secret_access_key"] = json!(key.secret.expose()),
            }
            output::json(&value)?;
            return Ok(());
        }
        output::line(format!("account            {}", founded.account));
        output::line(format!("user               {}", founded.user_arn));
        output::line(format!("access key id      {}", key.id));
        match &self.access_key {
            Some(file) => output::line(format!("secret access key  in {}", file.display())),
            None => {
                output::line(format!("secret access key  {}", key.secret.expose()));
                output::note("The secret access key is not shown again.");
            }
        }
        if let Some(file) = config.account.key_file() {
            output::note(format!("Keep {} safe: hosts need it.", config.path(file).display()));
        }
        Ok(())
    }
}
