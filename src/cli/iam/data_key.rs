//! `gitferry iam data-key`: the keys that seal the secrets of the account.

use clap::{Args, Subcommand};
use gitferry_identity::{Resealing, RotationPlan};
use serde_json::{Value, json};

use super::common::AccountArgs;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};

/// List and rotate the data keys, which seal secret access keys and sessions.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  gitferry iam data-key list --region us-east-1")]
pub enum DataKeyCommand {
    /// List the data keys, the key services that open them, and what they seal.
    #[command(after_help = "Example:\n  gitferry iam data-key list --region us-east-1 --json")]
    List(List),
    /// Seal all secrets under a new data key, which every key service of the configuration seals.
    #[command(
        after_help = "A new data key, the secrets, and the end of old data keys are commits of their own: after an
interruption everything is readable, and `gitferry iam data-key reseal` does the rest. An old data
key stays until its last session has ended, 48 hours after it was replaced.

To move from a key file to KMS: set `kms_key` beside `key` for all hosts, rotate, remove `key`, and
rotate --without the id of the key file, which `list` prints.

Example:
  gitferry iam data-key rotate --region us-east-1 --dry-run
  gitferry iam data-key rotate --region us-east-1 --without local:0123456789abcdef --json"
    )]
    Rotate(Change),
    /// Finish a rotation: add seals of new key services, seal secrets again, remove old data keys.
    #[command(after_help = "Example:\n  gitferry iam data-key reseal --region us-east-1 --json")]
    Reseal(Change),
}

/// The account.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    common: AccountArgs,
}

/// A change of the data keys.
#[derive(Debug, Args)]
pub struct Change {
    /// Key services to leave out, by the ids that `list` prints. Hosts that have no other lose the secrets.
    #[arg(long, value_name = "ID")]
    without: Vec<String>,
    /// Print what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: AccountArgs,
}

impl DataKeyCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            DataKeyCommand::List(List { common }) => list(&common, context).await,
            DataKeyCommand::Rotate(change) => change.run(context, true).await,
            DataKeyCommand::Reseal(change) => change.run(context, false).await,
        }
    }
}

async fn list(common: &AccountArgs, context: &Context) -> Result<Exit, Failure> {
    let account = common.read(context).await?;
    let keys = gitferry_iam::edit::data_key_uses(&account);
    let values = keys.iter().map(|key| {
        json!({
            "id": key.id,
            "created": key.created.to_string(),
            "current": key.is_current,
            "sealed_under": key.services,
            "secrets": key.secrets,
            "unused_from": key.unused_from.map(|time| time.to_string()),
        })
    });
    let rows = keys.iter().map(|key| {
        let until = key.unused_from.map_or_else(|| "current".to_owned(), |time| format!("unused from {time}"));
        vec![key.id.clone(), key.created.to_string(), until, key.secrets.to_string(), key.services.join(" ")]
    });
    let heading = ["data key", "created", "state", "secrets", "sealed under"];
    common.list("data_keys", values.collect(), &heading, rows.collect(), "no data keys")
}

impl Change {
    async fn run(self, context: &Context, is_new: bool) -> Result<Exit, Failure> {
        let opened = self.common.open(context).await?;
        let administration = &opened.administration;
        if self.dry_run {
            let plan = administration.plan_rotation(&self.without, is_new).await?;
            return self.common.print(&plan_json(&plan, is_new), plan_text(&plan, is_new));
        }
        let mut value = json!({});
        let mut text = String::new();
        if is_new {
            let rotation = administration.rotate_data_key(opened.author(), &self.without).await?;
            text = format!("data key      {}, in place of {}\n", rotation.data_key, rotation.replaced);
            text += &format!("sealed under  {}\n", rotation.services.join(" "));
            value = json!({
                "data_key": rotation.data_key, "replaced": rotation.replaced, "sealed_under": rotation.services,
            });
        }
        let done = administration.reseal(opened.author(), &self.without).await.map_err(|error| {
            let hint = "everything is readable; `gitferry iam data-key reseal` does the rest";
            Failure::from(error).hint(hint)
        })?;
        add_resealing(&mut value, &mut text, &done);
        self.common.print(&value, text.trim_end())?;
        let is_whole = done.unreadable.is_empty() && done.closed.is_empty();
        Ok(if is_whole { Exit::Done } else { Exit::Failed })
    }
}

fn plan_json(plan: &RotationPlan, is_new: bool) -> Value {
    let seals: Vec<Value> = plan.seals.iter().map(|(id, key)| json!({ "data_key": id, "sealed_under": key })).collect();
    json!({
        "would_replace": if is_new { Some(&plan.data_key) } else { None },
        "sealed_under": plan.services,
        "seals": seals,
        "secrets": plan.secrets,
        "removed": plan.retired,
    })
}

fn plan_text(plan: &RotationPlan, is_new: bool) -> String {
    let mut lines = Vec::new();
    if is_new {
        lines.push(format!("would replace data key {} by a new one", plan.data_key));
    }
    lines.push(format!("would seal data keys under {}", plan.services.join(" ")));
    lines.push(format!("would seal {} secrets again", plan.secrets));
    lines.extend(plan.seals.iter().map(|(id, key)| format!("would seal data key {id} under {key} too")));
    lines.extend(plan.retired.iter().map(|id| format!("would remove data key {id}")));
    lines.join("\n")
}

fn add_resealing(value: &mut Value, text: &mut String, done: &Resealing) {
    let seals: Vec<Value> = done.seals.iter().map(|(id, key)| json!({ "data_key": id, "sealed_under": key })).collect();
    value["seals"] = seals.into();
    value["secrets"] = done.secrets.into();
    value["unreadable"] = json!(done.unreadable);
    value["closed"] = json!(done.closed);
    value["removed"] = json!(done.retired);
    for (id, key) in &done.seals {
        *text += &format!("data key      {id} is sealed under {key} too\n");
    }
    *text += &format!("secrets       {} sealed again\n", done.secrets);
    for id in &done.unreadable {
        *text += &format!("unreadable    the secret of access key {id} does not open, and stays as it is\n");
    }
    for reason in &done.closed {
        *text += &format!("closed        {reason}\n");
    }
    for id in &done.retired {
        *text += &format!("removed       data key {id}\n");
    }
}
