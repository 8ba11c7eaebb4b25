//! Repositories: created, described, listed and deleted.

use std::collections::BTreeMap;

use async_trait::async_trait;
use gitferry_api::{ApiError, Demand, Result};
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::RegionError;
use gitferry_engine::region::edit::Creation;
use gitferry_git::refs::RefValue;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::describe::{self, Facts};
use crate::failure::replica;
use crate::operation::{Ask, Found, Operation, only};
use crate::page::Page;
use crate::ports::NoCreation;
use crate::tags::set_tags;
use crate::updates::{check_key, check_new_name};
use crate::workshop::is_shown;

/// The structure `RepositoryMetadata` of a repository.
///
/// # Errors
/// The region cannot be read.
pub async fn metadata(ask: &Ask<'_>, item: &HeadItem) -> Result<Value> {
    let workshop = ask.workshop;
    let name = &item.head.name;
    let kms_key = workshop.region.encryption().key(item).await.map_err(|error| workshop.failed(name, &error))?;
    let has_default_branch = match &item.head.head {
        RefValue::Symbolic(branch) if item.head.refs > 0 => {
            let refs = workshop.refs(item).await?;
            refs.find(branch.as_bstr()).is_some_and(|entry| refs.object(&entry).is_some())
        }
        _ => false,
    };
    let urls = &workshop.settings.clone_urls;
    let facts = Facts {
        account: ask.caller.account.id().to_string(),
        arn: workshop.arn(ask.caller, name),
        clone_url_http: urls.http(name),
        clone_url_ssh: urls.ssh(name),
        kms_key,
        has_default_branch,
    };
    Ok(describe::repository(item, facts))
}

/// `CreateRepository`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateRepository {
    repository_name: String,
    repository_description: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    kms_key_id: Option<String>,
}

#[async_trait]
impl Operation for CreateRepository {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        // Policies decide on tags that can be set.
        set_tags(&self.tags)?;
        Ok(vec![self.repository_name.clone()])
    }

    fn demand(&self, demand: Demand) -> Demand {
        demand.with_tags(&self.tags.clone().into_iter().collect::<Vec<_>>())
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let workshop = ask.workshop;
        let name = &self.repository_name;
        check_new_name(name)?;
        let key = self.kms_key_id.as_deref().map(|key| check_key(&workshop.settings, key)).transpose()?;
        let mut edit = set_tags(&self.tags)?;
        edit.description = self.repository_description.clone().filter(|text| !text.is_empty());
        if found.iter().any(|found| found.item.is_some()) {
            let taken = RegionError::NameTaken { name: name.clone(), region: workshop.region.name().to_owned() };
            return Err(workshop.failed(name, &taken));
        }
        workshop.repositories.check_creation(name).map_err(|reason| match reason {
            NoCreation::Replicated(primary) => replica(&workshop.settings, name, workshop.region.name(), &primary),
            NoCreation::Quota(text) => ApiError::new("RepositoryLimitExceededException", 400, text),
        })?;
        let with = Creation { metadata: edit, kms_key: key };
        let created = workshop.region.repositories().create_with(name, gix::hash::Kind::Sha1, with, &ask.actor).await;
        let item = created.map_err(|error| workshop.failed(name, &error))?;
        workshop.repositories.committed(&item);
        Ok(json!({ "repositoryMetadata": metadata(ask, &item).await? }))
    }
}

/// `GetRepository`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetRepository {
    repository_name: String,
}

#[async_trait]
impl Operation for GetRepository {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        Ok(json!({ "repositoryMetadata": metadata(ask, &only(found)?).await? }))
    }
}

/// `BatchGetRepositories`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchGetRepositories {
    repository_names: Vec<String>,
}

#[async_trait]
impl Operation for BatchGetRepositories {
    fn about(&self, ask: &Ask<'_>) -> Result<Vec<String>> {
        let most = ask.workshop.settings.limits.batch_items;
        if self.repository_names.is_empty() {
            return Err(ApiError::new("RepositoryNamesRequiredException", 400, "repositoryNames is empty."));
        }
        if self.repository_names.len() > most {
            let text = format!("repositoryNames has more than {most} names.");
            return Err(ApiError::new("MaximumRepositoryNamesExceededException", 400, text));
        }
        Ok(self.repository_names.clone())
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let mut repositories = Vec::new();
        let mut missing = Vec::new();
        let mut errors = Vec::new();
        for Found { name, item } in found {
            let Some(item) = item else {
                missing.push(name.clone());
                errors.push(json!({
                    "repositoryName": name,
                    "errorCode": "RepositoryDoesNotExistException",
                    "errorMessage": format!("There is no repository {name}."),
                }));
                continue;
            };
            repositories.push(metadata(ask, &item).await?);
        }
        Ok(json!({ "repositories": repositories, "repositoriesNotFound": missing, "errors": errors }))
    }
}

/// `DeleteRepository`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteRepository {
    repository_name: String,
}

#[async_trait]
impl Operation for DeleteRepository {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    /// A repository that does not exist is deleted, as on AWS.
    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let Ok(item) = only(found) else { return Ok(json!({})) };
        let workshop = ask.workshop;
        match workshop.region.repositories().delete(&item.id.to_string(), &ask.actor).await {
            Ok(item) => {
                workshop.repositories.committed(&item);
                Ok(json!({ "repositoryId": item.id.to_string() }))
            }
            Err(RegionError::NoRepository { .. } | RegionError::Replaced { .. }) => Ok(json!({})),
            Err(error) => Err(workshop.failed(&self.repository_name, &error)),
        }
    }
}

/// `ListRepositories`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListRepositories {
    sort_by: Option<String>,
    order: Option<String>,
}

#[async_trait]
impl Operation for ListRepositories {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn answer(&self, ask: &Ask<'_>, _: Vec<Found>) -> Result<Value> {
        let workshop = ask.workshop;
        let limits = &workshop.settings.limits;
        let page = Page::of(ask.operation, &ask.input, &ask.caller.principal.arn(), limits.page_items)?;
        let heads = workshop.region.repositories().heads().await.map_err(|error| workshop.failed("*", &error))?;
        for unreadable in &heads.unreadable {
            tracing::error!(repository = unreadable.label(), error = %unreadable.error, "a repository is not listed");
        }
        let by_time = self.sort_by.as_deref() == Some("lastModifiedDate");
        // Names are unique, so that each place in the list is.
        let key = |item: &HeadItem| {
            let millis = if by_time { item.head.time.as_millisecond() } else { 0 };
            format!("{millis:020}/{}", item.head.name)
        };
        let mut items: Vec<(String, HeadItem)> =
            heads.items.into_iter().filter(is_shown).map(|item| (key(&item), item)).collect();
        let descending = self.order.as_deref() == Some("descending");
        items.sort_unstable_by(|(a, _), (b, _)| if descending { b.cmp(a) } else { a.cmp(b) });
        let is_behind = |key: &str| page.after().is_none_or(|after| if descending { key < after } else { key > after });
        let behind = items.into_iter().filter(|(key, _)| is_behind(key));
        Ok(page.show(
            behind,
            |(key, _)| key.clone(),
            |(_, item)| json!({ "repositoryName": item.head.name, "repositoryId": item.id.to_string() }),
        ))
    }
}
