//! Edits of files on a branch: `PutFile`, `DeleteFile` and `CreateCommit`, each one commit.

use std::sync::Arc;

use async_trait::async_trait;
use gitferry_api::{ApiError, Demand, Result, shown};
use gitferry_content::edit::{self, Edit, EditError, Edited, FileMetadata, PutFile as Put, SourceFile};
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::push::PushState;
use gitferry_git::refs::RefName;
use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use gix::objs::Kind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::branches::{MAX_ATTEMPTS, ref_of, tip};
use crate::commits::{Bytes, CommitError, FileMode, Made, Signature, mode_name, path_to_write, publish};
use crate::describe::BRANCHES;
use crate::edit_source::{of_content, with_reader};
use crate::failure::{no_branch, no_repository, not_allowed};
use crate::objects::{has_readable, object_id};
use crate::opened::path_of;
use crate::operation::{Ask, Found, Operation, only};

/// Prefix of the names of tags.
const TAGS: &str = "refs/tags/";

/// Edit of a branch, with the commit on which the request wants it.
struct Change<'a> {
    branch: &'a str,
    parent: Option<&'a str>,
    edit: Edit,
    signature: Signature,
}

/// Commit of an edit, with the files that it changed.
struct Done {
    commit: ObjectId,
    edited: Edited,
}

impl Change<'_> {
    /// Makes the commit and moves the branch to it.
    async fn make(self, ask: &Ask<'_>, mut item: HeadItem) -> Result<Done> {
        ask.workshop.check_writable(&item)?;
        let Change { branch, parent, edit, signature } = self;
        let name = ref_of(branch)?;
        let parent = parent.map(|text| parent_id(text, &item)).transpose()?;
        let edit = Arc::new(edit);
        for _ in 0..MAX_ATTEMPTS {
            let state = ask.workshop.state(&item).await?;
            let old = check_parent(ask, &state, branch, &name, parent).await?;
            let (made, edited) = commit(ask, state, old, edit.clone(), signature.clone()).await?;
            let commit = made.id;
            if publish(ask, &item, &name, old, made).await? {
                return Ok(Done { commit, edited });
            }
            if let Some(parent) = parent {
                return Err(outdated(branch, parent));
            }
            let found = ask.workshop.find(&item.head.name).await?.filter(|found| found.id == item.id);
            item = found.ok_or_else(|| no_repository(&item.head.name))?;
        }
        Err(ApiError::unavailable())
    }
}

fn parent_id(text: &str, item: &HeadItem) -> Result<ObjectId> {
    object_id(text, item.head.format).ok_or_else(|| {
        let text = format!("{} is not the full id of a commit.", shown(text));
        ApiError::new("InvalidParentCommitIdException", 400, text)
    })
}

fn outdated(branch: &str, parent: ObjectId) -> ApiError {
    let text = format!("{} is not at {parent} any more: read the branch and edit its newest commit.", shown(branch));
    ApiError::new("ParentCommitIdOutdatedException", 400, text)
}

/// The commit that the branch has, on which the request wants its own; `None` for the first commit of a repository.
async fn check_parent(
    ask: &Ask<'_>,
    state: &PushState,
    branch: &str,
    name: &RefName,
    parent: Option<ObjectId>,
) -> Result<Option<ObjectId>> {
    let refs = &state.view.refs;
    let fail = |code, text| Err(ApiError::new(code, 400, text));
    let missing = |parent| fail("ParentCommitDoesNotExistException", format!("There is no commit {parent}."));
    match (tip(refs, name), parent) {
        (Some(tip), Some(parent)) if tip == parent => Ok(Some(tip)),
        (Some(_), Some(parent)) => {
            let is_known = has_readable(ask, state.clone(), parent, Kind::Commit).await?;
            if is_known { Err(outdated(branch, parent)) } else { missing(parent) }
        }
        (Some(tip), None) => {
            let text = format!("{} has commits: parentCommitId has to be its newest, {tip}.", shown(branch));
            fail("ParentCommitIdRequiredException", text)
        }
        (None, _) if refs.find(format!("{TAGS}{branch}").as_bytes().as_bstr()).is_some() => {
            fail("BranchNameIsTagNameException", format!("{} is a tag, and no branch.", shown(branch)))
        }
        (None, _) if !refs.with_prefix(BRANCHES.as_bytes()).is_empty() => Err(no_branch(branch)),
        (None, Some(parent)) => missing(parent),
        (None, None) => Ok(None),
    }
}

