//! [`Folder`]: the documents of one state as a tree. States share folders and documents that are equal.

use std::sync::Arc;

use bytes::Bytes;
use gix::ObjectId;
use gix::hash::Kind as Format;
use gix::objs::Kind;

/// A document: the bytes of a file and its blob id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    id: ObjectId,
    bytes: Bytes,
}

impl Document {
    /// Creates a document from its bytes, whose blob id is `id`.
    pub(crate) fn new(id: ObjectId, bytes: Bytes) -> Self {
        Document { id, bytes }
    }

    /// Returns the blob id: documents with the same id have the same bytes.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Entry of a folder.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Folder(Arc<Folder>),
    Document(Document),
}

/// A folder, with the id of its tree object.
#[derive(Debug)]
pub(crate) struct Folder {
    id: ObjectId,
    /// Sorted by name.
    entries: Vec<(Arc<str>, Entry)>,
    documents: usize,
    bytes: u64,
}

impl Folder {
    /// Returns the folder without entries.
    pub fn empty(format: Format) -> Arc<Folder> {
        Arc::new(Folder { id: ObjectId::empty_tree(format), entries: Vec::new(), documents: 0, bytes: 0 })
    }

    /// Creates a folder from its entries, which are sorted by name without repetition, and its tree id.
    pub fn new(id: ObjectId, entries: Vec<(Arc<str>, Entry)>) -> Arc<Folder> {
        debug_assert!(entries.windows(2).all(|pair| pair[0].0 < pair[1].0), "entries are sorted, each name once");
        let documents = entries.iter().map(|(_, entry)| entry.documents()).sum();
        let bytes = entries.iter().map(|(_, entry)| entry.bytes()).fold(0, u64::saturating_add);
        Arc::new(Folder { id, entries, documents, bytes })
    }

    /// Returns the id of the tree object.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Returns the number of documents in this folder and below.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// Returns the bytes of these documents.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the entries, sorted by name.
    pub fn entries(&self) -> &[(Arc<str>, Entry)] {
        &self.entries
    }

    /// Finds an entry by its name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        Some(&self.entries[at].1)
    }

    /// Finds a document by its path below this folder.
    pub fn document(&self, path: &str) -> Option<&Document> {
        match path.split_once('/') {
            None => match self.get(path)? {
                Entry::Document(document) => Some(document),
                Entry::Folder(_) => None,
            },
            Some((name, rest)) => match self.get(name)? {
                Entry::Folder(folder) => folder.document(rest),
                Entry::Document(_) => None,
            },
        }
    }
}

impl Entry {
    /// Returns the object id of the entry.
    pub fn id(&self) -> ObjectId {
        match self {
            Entry::Folder(folder) => folder.id,
            Entry::Document(document) => document.id,
        }
    }

    fn documents(&self) -> usize {
        match self {
            Entry::Folder(folder) => folder.documents,
            Entry::Document(_) => 1,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Entry::Folder(folder) => folder.bytes,
            Entry::Document(document) => document.bytes.len() as u64,
        }
    }
}

/// Returns the bytes of the tree object with these entries, which are sorted by name.
pub(crate) fn tree_bytes(entries: &[(Arc<str>, Entry)]) -> Vec<u8> {
    let mut sorted: Vec<(&str, &Entry)> = entries.iter().map(|(name, entry)| (&**name, entry)).collect();
    // Git sorts a folder as if its name ended in `/`.
    let end = |entry: &Entry| matches!(entry, Entry::Folder(_)).then_some(b'/');
    sorted.sort_by(|(a, at), (b, other)| a.bytes().chain(end(at)).cmp(b.bytes().chain(end(other))));
    let mut bytes = Vec::new();
    for (name, entry) in sorted {
        let mode: &[u8] = match entry {
            Entry::Folder(_) => b"40000 ",
            Entry::Document(_) => b"100644 ",
        };
        bytes.extend_from_slice(mode);
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(entry.id().as_slice());
    }
    bytes
}

/// Returns the id of an object; `None` for bytes that were crafted for a SHA-1 collision.
pub(crate) fn object_id(format: Format, kind: Kind, bytes: &[u8]) -> Option<ObjectId> {
    gix::objs::compute_hash(format, kind, bytes).ok()
}
