//! Edits of files: `PutFile`, `DeleteFile` and `CreateCommit`, as a new tree.

use std::collections::{BTreeMap, BTreeSet};

use gix::ObjectId;
use gix::objs::Kind;

use crate::entries::{Entry, Mode};
use crate::error::ContentError;
use crate::limits::{MAX_COMMIT_BYTES, MAX_FILE_BYTES, MAX_FILE_ENTRIES};
use crate::lookup::{Found, find};
use crate::path::RepoPath;
use crate::reader::Reader;
use crate::tree_edit::{KEEP_FILE, TreeEdits, keep_folders};

/// File to copy or move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Path before the edit.
    pub path: RepoPath,
    /// Removes the file at its old path.
    pub is_move: bool,
}

/// File to add or update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutFile {
    /// Path after the edit.
    pub path: RepoPath,
    /// Mode; without one, that of the file before, or [`Mode::File`].
    pub mode: Option<Mode>,
    /// Bytes of the file.
    pub content: Option<Vec<u8>>,
    /// File whose bytes are taken, in place of `content`.
    pub source: Option<SourceFile>,
}

/// Edit of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Files to add or update.
    pub put: Vec<PutFile>,
    /// Files to delete.
    pub delete: Vec<RepoPath>,
    /// Files whose mode changes.
    pub modes: Vec<(RepoPath, Mode)>,
    /// Adds a `.gitkeep` to folders that the edit leaves empty.
    pub keep_empty_folders: bool,
}

/// File of an edit, as the API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMetadata {
    /// Path from the root.
    pub path: RepoPath,
    /// Id of the blob; of a deleted file, the id that it had.
    pub id: ObjectId,
    /// Mode.
    pub mode: Mode,
}

/// Tree after an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// Id of the tree.
    pub tree: ObjectId,
    /// New files.
    pub added: Vec<FileMetadata>,
    /// Files with new content or mode.
    pub updated: Vec<FileMetadata>,
    /// Deleted files.
    pub deleted: Vec<FileMetadata>,
}

/// An edit that cannot be made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// `FileEntryRequiredException`.
    #[error("the commit names no file to put, delete or change the mode of")]
    NoEntry,
    /// `MaximumFileEntriesExceededException`.
    #[error("the commit names more than {MAX_FILE_ENTRIES} files")]
    TooManyEntries,
    /// `SamePathRequestException`.
    #[error("the commit names {0} twice")]
    SamePath(RepoPath),
    /// `PutFileEntryConflictException`.
    #[error("the commit puts {0} both as a file and as a folder")]
    FileAndFolder(RepoPath),
    /// `SourceFileOrContentRequiredException`.
    #[error("the commit has neither content nor a source file for {0}")]
    NoContent(RepoPath),
    /// `FileContentAndSourceFileSpecifiedException`.
    #[error("the commit has both content and a source file for {0}")]
    ContentAndSource(RepoPath),
    /// `FileContentSizeLimitExceededException`.
    #[error("{0} exceeds {MAX_FILE_BYTES} bytes, or all files of the commit exceed {MAX_COMMIT_BYTES} bytes")]
    FileTooLarge(RepoPath),
    /// `FolderContentSizeLimitExceededException`.
    #[error("the files that the commit puts into the folder of {0} exceed {MAX_FILE_BYTES} bytes")]
    FolderTooLarge(RepoPath),
    /// `RestrictedSourceFileException`.
    #[error("{0} keeps a folder and cannot be copied or moved")]
    RestrictedSource(RepoPath),
    /// `FileDoesNotExistException`.
    #[error("there is no file {0}")]
    NoFile(RepoPath),
    /// `InvalidFileModeException`.
    #[error("{0} cannot have the mode")]
    Mode(RepoPath),
    /// `FileNameConflictsWithDirectoryNameException`.
    #[error("{0} is a folder")]
    IsFolder(RepoPath),
    /// `DirectoryNameConflictsWithFileNameException`.
    #[error("{by} is a file, so that {path} cannot be in it")]
    BelowFile {
        /// Path to put.
        path: RepoPath,
        /// Path of the file.
        by: RepoPath,
    },
    /// `FilePathConflictsWithSubmodulePathException`.
    #[error("{0} is, or is in, a submodule")]
    Submodule(RepoPath),
    /// `SameFileContentException` of `PutFile`, `NoChangeException` of `CreateCommit`.
    #[error("the files have the content and modes already")]
    NoChange,
    /// An object cannot be read.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// Edits the tree of a commit; `None` stands for the first commit of a branch without one. The reader has the new objects.
