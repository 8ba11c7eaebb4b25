//! `gitferry repo`

use clap::{Args, Subcommand};
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::{Heads, Region, Unreadable, is_visible};
use gitferry_git::refs::{RefName, RefValue};
use serde_json::json;

use super::context::{Context, actor};
use super::failure::{Exit, Failure};
use super::output;
use super::repo_encryption::{Reencrypt, SetKmsKey};

/// Create, list, show, rename and delete repositories, and set their HEAD and encryption.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  gitferry repo create team/app --region us-east-1
  gitferry repo list --region us-east-1
  gitferry repo rename team/app team/web --region us-east-1
  gitferry repo set-head team/app trunk --region us-east-1")]
pub enum Repo {
    Create(Create),
    List(List),
    Show(Show),
    Rename(Rename),
    SetHead(SetHead),
    Delete(Delete),
    SetKmsKey(SetKmsKey),
    Reencrypt(Reencrypt),
}

/// Arguments of all commands on repositories.
#[derive(Debug, Args)]
struct CommonArgs {
    /// Region of the repository.
    #[arg(long, value_name = "R")]
    region: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Create an empty repository.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry repo create team/app --region us-east-1")]
pub struct Create {
    /// Name of the repository.
    name: String,
    #[command(flatten)]
    common: CommonArgs,
    /// Object format: the hash function of its object ids.
    #[arg(long, default_value = "sha1", value_parser = ["sha1", "sha256"])]
    object_format: String,
}

/// List the repositories of a region.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 3 if a repository cannot be read: its error is printed, and the others are listed.

Example:
  gitferry repo list --region us-east-1 --json")]
pub struct List {
    #[command(flatten)]
    common: CommonArgs,
    /// List deleted repositories, too.
    #[arg(long)]
    deleted: bool,
}

/// Show one repository.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry repo show team/app --region eu-west-1")]
pub struct Show {
    /// Name or id of the repository.
    name: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// Rename a repository; its replicas follow.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry repo rename team/app team/web --region us-east-1")]
pub struct Rename {
    /// Name or id of the repository.
    name: String,
    /// New name.
    new_name: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// Set the default branch: the branch that HEAD names, a clone checks out, and no push can delete. Replicas follow.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry repo set-head team/app trunk --region us-east-1")]
pub struct SetHead {
    /// Name or id of the repository.
    name: String,
    /// Branch, as `trunk` or `refs/heads/trunk`.
    branch: String,
    #[command(flatten)]
    common: CommonArgs,
    /// Accept a branch that does not exist yet.
    #[arg(long)]
    unborn: bool,
    /// Only print the change that would be made.
    #[arg(long)]
    dry_run: bool,
}

/// Delete a repository. A tombstone stays for the retention period, in this region and at its replicas.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry repo delete team/app --region us-east-1")]
pub struct Delete {
    /// Name or id of the repository.
    name: String,
    #[command(flatten)]
    common: CommonArgs,
}

impl Repo {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Repo::Create(command) => {
                let region = context.region_to_change(&command.common.region, &command.name).await?;
                let unknown = |_| Failure::usage("the object format is neither sha1 nor sha256");
                let format = command.object_format.parse().map_err(unknown)?;
                let item = region.repositories().create(&command.name, format, &actor()).await?;
                command.common.print(&item, format!("created {} in {}", item.head.name, region.name()))
            }
            Repo::List(command) => command.run(context).await,
            Repo::Show(command) => command.run(context).await,
            Repo::Rename(command) => {
                let region = context.region_to_change(&command.common.region, &command.name).await?;
                let item = region.repositories().rename(&command.name, &command.new_name, &actor()).await?;
                command.common.print(&item, format!("renamed {} to {}", command.name, item.head.name))
            }
            Repo::SetHead(command) => command.run(context).await,
            Repo::SetKmsKey(command) => command.run(context).await,
            Repo::Reencrypt(command) => command.run(context).await,
            Repo::Delete(command) => {
                let region = context.region_to_change(&command.common.region, &command.name).await?;
                let item = region.repositories().delete(&command.name, &actor()).await?;
                let text =
                    format!("deleted {}; its tombstone {} stays for the retention period", command.name, item.id);
                command.common.print(&item, text)
            }
        }
    }
}

impl CommonArgs {
    fn print(&self, item: &HeadItem, text: String) -> Result<Exit, Failure> {
        if self.json {
            output::json(&describe(item))?;
        } else {
            output::line(text);
        }
        Ok(Exit::Done)
    }
}

impl List {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let region = context.region(&self.common.region).await?;
        let Heads { mut items, unreadable } = region.repositories().heads().await?;
        for Unreadable { error, .. } in &unreadable {
            output::note(format!("error: {error}"));
        }
        let exit = if unreadable.is_empty() { Exit::Done } else { Exit::Failed };
        items.retain(|item| self.deleted || is_visible(&item.head));
        items.sort_by(|a, b| a.head.name.cmp(&b.head.name));
        if self.common.json {
            let failed = unreadable.iter().map(|unreadable| {
                let error = unreadable.error.to_string();
                json!({ "id": unreadable.id, "name": unreadable.name, "error": error })
            });
            let all: Vec<serde_json::Value> = items.iter().map(describe).chain(failed).collect();
            output::json(&json!({ "region": region.name(), "repositories": all }))?;
            return Ok(exit);
        }
        if items.is_empty() {
            output::line(format!("there are no repositories in {}", region.name()));
            return Ok(exit);
        }
        let heading = ["NAME", "STATE", "ROLE", "REFS", "CHANGES", "ID"];
        let mut rows = vec![heading.map(String::from).to_vec()];
        rows.extend(items.iter().map(|item| {
            let head = &item.head;
            let role = format!("{:?}", head.role).to_lowercase();
            let refs = head.refs.to_string();
            let changes = head.frontier.seq.to_string();
            vec![head.name.clone(), head.state.to_string(), role, refs, changes, item.id.to_string()]
        }));
        output::table(&rows);
        Ok(exit)
    }
}

