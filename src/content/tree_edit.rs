//! Edits of a tree by path: new trees for the folders that change.

use std::collections::BTreeMap;

use gix::ObjectId;
use gix::bstr::BString;
use gix::objs::Kind;

use crate::entries::{self, Entries, Entry, Mode};
use crate::error::ContentError;
use crate::limits::{Bound, MAX_EDIT_DEPTH};
use crate::lookup::{Found, find};
use crate::path::RepoPath;
use crate::reader::Reader;

/// Edits of a tree: the entry of a path, or its removal. A path may be edited and have edited paths below it: those apply
/// to the new entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct TreeEdits(BTreeMap<Key, Option<Entry>>);

/// Path whose order keeps the paths of a folder together: its slashes are NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(Vec<u8>);

impl TreeEdits {
    pub(crate) fn set(&mut self, path: &RepoPath, entry: Option<Entry>) {
        let key = path.as_bstr().iter().map(|byte| if *byte == b'/' { 0 } else { *byte });
        self.0.insert(Key(key.collect()), entry);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies the edits to a tree and makes the new trees. Folders without entries go, but for the root.
    pub(crate) fn apply(&self, reader: &mut Reader<'_>, root: ObjectId) -> Result<ObjectId, ContentError> {
        if self.is_empty() {
            return Ok(root);
        }
        let entries = reader.entries(&root)?;
        let mut open = vec![Open { name: BString::default(), entries, is_changed: false }];
        for (key, entry) in &self.0 {
            let names: Vec<&[u8]> = key.0.split(|byte| *byte == 0).collect();
            let Some((last, folders)) = names.split_last() else { continue };
            if folders.len() >= MAX_EDIT_DEPTH {
                return Err(ContentError::Limit(Bound::EditDepth));
            }
            let shared = open[1..].iter().zip(folders).take_while(|(open, name)| open.name == **name).count();
            close_to(reader, &mut open, shared + 1)?;
            for name in &folders[shared..] {
                let child = open_folder(reader, open.last(), name)?;
                open.push(child);
            }
            if let Some(folder) = open.last_mut() {
                folder.set(last, *entry);
            }
        }
        close_to(reader, &mut open, 1)?;
        let Some(folder) = open.pop() else { return Ok(root) };
        if folder.is_changed { reader.make(Kind::Tree, entries::bytes(&folder.entries)) } else { Ok(root) }
    }
}

/// Folder that is being edited.
struct Open {
    name: BString,
    entries: Entries,
    is_changed: bool,
}

impl Open {
    fn set(&mut self, name: &[u8], entry: Option<Entry>) {
        let before = match entry {
            Some(entry) => self.entries.insert(name.into(), entry),
            None => self.entries.remove(&BString::from(name)),
        };
        self.is_changed |= before != entry;
    }
}

/// Opens a folder below another one: that of the name, or an empty one.
fn open_folder(reader: &mut Reader<'_>, parent: Option<&Open>, name: &[u8]) -> Result<Open, ContentError> {
    let entry = parent.and_then(|parent| parent.entries.get(&BString::from(name)));
    let entries = match entry {
        Some(Entry { mode: Mode::Folder, id }) => reader.entries(id)?,
        _ => Entries::new(),
    };
    Ok(Open { name: name.into(), entries, is_changed: false })
}

/// Closes folders until `left` are open.
fn close_to(reader: &mut Reader<'_>, open: &mut Vec<Open>, left: usize) -> Result<(), ContentError> {
    while open.len() > left {
        let Some(folder) = open.pop() else { break };
        if !folder.is_changed {
            continue;
        }
        let entry = if folder.entries.is_empty() {
            None
        } else {
            let id = reader.make(Kind::Tree, entries::bytes(&folder.entries))?;
            Some(Entry { mode: Mode::Folder, id })
        };
        if let Some(parent) = open.last_mut() {
            parent.set(&folder.name, entry);
        }
    }
    Ok(())
}

/// Name of the empty file that keeps a folder.
pub(crate) const KEEP_FILE: &[u8] = b".gitkeep";

/// Adds [`KEEP_FILE`] to the folders of removed paths that are gone from a tree.
pub(crate) fn keep_folders(
    reader: &mut Reader<'_>,
    tree: ObjectId,
    removed: &[RepoPath],
) -> Result<ObjectId, ContentError> {
    let mut edits = TreeEdits::default();
    for folder in removed.iter().filter_map(RepoPath::parent) {
        if find(reader, tree, &folder)? == Found::Nothing {
            let id = reader.make(Kind::Blob, Vec::new())?;
            edits.set(&folder.join(KEEP_FILE), Some(Entry { mode: Mode::File, id }));
        }
    }
    edits.apply(reader, tree)
}
