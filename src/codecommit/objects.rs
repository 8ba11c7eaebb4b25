//! Commits and blobs by their ids.
//!
//! Clients read what the refs that they see reach. Where every ref is visible, an object that the region holds is taken
//! for one; where some are hidden, it has to be proven.

use std::collections::BTreeSet;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gitferry_api::{ApiError, Result, shown};
use gitferry_engine::region::push::PushState;
use gitferry_engine::region::{RegionError, blocking};
use gitferry_git::pack::{Finder, PackError, PackSet};
use gitferry_git::receive_pack::{Required, unproven};
use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use gix::hash::Kind as Format;
use gix::objs::{CommitRef, Kind};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::operation::{Ask, Found, Operation, only};

/// Longest content of a commit that is answered, in bytes: answers are held in memory.
pub const MAX_COMMIT_BYTES: u64 = 4 << 20;

/// Id of an object in a repository of this format, in full.
pub fn object_id(text: &str, format: Format) -> Option<ObjectId> {
    let id = ObjectId::from_hex(text.as_bytes()).ok()?;
    Some(id).filter(|id| id.kind() == format && !id.is_null())
}

/// Object that a client asks for.
#[derive(Debug)]
enum Read {
    /// There is none of this kind that the client may read.
    Missing,
    /// It has more bytes than are answered.
    TooLarge,
    Content(Vec<u8>),
}

/// Returns true if clients may read an object, and the object is of this kind.
///
/// # Errors
/// The region cannot be read.
pub async fn has_readable(ask: &Ask<'_>, state: PushState, id: ObjectId, kind: Kind) -> Result<bool> {
    let name = state.item.head.name.clone();
    let looking = move || Ok::<_, RegionError>(is_readable(&state, id, kind)?);
    blocking(looking).await.map_err(|error| ask.workshop.failed(&name, &error))
}

fn is_readable(state: &PushState, id: ObjectId, kind: Kind) -> std::result::Result<bool, PackError> {
    are_readable(state, &[id], kind)
}

/// Returns true if clients may read all these objects, and the objects are of this kind. Blocks the thread.
///
/// # Errors
/// A pack cannot be read.
pub fn are_readable(state: &PushState, ids: &[ObjectId], kind: Kind) -> std::result::Result<bool, PackError> {
    let view = &state.view;
    if view.refs.len() == state.refs.len() {
        let finder = finder(&view.packs)?;
        for id in ids {
            let Some(location) = view.packs.locate(id) else { return Ok(false) };
            if finder.kind(location)? != kind {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let required: Vec<Required> = ids.iter().map(|id| Required { id: *id, kind: Some(kind) }).collect();
    Ok(unproven(view, &PackSet::new(view.format), &[], &[], &required)?.is_empty())
}

fn finder(packs: &PackSet) -> std::result::Result<Finder<'_>, PackError> {
    packs.finder().map_err(|fault| PackError { path: "?".into(), fault })
}

/// Reads an object of at most so many bytes.
async fn read(ask: &Ask<'_>, state: PushState, id: ObjectId, kind: Kind, most: u64) -> Result<Read> {
    let name = state.item.head.name.clone();
    let reading = move || {
        if !is_readable(&state, id, kind)? {
            return Ok::<_, RegionError>(Read::Missing);
        }
        let packs = &state.view.packs;
        let Some(location) = packs.locate(&id) else { return Ok(Read::Missing) };
        let mut finder = finder(packs)?;
        if finder.size(location)? > most {
            return Ok(Read::TooLarge);
        }
        Ok(Read::Content(finder.read(location)?.data.to_vec()))
    };
    blocking(reading).await.map_err(|error| ask.workshop.failed(&name, &error))
}

/// `GetBlob`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetBlob {
    repository_name: String,
    blob_id: String,
}

#[async_trait]
impl Operation for GetBlob {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let id = object_id(&self.blob_id, item.head.format).ok_or_else(|| {
            let text = format!("{} is not the full id of a blob.", shown(&self.blob_id));
            ApiError::new("InvalidBlobIdException", 400, text)
        })?;
        let most = ask.workshop.settings.limits.file_bytes;
        let state = ask.workshop.state(&item).await?;
        match read(ask, state, id, Kind::Blob, most).await? {
            Read::Content(content) => Ok(json!({ "content": STANDARD.encode(content) })),
            Read::Missing => Err(ApiError::new("BlobIdDoesNotExistException", 400, format!("There is no blob {id}."))),
            Read::TooLarge => {
                let text = format!("Blob {id} has more than {most} bytes: fetch it with Git.");
                Err(ApiError::new("FileTooLargeException", 400, text))
            }
        }
    }
}

/// `GetCommit`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetCommit {
    repository_name: String,
    commit_id: String,
}

