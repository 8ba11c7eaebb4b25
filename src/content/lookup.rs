//! What a tree has at a path.

use gix::ObjectId;

use crate::entries::{Entry, Mode};
use crate::error::ContentError;
use crate::path::{RepoPath, joined};
use crate::reader::Reader;

/// What a tree has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An entry.
    Entry(Entry),
    /// Nothing.
    Nothing,
    /// Nothing, as the path leads through something that is no folder.
    Blocked {
        /// Path of the entry that is no folder.
        by: RepoPath,
        /// Mode of the entry.
        mode: Mode,
    },
}

impl Found {
    pub(crate) fn entry(self) -> Option<Entry> {
        match self {
            Found::Entry(entry) => Some(entry),
            Found::Nothing | Found::Blocked { .. } => None,
        }
    }
}

/// Looks a path up in a tree.
pub(crate) fn find(reader: &mut Reader<'_>, root: ObjectId, path: &RepoPath) -> Result<Found, ContentError> {
    let mut here = Entry { mode: Mode::Folder, id: root };
    let mut above = gix::bstr::BString::default();
    for name in path.names() {
        let Some(folder) = here.folder() else {
            return Ok(Found::Blocked { by: RepoPath::known(above), mode: here.mode });
        };
        let Some(entry) = reader.entry(&folder, name)? else { return Ok(Found::Nothing) };
        here = entry;
        above = joined(&above, name);
    }
    Ok(Found::Entry(here))
}