/// Makes the commit of an edit on the packs of a state.
async fn commit(
    ask: &Ask<'_>,
    state: PushState,
    old: Option<ObjectId>,
    edit: Arc<Edit>,
    signature: Signature,
) -> Result<(Made, Edited)> {
    let name = state.item.head.name.clone();
    let made = with_reader(ask, state, move |reader| {
        let root = old.map(|old| reader.commit(&old)).transpose().map_err(EditError::from)?.map(|commit| commit.tree);
        let edited = edit::edit(reader, root, &edit)?;
        let made = signature.commit(reader, edited.tree, old.into_iter().collect(), || message(&edited));
        Ok::<_, EditError>(made.map(|made| (made, edited)))
    });
    let made: std::result::Result<std::result::Result<_, CommitError>, EditError> = made.await?;
    made.map_err(|error| refused(ask, &name, error))?.map_err(|error| error.answer(ask, &name))
}

/// Message of a commit whose request has none.
fn message(edited: &Edited) -> String {
    let Edited { added, updated, deleted, .. } = edited;
    match (&added[..], &updated[..], &deleted[..]) {
        ([file], [], []) => format!("Added {}", file.path),
        ([], [file], []) => format!("Edited {}", file.path),
        ([], [], [file]) => format!("Deleted {}", file.path),
        _ => format!("Changed {} files", added.len() + updated.len() + deleted.len()),
    }
}

/// An edit that cannot be made, as the API has it.
fn refused(ask: &Ask<'_>, name: &str, error: EditError) -> ApiError {
    let code = match error {
        EditError::Content(error) => return of_content(ask, name, error),
        EditError::NoEntry => "FileEntryRequiredException",
        EditError::TooManyEntries => "MaximumFileEntriesExceededException",
        EditError::SamePath(_) => "SamePathRequestException",
        EditError::FileAndFolder(_) => "PutFileEntryConflictException",
        EditError::NoContent(_) => "SourceFileOrContentRequiredException",
        EditError::ContentAndSource(_) => "FileContentAndSourceFileSpecifiedException",
        EditError::FileTooLarge(_) => "FileContentSizeLimitExceededException",
        EditError::FolderTooLarge(_) => "FolderContentSizeLimitExceededException",
        EditError::RestrictedSource(_) => "RestrictedSourceFileException",
        EditError::NoFile(_) => "FileDoesNotExistException",
        EditError::Mode(_) => "InvalidFileModeException",
        EditError::IsFolder(_) => "FileNameConflictsWithDirectoryNameException",
        EditError::BelowFile { .. } => "DirectoryNameConflictsWithFileNameException",
        EditError::Submodule(_) => "FilePathConflictsWithSubmodulePathException",
        EditError::NoChange if ask.operation.has_error("SameFileContentException") => "SameFileContentException",
        EditError::NoChange => "NoChangeException",
    };
    let text = format!("Nothing was changed: {error}.");
    // `DeleteFile` has no exception for a submodule, nor for a file that keeps its folder.
    if ask.operation.has_error(code) { ApiError::new(code, 400, text) } else { not_allowed(text) }
}

/// `PutFile`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutFile {
    repository_name: String,
    branch_name: String,
    file_content: Bytes,
    file_path: String,
    file_mode: Option<FileMode>,
    parent_commit_id: Option<String>,
    commit_message: Option<String>,
    name: Option<String>,
    email: Option<String>,
}

#[async_trait]
impl Operation for PutFile {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    fn demand(&self, demand: Demand) -> Demand {
        demand.on_reference(format!("{BRANCHES}{}", self.branch_name))
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let put = Put {
            path: path_to_write(&self.file_path)?,
            mode: self.file_mode.map(Into::into),
            content: Some(self.file_content.0.clone()),
            source: None,
        };
        let change = Change {
            branch: &self.branch_name,
            parent: self.parent_commit_id.as_deref(),
            edit: Edit { put: vec![put], ..Edit::default() },
            signature: Signature::new(ask, self.name.as_deref(), self.email.as_deref(), self.commit_message.as_deref()),
        };
        let Done { commit, edited } = change.make(ask, only(found)?).await?;
        answer_on_file(commit, &edited, edited.added.iter().chain(&edited.updated))
    }
}

/// `DeleteFile`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteFile {
    repository_name: String,
    branch_name: String,
    file_path: String,
    parent_commit_id: String,
    #[serde(default)]
    keep_empty_folders: bool,
    commit_message: Option<String>,
    name: Option<String>,
    email: Option<String>,
}

