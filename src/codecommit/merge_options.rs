//! Facts about merges before they are made.

use async_trait::async_trait;
use gitferry_api::{ApiError, Result};
use gitferry_content::ContentError;
use gitferry_content::limits::Bound;
use gitferry_content::merge::{Level, Renaming, is_fast_forward, merge};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::opened::{Failure, Opened, Outcome, open};
use crate::operation::{Ask, Found, Operation, only};

/// `GetMergeOptions`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMergeOptions {
    repository_name: String,
    source_commit_specifier: String,
    destination_commit_specifier: String,
    conflict_detail_level: Option<String>,
    conflict_resolution_strategy: Option<String>,
}

#[async_trait]
impl Operation for GetMergeOptions {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let source = self.source_commit_specifier.clone();
        let destination = self.destination_commit_specifier.clone();
        let level = match self.conflict_detail_level.as_deref() {
            Some("LINE_LEVEL") => Level::Line,
            _ => Level::File,
        };
        // Every conflict has a side to accept.
        let accepts =
            matches!(self.conflict_resolution_strategy.as_deref(), Some("ACCEPT_SOURCE" | "ACCEPT_DESTINATION"));
        open(ask, &item, move |opened| options(opened, &source, &destination, level, accepts)).await
    }
}

fn options(opened: &mut Opened<'_>, source: &str, destination: &str, level: Level, accepts: bool) -> Outcome<Value> {
    let source = opened.commit(Some(source))?.id;
    let destination = opened.commit(Some(destination))?.id;
    let mut options = Vec::new();
    if is_fast_forward(&mut opened.reader, destination, source).map_err(failed)? {
        options.push("FAST_FORWARD_MERGE");
    }
    let merged = merge(&mut opened.reader, destination, source, level, Renaming::Follow).map_err(failed)?;
    let base = merged.base.ok_or_else(|| {
        let text = "The commits have no common ancestor.";
        ApiError::new("TipsDivergenceExceededException", 400, text)
    })?;
    if accepts || merged.conflicts.is_empty() {
        options.extend(["SQUASH_MERGE", "THREE_WAY_MERGE"]);
    }
    Ok(json!({
        "mergeOptions": options,
        "sourceCommitId": source.to_string(),
        "destinationCommitId": destination.to_string(),
        "baseCommitId": base.to_string(),
    }))
}

/// Limits of a merge as the API has them.
fn failed(error: ContentError) -> Failure {
    let code = match &error {
        ContentError::Limit(Bound::MergedBytes) => "MaximumFileContentToLoadExceededException",
        ContentError::Limit(Bound::BaseCommits | Bound::VirtualMerges) => "TipsDivergenceExceededException",
        ContentError::Limit(_) => "MaximumItemsToCompareExceededException",
        _ => return error.into(),
    };
    ApiError::new(code, 400, format!("{error}: merge with Git.")).into()
}
