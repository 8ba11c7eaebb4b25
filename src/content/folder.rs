//! Files and folders of a tree: `GetFile` and `GetFolder`.

use gix::ObjectId;
use gix::bstr::BString;

use crate::entries::{Entry, Mode};
use crate::error::ContentError;
use crate::limits::{Bound, MAX_FOLDER_ENTRIES};
use crate::lookup::{self, Found};
use crate::path::{RepoPath, joined};
use crate::reader::Reader;

/// File or symbolic link at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Id of the blob.
    pub id: ObjectId,
    /// Mode: a file or a symbolic link.
    pub mode: Mode,
    /// Size in bytes.
    pub size: u64,
}

/// Failure to find a file or folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Nothing has the path.
    #[error("nothing has the path {0}")]
    Nothing(RepoPath),
    /// The path leads through a file, link or submodule.
    #[error("{by} is not a folder")]
    Blocked {
        /// Path of what is no folder.
        by: RepoPath,
        /// Mode of what is no folder.
        mode: Mode,
    },
    /// A file was asked for, and the path is a folder.
    #[error("{0} is a folder")]
    IsFolder(RepoPath),
    /// The path is a submodule: its commit is in another repository.
    #[error("{path} is a submodule at commit {commit}")]
    IsSubmodule {
        /// The path.
        path: RepoPath,
        /// Commit of the submodule.
        commit: ObjectId,
    },
    /// A folder was asked for, and the path is a file or link.
    #[error("{0} is a file")]
    IsFile(RepoPath),
    /// An object cannot be read.
    #[error(transparent)]
    Content(#[from] ContentError),
}

fn entry(reader: &mut Reader<'_>, root: ObjectId, path: &RepoPath) -> Result<Entry, FolderError> {
    match lookup::find(reader, root, path)? {
        Found::Entry(entry) => Ok(entry),
        Found::Nothing => Err(FolderError::Nothing(path.clone())),
        Found::Blocked { by, mode } => Err(FolderError::Blocked { by, mode }),
    }
}

/// Finds the file or symbolic link at a path. The caller reads the blob, after a look at the size.
pub fn file(reader: &mut Reader<'_>, root: ObjectId, path: &RepoPath) -> Result<File, FolderError> {
    let Entry { mode, id } = entry(reader, root, path)?;
    match mode {
        Mode::Folder => Err(FolderError::IsFolder(path.clone())),
        Mode::Submodule => Err(FolderError::IsSubmodule { path: path.clone(), commit: id }),
        Mode::File | Mode::Executable | Mode::Symlink => Ok(File { id, mode, size: reader.blob_size(&id)? }),
    }
}

/// Entry of a listed folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Id of the tree, blob or commit.
    pub id: ObjectId,
    /// Mode.
    pub mode: Mode,
    /// Path from the root.
    pub absolute: BString,
    /// Path from the listed folder.
    pub relative: BString,
}

/// Content of a folder; each list in the order of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Id of the folder's tree.
    pub tree: ObjectId,
    /// Folders.
    pub folders: Vec<Listed>,
    /// Files.
    pub files: Vec<Listed>,
    /// Symbolic links.
    pub links: Vec<Listed>,
    /// Submodules.
    pub submodules: Vec<Listed>,
}

/// Lists a folder; without a path, the root.
pub fn folder(reader: &mut Reader<'_>, root: ObjectId, path: Option<&RepoPath>) -> Result<Folder, FolderError> {
    let tree = match path {
        None => root,
        Some(path) => match entry(reader, root, path)? {
            Entry { mode: Mode::Folder, id } => id,
            Entry { mode: Mode::Submodule, id } => {
                return Err(FolderError::IsSubmodule { path: path.clone(), commit: id });
            }
            _ => return Err(FolderError::IsFile(path.clone())),
        },
    };
    let mut listed = Folder { tree, folders: Vec::new(), files: Vec::new(), links: Vec::new(), submodules: Vec::new() };
    let mut cursor = reader.cursor(&tree)?;
    let mut count = 0;
    while let (Some((name, mode)), Some(entry)) = (cursor.name(), cursor.entry()) {
        count += 1;
        if count > MAX_FOLDER_ENTRIES {
            return Err(ContentError::Limit(Bound::FolderEntries).into());
        }
        let absolute = path.map_or_else(|| name.into(), |path| joined(path.as_bstr(), name));
        let list = match mode {
            Mode::Folder => &mut listed.folders,
            Mode::File | Mode::Executable => &mut listed.files,
            Mode::Symlink => &mut listed.links,
            Mode::Submodule => &mut listed.submodules,
        };
        list.push(Listed { id: entry.id, mode, absolute, relative: name.into() });
        cursor.advance()?;
    }
    Ok(listed)
}