#[async_trait]
impl Operation for DeleteFile {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    fn demand(&self, demand: Demand) -> Demand {
        demand.on_reference(format!("{BRANCHES}{}", self.branch_name))
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let change = Change {
            branch: &self.branch_name,
            parent: Some(&self.parent_commit_id),
            edit: Edit {
                delete: vec![path_of(&self.file_path)?],
                keep_empty_folders: self.keep_empty_folders,
                ..Edit::default()
            },
            signature: Signature::new(ask, self.name.as_deref(), self.email.as_deref(), self.commit_message.as_deref()),
        };
        let Done { commit, edited } = change.make(ask, only(found)?).await?;
        let mut answer = answer_on_file(commit, &edited, edited.deleted.iter())?;
        answer["filePath"] = json!(self.file_path);
        Ok(answer)
    }
}

/// Answer about the only file of an edit.
fn answer_on_file<'a>(
    commit: ObjectId,
    edited: &Edited,
    mut files: impl Iterator<Item = &'a FileMetadata>,
) -> Result<Value> {
    let file = files.next().ok_or_else(|| {
        tracing::error!(%commit, "the edit of a file has changed no file");
        ApiError::unavailable()
    })?;
    Ok(json!({ "commitId": commit.to_string(), "blobId": file.id.to_string(), "treeId": edited.tree.to_string() }))
}

/// Member `putFiles`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutFileEntry {
    file_path: String,
    file_mode: Option<FileMode>,
    file_content: Option<Bytes>,
    source_file: Option<SourceFileSpecifier>,
}

impl PutFileEntry {
    fn put(&self) -> Result<Put> {
        let source = |source: &SourceFileSpecifier| -> Result<SourceFile> {
            Ok(SourceFile { path: path_of(&source.file_path)?, is_move: source.is_move })
        };
        Ok(Put {
            path: path_to_write(&self.file_path)?,
            mode: self.file_mode.map(Into::into),
            content: self.file_content.as_ref().map(|content| content.0.clone()),
            source: self.source_file.as_ref().map(source).transpose()?,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SourceFileSpecifier {
    file_path: String,
    #[serde(default)]
    is_move: bool,
}

/// Member `deleteFiles`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteFileEntry {
    /// Path.
    pub file_path: String,
}

/// Member `setFileModes`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetFileModeEntry {
    /// Path.
    pub file_path: String,
    /// Mode.
    pub file_mode: FileMode,
}

/// `CreateCommit`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateCommit {
    repository_name: String,
    branch_name: String,
    parent_commit_id: Option<String>,
    author_name: Option<String>,
    email: Option<String>,
    commit_message: Option<String>,
    #[serde(default)]
    keep_empty_folders: bool,
    #[serde(default)]
    put_files: Vec<PutFileEntry>,
    #[serde(default)]
    delete_files: Vec<DeleteFileEntry>,
    #[serde(default)]
    set_file_modes: Vec<SetFileModeEntry>,
}

impl CreateCommit {
    fn edit(&self) -> Result<Edit> {
        let modes = self.set_file_modes.iter().map(|set| Ok((path_of(&set.file_path)?, set.file_mode.into())));
        Ok(Edit {
            put: self.put_files.iter().map(PutFileEntry::put).collect::<Result<_>>()?,
            delete: self.delete_files.iter().map(|file| path_of(&file.file_path)).collect::<Result<_>>()?,
            modes: modes.collect::<Result<_>>()?,
            keep_empty_folders: self.keep_empty_folders,
        })
    }
}

#[async_trait]
impl Operation for CreateCommit {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    fn demand(&self, demand: Demand) -> Demand {
        demand.on_reference(format!("{BRANCHES}{}", self.branch_name))
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let change = Change {
            branch: &self.branch_name,
            parent: self.parent_commit_id.as_deref(),
            edit: self.edit()?,
            signature: Signature::new(
                ask,
                self.author_name.as_deref(),
                self.email.as_deref(),
                self.commit_message.as_deref(),
            ),
        };
        let Done { commit, edited } = change.make(ask, only(found)?).await?;
        let list = |files: &[FileMetadata]| files.iter().map(metadata).collect::<Vec<_>>();
        Ok(json!({
            "commitId": commit.to_string(),
            "treeId": edited.tree.to_string(),
            "filesAdded": list(&edited.added),
            "filesUpdated": list(&edited.updated),
            "filesDeleted": list(&edited.deleted),
        }))
    }
}

/// The structure `FileMetadata`.
fn metadata(file: &FileMetadata) -> Value {
    let FileMetadata { path, id, mode } = file;
    json!({ "absolutePath": path.to_string(), "blobId": id.to_string(), "fileMode": mode_name(*mode) })
}
