//! History of a file.

use std::collections::BTreeSet;

use async_trait::async_trait;
use gitferry_api::{ApiError, Result};
use gitferry_content::history::{History, Version, Waiting};
use gitferry_content::limits::Bound;
use gitferry_content::{ContentError, InvalidPath, RepoPath, Source as _, ViewSource, history_cursor};
use gix::bstr::ByteSlice as _;
use gix::objs::Kind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::not_allowed;
use crate::objects::{MAX_COMMIT_BYTES, are_readable, describe};
use crate::opened::{Failure, MAX_KEY_BYTES, Opened, Outcome, open};
use crate::operation::{Ask, Found, Operation, only};
use crate::page::{Page, foreign};

/// Most versions of a page: each comes with its whole commit.
const MAX_VERSIONS: usize = 100;
/// Most bytes of the commits of a page: answers are held in memory.
const MAX_PAGE_BYTES: u64 = 16 << 20;

/// `ListFileCommitHistory`. A file that never existed has an empty history: the API has no error for it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListFileCommitHistory {
    repository_name: String,
    commit_specifier: Option<String>,
    file_path: String,
}

#[async_trait]
impl Operation for ListFileCommitHistory {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let most = ask.workshop.settings.limits.page_items.min(MAX_VERSIONS);
        let page = Page::of(ask.operation, &ask.input, &ask.caller.principal.arn(), most)?;
        // The API has no error for a path, either.
        let invalid = |error: InvalidPath| ApiError::new("ValidationException", 400, format!("filePath: {error}."));
        let path = RepoPath::to_read(&self.file_path).map_err(invalid)?;
        let rest = page.after().map(|key| history_cursor::decode(key).ok_or_else(foreign)).transpose()?;
        let specifier = self.commit_specifier.clone();
        let limit = page.limit();
        let reading = move |opened: &mut Opened<'_>| {
            let rest = match rest {
                Some(rest) => readable(opened, rest)?,
                None => {
                    let commit = opened.commit(specifier.as_deref())?.id;
                    vec![Waiting { commit, path, children: BTreeSet::new() }]
                }
            };
            versions(opened, rest, limit)
        };
        let (shown, next) = open(ask, &item, reading).await?;
        Ok(page.answer(shown, next))
    }
}

/// Commits of a token. Clients can make tokens up.
fn readable(opened: &Opened<'_>, rest: Vec<Waiting>) -> Outcome<Vec<Waiting>> {
    let ids: Vec<_> = rest.iter().map(|waiting| waiting.commit).collect();
    let is_of_format = ids.iter().all(|id| id.kind() == opened.state.view.format);
    if is_of_format && are_readable(opened.state, &ids, Kind::Commit)? { Ok(rest) } else { Err(foreign().into()) }
}

/// The next versions, and the key of what follows.
fn versions(opened: &mut Opened<'_>, rest: Vec<Waiting>, limit: usize) -> Outcome<(Vec<Value>, Option<String>)> {
    let walked = History::resume(&mut opened.reader, rest).and_then(|history| history.page(limit));
    let page = walked.map_err(failed)?;
    let mut source = ViewSource::new(&opened.state.view)?;
    let mut bytes_left = MAX_PAGE_BYTES;
    let mut shown = Vec::new();
    for version in &page.versions {
        shown.push(show(&mut source, version, &mut bytes_left)?);
    }
    let next = (!page.rest.is_empty()).then(|| history_cursor::encode(&page.rest));
    if next.as_ref().is_some_and(|key| key.len() > MAX_KEY_BYTES) {
        return Err(too_wide(&"a token has no room for the lines of history").into());
    }
    Ok((shown, next))
}

/// The structure `FileVersion`.
fn show(source: &mut ViewSource<'_>, version: &Version, bytes_left: &mut u64) -> Outcome<Value> {
    let Version { commit: id, blob, path, children } = version;
    let missing = || ContentError::Missing { id: *id, expected: Kind::Commit };
    let (_, size) = source.header(id)?.ok_or_else(missing)?;
    if size > MAX_COMMIT_BYTES {
        tracing::warn!(%id, "a commit has more bytes than the API answers");
        return Err(ApiError::unavailable().into());
    }
    *bytes_left = bytes_left.checked_sub(size).ok_or_else(|| {
        not_allowed(format!(
            "The commits of the page have more than {MAX_PAGE_BYTES} bytes: ask for a smaller maxResults."
        ))
    })?;
    let (_, content) = source.read(id)?.ok_or_else(missing)?;
    let mut shown = json!({
        "commit": describe(*id, &content, id.kind())?,
        "path": path.as_bstr().to_str_lossy(),
        "revisionChildren": children.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    if let Some(blob) = blob {
        shown["blobId"] = blob.to_string().into();
    }
    Ok(shown)
}

fn failed(error: ContentError) -> Failure {
    match error {
        ContentError::Limit(Bound::HistoryWidth) => too_wide(&error).into(),
        error => error.into(),
    }
}

/// The history has too many lines at a time.
fn too_wide(reason: &dyn std::fmt::Display) -> ApiError {
    let text = format!("The history is too wide for this request ({reason}): use git log.");
    ApiError::new("TipsDivergenceExceededException", 400, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_the_walk_are_those_of_the_model() {
        let code = |error| match failed(error) {
            Failure::Answer(error) => error.code(),
            _ => "other",
        };
        assert_eq!(code(ContentError::Limit(Bound::HistoryWidth)), "TipsDivergenceExceededException");
        assert_eq!(code(ContentError::Limit(Bound::Objects)), "other");
    }
}