pub fn edit(reader: &mut Reader<'_>, root: Option<ObjectId>, edit: &Edit) -> Result<Edited, EditError> {
    let before = root.unwrap_or_else(|| ObjectId::empty_tree(reader.format()));
    check_entries(edit)?;
    let mut plan = Plan::default();
    for path in &edit.delete {
        let file = existing(reader, before, path)?;
        plan.remove(path, file);
    }
    for put in &edit.put {
        if let Some(source) = &put.source
            && source.is_move
        {
            let file = existing(reader, before, &source.path)?;
            plan.remove(&source.path, file);
        }
    }
    for put in &edit.put {
        let new = put_entry(reader, before, put)?;
        plan.put(reader, before, &put.path, new)?;
    }
    for (path, mode) in &edit.modes {
        let file = existing(reader, before, path)?;
        if !mode.is_blob() || !file.mode.is_blob() {
            return Err(EditError::Mode(path.clone()));
        }
        plan.change_mode(path, file, *mode);
    }
    let tree = plan.edits.apply(reader, before)?;
    let removed: Vec<RepoPath> = plan.deleted.keys().cloned().collect();
    let tree = if edit.keep_empty_folders { keep_folders(reader, tree, &removed)? } else { tree };
    if tree == before && root.is_some() {
        return Err(EditError::NoChange);
    }
    Ok(plan.into_edited(tree))
}

/// Checks what needs no repository: numbers, sizes, and which paths are named twice.
fn check_entries(edit: &Edit) -> Result<(), EditError> {
    let count = edit.put.len() + edit.delete.len() + edit.modes.len();
    if count == 0 {
        return Err(EditError::NoEntry);
    }
    if count > MAX_FILE_ENTRIES {
        return Err(EditError::TooManyEntries);
    }
    let moved = edit.put.iter().filter_map(|put| put.source.as_ref()).filter(|source| source.is_move);
    let moved = moved.map(|source| &source.path);
    let put = edit.put.iter().map(|put| &put.path);
    let modes = edit.modes.iter().map(|(path, _)| path);
    let mut named = BTreeSet::new();
    for path in put.chain(&edit.delete).chain(modes).chain(moved) {
        if !named.insert(path) {
            return Err(EditError::SamePath(path.clone()));
        }
    }
    check_contents(edit)
}

fn check_contents(edit: &Edit) -> Result<(), EditError> {
    let files: BTreeSet<&RepoPath> = edit.put.iter().map(|put| &put.path).collect();
    let mut all = 0;
    let mut by_folder: BTreeMap<Option<RepoPath>, u64> = BTreeMap::new();
    for put in &edit.put {
        let path = &put.path;
        let mut above = path.parent();
        while let Some(folder) = above {
            if files.contains(&folder) {
                return Err(EditError::FileAndFolder(folder));
            }
            above = folder.parent();
        }
        match (&put.content, &put.source) {
            (None, None) => return Err(EditError::NoContent(path.clone())),
            (Some(_), Some(_)) => return Err(EditError::ContentAndSource(path.clone())),
            (Some(content), None) => {
                let bytes = content.len() as u64;
                all += bytes;
                if bytes > MAX_FILE_BYTES || all > MAX_COMMIT_BYTES {
                    return Err(EditError::FileTooLarge(path.clone()));
                }
                let folder = by_folder.entry(path.parent()).or_default();
                *folder += bytes;
                if *folder > MAX_FILE_BYTES {
                    return Err(EditError::FolderTooLarge(path.clone()));
                }
            }
            (None, Some(source)) if source.path.last() == KEEP_FILE => {
                return Err(EditError::RestrictedSource(source.path.clone()));
            }
            (None, Some(_)) => {}
        }
        if put.mode.is_some_and(|mode| !mode.is_blob()) {
            return Err(EditError::Mode(path.clone()));
        }
    }
    Ok(())
}

