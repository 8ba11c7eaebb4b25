//! [`Documents`] of an account in one exact state.

use std::sync::Arc;

use gix::ObjectId;
use gix::hash::Kind as Format;

use super::folder::{Document, Entry, Folder};
use gitferry_engine::ledger::head::Frontier;

/// All documents of an account in one exact state. Cheap to clone; states share what is equal.
#[derive(Clone, Debug)]
pub struct Documents {
    frontier: Frontier,
    commit: ObjectId,
    root: Arc<Folder>,
}

/// A document that differs between two states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Path of the document.
    pub path: String,
    /// The document in the newer state; `None` if that state lacks it.
    pub document: Option<Document>,
}

impl Documents {
    /// Creates the documents below `root`, which `commit` names in the state `frontier` of the ledger.
    pub(crate) fn new(frontier: Frontier, commit: ObjectId, root: Arc<Folder>) -> Self {
        Documents { frontier, commit, root }
    }

    /// Returns the state before the first change: no documents, and no commit.
    pub(crate) fn before_the_first_change(format: Format) -> Self {
        Documents::new(Frontier::ORIGIN, ObjectId::null(format), Folder::empty(format))
    }

    pub(crate) fn root(&self) -> &Arc<Folder> {
        &self.root
    }

    /// Returns the state of the ledger that the documents were read in.
    pub fn frontier(&self) -> Frontier {
        self.frontier
    }

    /// Returns the commit of the documents; the null id before the first change.
    pub fn commit(&self) -> ObjectId {
        self.commit
    }

    /// Returns the number of documents.
    pub fn len(&self) -> usize {
        self.root.documents()
    }

    /// Returns true if there are no documents.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of all documents.
    pub fn total_bytes(&self) -> u64 {
        self.root.bytes()
    }

    /// Finds a document by its path.
    pub fn get(&self, path: &str) -> Option<&Document> {
        self.root.document(path)
    }

    /// Iterates over all documents with their paths, folder by folder.
    pub fn iter(&self) -> impl Iterator<Item = (String, &Document)> {
        Walk { open: vec![(String::new(), self.root.entries().iter())] }
    }

    /// Returns the documents that differ from those of an `older` state, at a cost in proportion to their number and to
    /// the size of the folders that hold them.
    pub fn changes_since(&self, older: &Documents) -> Vec<Changed> {
        let mut changes = Vec::new();
        compare("", &older.root, &self.root, &mut changes);
        changes
    }
}

struct Walk<'a> {
    /// Open folders with their paths, the innermost last, and the entries that are left in each.
    open: Vec<(String, Entries<'a>)>,
}

type Entries<'a> = std::slice::Iter<'a, (Arc<str>, Entry)>;

impl<'a> Iterator for Walk<'a> {
    type Item = (String, &'a Document);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (prefix, entries) = self.open.last_mut()?;
            match entries.next() {
                None => drop(self.open.pop()),
                Some((name, Entry::Document(document))) => return Some((format!("{prefix}{name}"), document)),
                Some((name, Entry::Folder(folder))) => {
                    let prefix = format!("{prefix}{name}/");
                    self.open.push((prefix, folder.entries().iter()));
                }
            }
        }
    }
}

fn compare(prefix: &str, old: &Folder, new: &Folder, changes: &mut Vec<Changed>) {
    if old.id() == new.id() {
        return;
    }
    let gone = old.entries().iter().filter(|(name, _)| new.get(name).is_none());
    for (name, entry) in gone {
        list(&format!("{prefix}{name}"), entry, false, changes);
    }
    for (name, entry) in new.entries() {
        let path = format!("{prefix}{name}");
        match (old.get(name), entry) {
            (Some(old), new) if old.id() == new.id() => {}
            (Some(Entry::Folder(old)), Entry::Folder(new)) => compare(&format!("{path}/"), old, new, changes),
            // The new document replaces the old one under the same path.
            (Some(Entry::Document(_)) | None, Entry::Document(_)) | (None, Entry::Folder(_)) => {
                list(&path, entry, true, changes);
            }
            (Some(old), new) => {
                list(&path, old, false, changes);
                list(&path, new, true, changes);
            }
        }
    }
}

/// Lists an entry that is only in the newer state if `is_new`, and only in the older one otherwise.
fn list(path: &str, entry: &Entry, is_new: bool, changes: &mut Vec<Changed>) {
    match entry {
        Entry::Document(document) => {
            let document = is_new.then(|| document.clone());
            changes.push(Changed { path: path.into(), document });
        }
        Entry::Folder(folder) => {
            folder.entries().iter().for_each(|(name, entry)| list(&format!("{path}/{name}"), entry, is_new, changes));
        }
    }
}
