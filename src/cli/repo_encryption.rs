//! `gitferry repo set-kms-key` and `reencrypt`: encryption of a repository's objects at rest.

use clap::Args;
use gitferry_store::aws::KmsKeyArn;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Set the KMS key that encrypts new objects of a repository in one region.
#[derive(Debug, Args)]
#[command(
    after_help = "KMS keys belong to an AWS region, so each region of a repository has a key of its own, also at a
replica. Hosts and workers use a new key within 30 seconds. Objects that exist stay under their key,
which has to stay usable until `gitferry repo reencrypt` has copied them.

Example:
  gitferry repo set-kms-key app arn:aws:kms:us-east-1:111111111111:key/1234abcd --region us-east-1
  gitferry repo set-kms-key app --default --region us-east-1"
)]
pub struct SetKmsKey {
    /// Name or id of the repository.
    name: String,
    /// ARN of the key, in the AWS region of the bucket.
    #[arg(value_name = "ARN", required_unless_present = "default", conflicts_with = "default")]
    key: Option<KmsKeyArn>,
    /// Go back to `kms_key` of the region in the configuration, or else to the bucket's default encryption.
    #[arg(long)]
    default: bool,
    /// Region of the repository.
    #[arg(long, value_name = "R")]
    region: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Encrypt the objects of a repository in one region anew that are under another KMS key than the repository has.
#[derive(Debug, Args)]
#[command(
    after_help = "S3 copies each object onto itself, four at a time; the bytes stay in S3 and are readable meanwhile.
An interrupted run is continued by the next. With versioning, the bucket keeps the versions under
the old key until its lifecycle rule removes them.

Exit code 3 if an object is left: one above 5 GiB, which S3 does not copy at once.

Example:
  gitferry repo reencrypt app --region us-east-1 --dry-run
  gitferry repo reencrypt app --region us-east-1 --json"
)]
pub struct Reencrypt {
    /// Name or id of the repository.
    name: String,
    /// Region of the repository.
    #[arg(long, value_name = "R")]
    region: String,
    /// Only count the objects.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl SetKmsKey {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config()?;
        let aws = config.regions.get(&self.region).and_then(|region| region.aws.region.as_deref());
        if let (Some(key), Some(aws)) = (&self.key, aws)
            && key.region() != aws
        {
            return Err(Failure::usage(format!("{key} is a key of {}, and the bucket is in {aws}", key.region())));
        }
        let region = context.writable_region(&self.region).await?;
        let item = region.repositories().get(&self.name).await?;
        let before = region.encryption().key(&item).await?;
        region.encryption().set_key(&item, self.key.as_ref().map(KmsKeyArn::as_str)).await?;
        let after = region.encryption().key(&item).await?;
        let name = &item.head.name;
        if self.json {
            output::json(&json!({ "id": item.id, "name": name, "kms_key": after, "kms_key_before": before }))?;
            return Ok(Exit::Done);
        }
        let shown = |key: &Option<String>| key.clone().unwrap_or_else(|| "the default encryption of the bucket".into());
        output::line(format!(
            "new objects of {name} in {} are under {}; before {}",
            region.name(),
            shown(&after),
            shown(&before)
        ));
        if after.is_some() && after != before {
            output::note(format!(
                "  hint: `gitferry repo reencrypt {name} --region {}` encrypts the existing ones",
                region.name()
            ));
        }
        Ok(Exit::Done)
    }
}

impl Reencrypt {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let region = context.writable_region(&self.region).await?;
        let item = region.repositories().get(&self.name).await?;
        let done = region.encryption().reencrypt(&item, self.dry_run).await?;
        let exit = if done.too_large.is_empty() { Exit::Done } else { Exit::Failed };
        if self.json {
            let mut value = serde_json::to_value(&done)?;
            value["id"] = json!(item.id);
            value["name"] = json!(item.head.name);
            value["dry_run"] = json!(self.dry_run);
            output::json(&value)?;
            return Ok(exit);
        }
        let would = if self.dry_run { "would encrypt" } else { "encrypted" };
        output::line(format!(
            "{would} {} of {} ({}) under {}",
            done.reencrypted,
            output::count(done.objects, "object"),
            output::bytes(done.bytes),
            done.kms_key
        ));
        for key in &done.too_large {
            output::line(format!("left {key}: above 5 GiB, S3 does not copy it at once"));
        }
        Ok(exit)
    }
}