#[async_trait]
impl Operation for GetCommit {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let id = object_id(&self.commit_id, item.head.format).ok_or_else(|| {
            let text = format!("{} is not the full id of a commit.", shown(&self.commit_id));
            ApiError::new("InvalidCommitIdException", 400, text)
        })?;
        let state = ask.workshop.state(&item).await?;
        let commit = commit(ask, state, id).await?;
        let missing = || ApiError::new("CommitIdDoesNotExistException", 400, format!("There is no commit {id}."));
        Ok(json!({ "commit": commit.ok_or_else(missing)? }))
    }
}

/// `BatchGetCommits`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchGetCommits {
    repository_name: String,
    commit_ids: Vec<String>,
}

#[async_trait]
impl Operation for BatchGetCommits {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let most = ask.workshop.settings.limits.batch_items;
        if self.commit_ids.is_empty() {
            return Err(ApiError::new("CommitIdsListRequiredException", 400, "commitIds is empty."));
        }
        if self.commit_ids.len() > most {
            let text = format!("commitIds has more than {most} ids.");
            return Err(ApiError::new("CommitIdsLimitExceededException", 400, text));
        }
        let state = ask.workshop.state(&item).await?;
        let mut commits = Vec::new();
        let mut errors = Vec::new();
        // One answer for each, as on AWS.
        for text in self.commit_ids.iter().collect::<BTreeSet<_>>() {
            let mut fail = |code: &str, message: String| {
                errors.push(json!({ "commitId": text, "errorCode": code, "errorMessage": message }));
            };
            let Some(id) = object_id(text, item.head.format) else {
                fail("InvalidCommitIdException", "It is not the full id of a commit.".to_owned());
                continue;
            };
            match commit(ask, state.clone(), id).await? {
                Some(commit) => commits.push(commit),
                None => fail("CommitDoesNotExistException", format!("There is no commit {id}.")),
            }
        }
        Ok(json!({ "commits": commits, "errors": errors }))
    }
}

/// The structure `Commit` of a commit that clients may read.
async fn commit(ask: &Ask<'_>, state: PushState, id: ObjectId) -> Result<Option<Value>> {
    let format = state.view.format;
    match read(ask, state, id, Kind::Commit, MAX_COMMIT_BYTES).await? {
        Read::Missing => Ok(None),
        Read::Content(content) => Ok(Some(describe(id, &content, format)?)),
        Read::TooLarge => {
            tracing::warn!(%id, "a commit has more bytes than the API answers");
            Err(ApiError::unavailable())
        }
    }
}

/// The structure `Commit` of the content of a commit. Texts that are not UTF-8 have replacement characters.
///
/// # Errors
/// The commit is malformed.
pub fn describe(id: ObjectId, content: &[u8], format: Format) -> Result<Value> {
    let damaged = |error: &dyn std::fmt::Display| {
        tracing::error!(%id, %error, "a commit cannot be read");
        ApiError::unavailable()
    };
    let commit = CommitRef::from_bytes(content, format).map_err(|error| damaged(&error))?;
    let person = |who: gix::actor::SignatureRef<'_>| json!({ "name": who.name.to_str_lossy(), "email": who.email.to_str_lossy(), "date": who.time.trim() });
    let more = commit.extra_headers.iter().map(|(name, value)| format!("{name} {}\n", value.to_str_lossy().trim_end()));
    Ok(json!({
        "commitId": id.to_string(),
        "treeId": commit.tree().to_string(),
        "parents": commit.parents().map(|parent| parent.to_string()).collect::<Vec<_>>(),
        "message": commit.message.to_str_lossy(),
        "author": person(commit.author().map_err(|error| damaged(&error))?),
        "committer": person(commit.committer().map_err(|error| damaged(&error))?),
        "additionalData": more.collect::<String>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_has_the_members_of_the_api() {
        let text = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nparent 1111111111111111111111111111111111111111\n\
                    author Ann <ann@example.com> 1764000000 -0800\ncommitter Bob <bob@example.com> 1764000001 +0100\n\
                    gpgsig x\n y\n\nsubject\n\nbody\n";
        let id = ObjectId::from_hex(b"2222222222222222222222222222222222222222").unwrap();
        let commit = describe(id, text.as_bytes(), Format::Sha1).unwrap();
        assert_eq!(commit["author"], json!({"name": "Ann", "email": "ann@example.com", "date": "1764000000 -0800"}));
        assert_eq!(commit["committer"]["date"], "1764000001 +0100");
        assert_eq!(
            (commit["message"].as_str(), commit["parents"].as_array().unwrap().len()),
            (Some("subject\n\nbody\n"), 1)
        );
        assert_eq!(commit["additionalData"], "gpgsig x\ny\n");
        assert_eq!(describe(id, b"tree x", Format::Sha1).unwrap_err().code(), "ServiceUnavailable");
    }

    #[test]
    fn ids_are_full_and_of_the_format() {
        let forty = "a".repeat(40);
        assert!(object_id(&forty, Format::Sha1).is_some() && object_id(&forty, Format::Sha256).is_none());
        for bad in ["", "abc", &"0".repeat(40), &"g".repeat(40), "main"] {
            assert!(object_id(bad, Format::Sha1).is_none(), "{bad}");
        }
    }
}
