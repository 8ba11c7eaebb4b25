//! Changes of a repository's description, name and encryption.

use async_trait::async_trait;
use gitferry_api::{ApiError, Result, shown};
use gitferry_engine::ledger::metadata::MetadataEdit;
use gitferry_engine::region::RegionError;
use gitferry_store::aws::KmsKeyArn;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::operation::{Ask, Found, Operation, only};
use crate::settings::Settings;

/// Suffix that no name has: Git's clients add and remove it.
const GIT_SUFFIX: &str = ".git";

/// Refuses names that a repository may not get.
///
/// # Errors
/// `InvalidRepositoryNameException`.
pub fn check_new_name(name: &str) -> Result<()> {
    if name.ends_with(GIT_SUFFIX) {
        let text = format!("The name {} ends with {GIT_SUFFIX}.", shown(name));
        return Err(ApiError::new("InvalidRepositoryNameException", 400, text));
    }
    Ok(())
}

/// Checks the KMS key of a repository.
///
/// # Errors
/// `EncryptionKeyInvalidIdException` for a text that is no ARN of a key of the bucket's AWS region.
/// `EncryptionKeyInvalidUsageException` if the objects are files.
pub fn check_key(settings: &Settings, key: &str) -> Result<String> {
    let Some(region) = &settings.aws_region else {
        let text = "KMS keys are for objects in S3, and the configuration names no AWS region of this one's bucket.";
        return Err(ApiError::new("EncryptionKeyInvalidUsageException", 400, text));
    };
    let invalid = |reason: String| ApiError::new("EncryptionKeyInvalidIdException", 400, reason);
    let arn = key.parse::<KmsKeyArn>().map_err(|reason| invalid(format!("{reason}.")))?;
    if arn.region() != region {
        return Err(invalid(format!("{arn} is a key of {}, and the bucket is in {region}.", arn.region())));
    }
    Ok(arn.as_str().to_owned())
}

/// `UpdateRepositoryDescription`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateRepositoryDescription {
    repository_name: String,
    repository_description: Option<String>,
}

#[async_trait]
impl Operation for UpdateRepositoryDescription {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        // Without a description, there is none any more.
        let description = Some(self.repository_description.clone().unwrap_or_default());
        let edit = MetadataEdit { description, ..MetadataEdit::default() };
        ask.workshop.edit_metadata(&only(found)?, &edit, &ask.actor).await?;
        Ok(Value::Null)
    }
}

/// `UpdateRepositoryName`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateRepositoryName {
    old_name: String,
    new_name: String,
}

#[async_trait]
impl Operation for UpdateRepositoryName {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.old_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let workshop = ask.workshop;
        let item = only(found)?;
        check_new_name(&self.new_name)?;
        let repositories = workshop.region.repositories();
        let renamed = repositories.rename(&item.id.to_string(), &self.new_name, &ask.actor).await;
        let item = renamed.map_err(|error| workshop.failed(name_in(&error, self), &error))?;
        workshop.repositories.committed(&item);
        Ok(Value::Null)
    }
}

/// Name that an error of renaming is about.
fn name_in<'a>(error: &RegionError, input: &'a UpdateRepositoryName) -> &'a str {
    match error {
        RegionError::NameTaken { .. } | RegionError::Name(_) => &input.new_name,
        _ => &input.old_name,
    }
}

/// `UpdateRepositoryEncryptionKey`. KMS keys belong to a region, so a replica has its own.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateRepositoryEncryptionKey {
    repository_name: String,
    kms_key_id: String,
}

#[async_trait]
impl Operation for UpdateRepositoryEncryptionKey {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let workshop = ask.workshop;
        let item = only(found)?;
        let key = check_key(&workshop.settings, &self.kms_key_id)?;
        let encryption = workshop.region.encryption();
        let failed = |error: RegionError| workshop.failed(&self.repository_name, &error);
        let before = encryption.key(&item).await.map_err(failed)?;
        encryption.set_key(&item, Some(&key)).await.map_err(failed)?;
        let mut answer = json!({ "repositoryId": item.id.to_string(), "kmsKeyId": key });
        if let Some(before) = before {
            answer["originalKmsKeyId"] = before.into();
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{CloneUrls, Limits};

    #[test]
    fn keys_are_arns_of_the_region_of_the_bucket() {
        let of = |aws_region: Option<&str>, key: &str| {
            let settings = Settings {
                clone_urls: CloneUrls::default(),
                hosts: Default::default(),
                aws_region: aws_region.map(str::to_owned),
                limits: Limits::default(),
            };
            check_key(&settings, key).map_err(|error| error.code())
        };
        let arn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-0000";
        assert_eq!(of(Some("eu-west-1"), arn).as_deref(), Ok(arn));
        assert_eq!(of(Some("us-east-1"), arn), Err("EncryptionKeyInvalidIdException"));
        assert_eq!(of(Some("eu-west-1"), "1234abcd-0000"), Err("EncryptionKeyInvalidIdException"));
        assert_eq!(of(None, arn), Err("EncryptionKeyInvalidUsageException"));
    }
}
