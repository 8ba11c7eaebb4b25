//! Operations as values: an input, the repositories that it is about, the right that it demands, and its work.

use async_trait::async_trait;
use gitferry_api::{ApiError, Demand, Resource, Result};
use gitferry_engine::ledger::head::HeadItem;
use gitferry_iam::Authenticated;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::no_repository;
use crate::input::Input;
use crate::model;
use crate::workshop::Workshop;

/// A request as an operation sees it.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The repositories, and the settings of the API.
    pub workshop: &'a Workshop,
    /// The operation in the model.
    pub operation: &'static model::Operation,
    /// Members of the input, by name.
    pub input: Input,
    /// Principal and account.
    pub caller: &'a Authenticated,
    /// Actor of a change in the ledger.
    pub actor: String,
}

/// An operation, as the type of its input.
#[async_trait]
pub trait Operation: DeserializeOwned + Send + Sync {
    /// Names of the repositories that the request is about; none for a request on the account. Policies have to allow the
    /// operation on each.
    ///
    /// # Errors
    /// The input names no repository.
    fn about(&self, ask: &Ask<'_>) -> Result<Vec<String>>;

    /// Adds condition keys of the request to a demand on one of these repositories.
    fn demand(&self, demand: Demand) -> Demand {
        demand
    }

    /// The result of an allowed request, about these repositories: one for each name, `None` where there is none. Null for
    /// an operation without a result.
    ///
    /// # Errors
    /// Those of the model.
    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value>;
}

/// A repository that a request names.
#[derive(Clone, Debug)]
pub struct Found {
    /// Name in the request.
    pub name: String,
    /// Head of the repository, if there is one.
    pub item: Option<HeadItem>,
}

/// The only repository of a request.
///
/// # Errors
/// `RepositoryDoesNotExistException`.
pub fn only(found: Vec<Found>) -> Result<HeadItem> {
    match found.into_iter().next() {
        Some(Found { item: Some(item), .. }) => Ok(item),
        Some(Found { name, .. }) => Err(no_repository(&name)),
        None => Err(ApiError::unavailable()),
    }
}

/// Authorizes and answers a request.
pub async fn perform<O: Operation>(ask: &Ask<'_>) -> Result<Value> {
    let operation: O = O::deserialize(&ask.input).map_err(|error| {
        tracing::error!(operation = ask.operation.name, %error, "an input that the model accepts cannot be read");
        ApiError::unavailable()
    })?;
    let mut found = Vec::new();
    for name in operation.about(ask)? {
        let item = ask.workshop.find(&name).await?;
        let mut resource = Resource::new(ask.workshop.arn(ask.caller, &name));
        if let Some(item) = &item {
            resource.tags = item.head.metadata.tags.clone().into_iter().collect();
        }
        ask.authorize(&operation, resource)?;
        found.push(Found { name, item });
    }
    debug_assert_eq!(found.is_empty(), ask.operation.on_account, "{}", ask.operation.name);
    if found.is_empty() {
        ask.authorize(&operation, Resource::none())?;
    }
    operation.answer(ask, found).await
}

impl Ask<'_> {
    fn authorize(&self, operation: &impl Operation, resource: Resource) -> Result<()> {
        let action = format!("codecommit:{}", self.operation.name);
        let demand = operation.demand(Demand::new(action, resource));
        debug_assert_eq!(demand.is_on_reference(), self.operation.on_reference, "{}", self.operation.name);
        demand.authorize(self.caller)
    }
}