impl SetHead {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let full =
            if self.branch.starts_with("refs/") { self.branch.clone() } else { format!("refs/heads/{}", self.branch) };
        let branch = RefName::new(full.as_str()).ok().filter(|_| full.starts_with("refs/heads/"));
        let branch = branch.ok_or_else(|| Failure::usage(format!("`{}` is not the name of a branch", self.branch)))?;
        let region = context.region_to_change(&self.common.region, &self.name).await?;
        let before = region.repositories().get(&self.name).await?;
        let after = if self.dry_run {
            region.committer().check_writable(&before)?;
            if !self.unborn {
                region.repositories().check_branch(&before, &branch).await?;
            }
            before.clone()
        } else {
            region.repositories().set_default_branch(&self.name, &branch, self.unborn, &actor()).await?
        };
        let old = before.head.head;
        let new = RefValue::Symbolic(branch.clone());
        let changed = old != new;
        if self.common.json {
            let mut value = describe(&after);
            value["head"] = json!(new.to_string());
            value["head_before"] = json!(old.to_string());
            value["changed"] = json!(changed);
            value["dry_run"] = json!(self.dry_run);
            output::json(&value)?;
            return Ok(Exit::Done);
        }
        let name = &after.head.name;
        output::line(match (changed, self.dry_run) {
            (false, _) => format!("HEAD of {name} already names {branch}"),
            (true, true) => format!("HEAD of {name} would name {branch}; now {old}"),
            (true, false) => format!("HEAD of {name} now names {branch}; before {old}"),
        });
        Ok(Exit::Done)
    }
}

impl Show {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let region: Region = context.region(&self.common.region).await?;
        let item = region.repositories().get(&self.name).await?;
        let (manifest, _) = region.reader().manifest(&item).await?;
        let kms_key = region.encryption().key(&item).await?;
        let head = &item.head;
        if self.common.json {
            let mut value = describe(&item);
            value["kms_key"] = json!(kms_key);
            value["packs"] = json!(manifest.packs.len());
            value["bytes"] = json!(manifest.bytes());
            output::json(&value)?;
            return Ok(Exit::Done);
        }
        output::line(format!("{} in {}", head.name, region.name()));
        for (key, value) in [
            ("id", item.id.to_string()),
            ("state", head.state.to_string()),
            ("role", format!("{:?}", head.role).to_lowercase()),
            ("written in", head.epoch.region.clone()),
            ("format", head.format.to_string()),
            ("HEAD", head.head.to_string()),
            ("refs", head.refs.to_string()),
            ("frontier", head.frontier.to_string()),
            ("changed", head.time.to_string()),
            ("packs", format!("{} ({})", manifest.packs.len(), output::bytes(manifest.bytes()))),
        ] {
            output::line(format!("  {key:<10}  {value}"));
        }
        if let Some(key) = kms_key {
            output::line(format!("  {:<10}  {key}", "KMS key"));
        }
        Ok(Exit::Done)
    }
}

fn describe(item: &HeadItem) -> serde_json::Value {
    let head = &item.head;
    json!({
        "id": item.id,
        "name": head.name,
        "state": head.state,
        "deleted": head.deleted,
        "role": head.role,
        "region": head.epoch.region,
        "format": head.format.to_string(),
        "head": head.head.to_string(),
        "refs": head.refs,
        "refs_digest": head.refs_hash.digest(),
        "frontier": head.frontier,
        "time": head.time,
    })
}
