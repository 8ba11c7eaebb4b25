//! `GET …/info/frontier`: the frontier of a repository, which the hosts of other regions read.

use std::sync::Arc;

use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::request::git_http::git_response;
use super::request::refusal::Refusal;
use super::views::Views;
use gitferry_engine::ledger::head::{Frontier, RepositoryId};

/// Frontier of one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryFrontier {
    /// Id of the repository.
    pub repository: RepositoryId,
    /// Epoch, sequence number and hash of its last change.
    #[serde(flatten)]
    pub frontier: Frontier,
}

/// The frontiers of a region's repositories.
#[derive(Debug)]
pub struct Frontiers {
    views: Arc<Views>,
}

impl Frontiers {
    /// Frontiers of the repositories in `views`.
    pub fn new(views: Arc<Views>) -> Self {
        Frontiers { views }
    }

    /// Answers with the frontier of a repository.
    pub async fn answer(&self, repository: &str) -> Result<Response, Refusal> {
        let item = self.views.head(repository).await?;
        let frontier = RepositoryFrontier { repository: item.id, frontier: item.head.frontier };
        let text =
            serde_json::to_string(&frontier).map_err(|error| Refusal::Region(std::io::Error::from(error).into()))?;
        Ok(git_response("application/json", text.into()))
    }
}