/// File or link at a path.
fn existing(reader: &mut Reader<'_>, root: ObjectId, path: &RepoPath) -> Result<Entry, EditError> {
    match find(reader, root, path)? {
        Found::Entry(entry) if entry.mode.is_blob() => Ok(entry),
        Found::Entry(Entry { mode: Mode::Submodule, .. }) | Found::Blocked { mode: Mode::Submodule, .. } => {
            Err(EditError::Submodule(path.clone()))
        }
        _ => Err(EditError::NoFile(path.clone())),
    }
}

/// Entry that a put brings.
fn put_entry(reader: &mut Reader<'_>, root: ObjectId, put: &PutFile) -> Result<Entry, EditError> {
    let known = find(reader, root, &put.path)?.entry().filter(|entry| entry.mode.is_blob());
    let (id, mode) = match (&put.content, &put.source) {
        (_, Some(source)) => {
            let file = existing(reader, root, &source.path)?;
            (file.id, Some(file.mode))
        }
        (content, None) => {
            let content = content.clone().ok_or_else(|| EditError::NoContent(put.path.clone()))?;
            (reader.make(Kind::Blob, content)?, known.map(|entry| entry.mode))
        }
    };
    Ok(Entry { mode: put.mode.or(mode).unwrap_or(Mode::File), id })
}

/// Edits, and the files that they change.
#[derive(Debug, Default)]
struct Plan {
    edits: TreeEdits,
    added: BTreeMap<RepoPath, Entry>,
    updated: BTreeMap<RepoPath, Entry>,
    deleted: BTreeMap<RepoPath, Entry>,
}

impl Plan {
    fn remove(&mut self, path: &RepoPath, file: Entry) {
        self.edits.set(path, None);
        self.deleted.insert(path.clone(), file);
    }

    fn change_mode(&mut self, path: &RepoPath, file: Entry, mode: Mode) {
        if file.mode != mode {
            let file = Entry { mode, ..file };
            self.edits.set(path, Some(file));
            self.updated.insert(path.clone(), file);
        }
    }

    /// Puts a file where there is a file, or nothing.
    fn put(&mut self, reader: &mut Reader<'_>, root: ObjectId, path: &RepoPath, new: Entry) -> Result<(), EditError> {
        match find(reader, root, path)? {
            Found::Nothing => {
                self.added.insert(path.clone(), new);
            }
            Found::Entry(Entry { mode: Mode::Folder, .. }) => return Err(EditError::IsFolder(path.clone())),
            Found::Entry(Entry { mode: Mode::Submodule, .. }) | Found::Blocked { mode: Mode::Submodule, .. } => {
                return Err(EditError::Submodule(path.clone()));
            }
            Found::Entry(old) if old == new => return Ok(()),
            Found::Entry(_) => {
                self.updated.insert(path.clone(), new);
            }
            // The same commit deletes or moves the file that was in the way.
            Found::Blocked { by, .. } if self.deleted.contains_key(&by) => {
                self.added.insert(path.clone(), new);
            }
            Found::Blocked { by, .. } => return Err(EditError::BelowFile { path: path.clone(), by }),
        }
        self.edits.set(path, Some(new));
        Ok(())
    }

    fn into_edited(self, tree: ObjectId) -> Edited {
        let list = |files: BTreeMap<RepoPath, Entry>| {
            files.into_iter().map(|(path, Entry { id, mode })| FileMetadata { path, id, mode }).collect()
        };
        Edited { tree, added: list(self.added), updated: list(self.updated), deleted: list(self.deleted) }
    }
}
