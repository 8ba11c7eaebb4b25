//! [`Edit`] of documents, and the Git objects that it makes. Pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use gix::ObjectId;
use gix::hash::Kind as Format;
use gix::objs::Kind;

use super::author::{Signature, commit_bytes};
use super::documents::Documents;
use super::folder::{Document, Entry, Folder, object_id, tree_bytes};
use super::limits::{
    MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, MAX_DOCUMENTS_BYTES, MAX_FOLDER_DEPTH, MAX_MESSAGE_BYTES, MAX_PATH_BYTES,
};

/// Edit of documents, which becomes one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Documents to write, each path once; `None` deletes the document, if there is one.
    pub documents: Vec<(String, Option<Bytes>)>,
    /// Message of the commit: the first line says the change in a few words.
    pub message: String,
}

/// An edit that cannot be made. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// A path is not one that a document can have.
    #[error("{path:?} is not the path of a document: {reason}")]
    Path {
        /// The path.
        path: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// A path is named twice, or is a document and a folder at once.
    #[error("document {path} cannot be written: the path is named twice, or is a folder and a document at once")]
    Conflict {
        /// The path.
        path: String,
    },
    /// A document exceeds [`MAX_DOCUMENT_BYTES`].
    #[error("document {path} has {bytes} bytes; at most {MAX_DOCUMENT_BYTES} are allowed")]
    TooLarge {
        /// Path of the document.
        path: String,
        /// Its size in bytes.
        bytes: u64,
    },
    /// The account would have more than [`MAX_DOCUMENTS`] documents, or more than [`MAX_DOCUMENTS_BYTES`].
    #[error(
        "the account would have {documents} documents of {bytes} bytes; at most {MAX_DOCUMENTS} of \
         {MAX_DOCUMENTS_BYTES} bytes are allowed"
    )]
    Full {
        /// Number of documents.
        documents: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// The message is empty, contains NUL, or exceeds [`MAX_MESSAGE_BYTES`].
    #[error("the message of the change is empty, has a NUL, or is longer than {MAX_MESSAGE_BYTES} bytes")]
    Message,
    /// Bytes were crafted so that their SHA-1 collides with that of others.
    #[error("the bytes of {path} are part of a SHA-1 collision attack")]
    Collision {
        /// Path of the document or folder.
        path: String,
    },
}

/// An edit as Git objects.
#[derive(Clone, Debug)]
pub(crate) struct NewCommit {
    /// Id of the commit.
    pub id: ObjectId,
    /// The commit before; `None` for the first one.
    pub parent: Option<ObjectId>,
    /// Folder of all documents after the edit.
    pub root: Arc<Folder>,
    /// New objects, each once; the commit is the last.
    pub objects: Vec<(Kind, Vec<u8>)>,
}

impl Edit {
    /// Makes the objects of this edit on top of `before`; `None` if every document has the bytes already.
    pub(crate) fn commit(self, before: &Documents, signature: &Signature) -> Result<Option<NewCommit>, EditError> {
        let format = before.root().id().kind();
        let parent = Some(before.commit()).filter(|commit| !commit.is_null());
        if self.message.trim().is_empty() || self.message.contains('\0') || self.message.len() > MAX_MESSAGE_BYTES {
            return Err(EditError::Message);
        }
        let mut objects = NewObjects { format, list: Vec::new(), seen: HashSet::new() };
        let mut changes = Changes::new();
        for (path, bytes) in &self.documents {
            check_path(path)?;
            let document = bytes.as_ref().map(|bytes| read_document(path, bytes, format)).transpose()?;
            insert(&mut changes, path, document)?;
        }
        let root = edit_folder(before.root(), &changes, "", &mut objects)?;
        let root = root.unwrap_or_else(|| Folder::empty(format));
        if root.id() == before.root().id() && parent.is_some() {
            return Ok(None);
        }
        if root.documents() > MAX_DOCUMENTS || root.bytes() > MAX_DOCUMENTS_BYTES {
            return Err(EditError::Full { documents: root.documents(), bytes: root.bytes() });
        }
        if root.documents() == 0 {
            objects.add(root.id(), Kind::Tree, Vec::new());
        }
        let commit = commit_bytes(root.id(), parent, signature, &self.message);
        let id = objects.make("the commit", Kind::Commit, commit)?;
        Ok(Some(NewCommit { id, parent, root, objects: objects.list }))
    }
}

/// Objects of an edit.
struct NewObjects {
    format: Format,
    list: Vec<(Kind, Vec<u8>)>,
    seen: HashSet<ObjectId>,
}

impl NewObjects {
    fn add(&mut self, id: ObjectId, kind: Kind, bytes: Vec<u8>) {
        // A pack holds an object once.
        if self.seen.insert(id) {
            self.list.push((kind, bytes));
        }
    }

    fn make(&mut self, path: &str, kind: Kind, bytes: Vec<u8>) -> Result<ObjectId, EditError> {
        let id = object_id(self.format, kind, &bytes).ok_or_else(|| EditError::Collision { path: path.into() })?;
        self.add(id, kind, bytes);
        Ok(id)
    }
}

/// Changes below a folder, by name.
type Changes<'a> = BTreeMap<&'a str, Change<'a>>;

enum Change<'a> {
    Document(Option<Document>),
    Folder(Changes<'a>),
}

fn read_document(path: &str, bytes: &Bytes, format: Format) -> Result<Document, EditError> {
    let size = bytes.len() as u64;
    if size > MAX_DOCUMENT_BYTES {
        return Err(EditError::TooLarge { path: path.into(), bytes: size });
    }
    let id = object_id(format, Kind::Blob, bytes).ok_or_else(|| EditError::Collision { path: path.into() })?;
    Ok(Document::new(id, bytes.clone()))
}

fn insert<'a>(changes: &mut Changes<'a>, path: &'a str, document: Option<Document>) -> Result<(), EditError> {
    let conflict = || EditError::Conflict { path: path.into() };
    let mut folder = changes;
    let mut rest = path;
    while let Some((name, below)) = rest.split_once('/') {
        match folder.entry(name).or_insert_with(|| Change::Folder(Changes::new())) {
            Change::Folder(inner) => folder = inner,
            Change::Document(_) => return Err(conflict()),
        }
        rest = below;
    }
    match folder.insert(rest, Change::Document(document)) {
        None => Ok(()),
        Some(_) => Err(conflict()),
    }
}

/// Returns the folder after the changes; `None` if it is empty, as Git has no empty folders.
fn edit_folder(
    old: &Arc<Folder>,
    changes: &Changes<'_>,
    prefix: &str,
    objects: &mut NewObjects,
) -> Result<Option<Arc<Folder>>, EditError> {
    let kept = old.entries().iter().filter(|(name, _)| !changes.contains_key(&**name)).cloned();
    let mut entries: Vec<(Arc<str>, Entry)> = kept.collect();
    for (name, change) in changes {
        let old = old.get(name);
        if let Some(entry) = edit_entry(old, change, &format!("{prefix}{name}"), objects)? {
            entries.push(((*name).into(), entry));
        }
    }
    if entries.is_empty() {
        return Ok(None);
    }
    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let tree = tree_bytes(&entries);
    let id =
        object_id(objects.format, Kind::Tree, &tree).ok_or_else(|| EditError::Collision { path: prefix.into() })?;
    if id == old.id() {
        return Ok(Some(old.clone()));
    }
    objects.add(id, Kind::Tree, tree);
    Ok(Some(Folder::new(id, entries)))
}

fn edit_entry(
    old: Option<&Entry>,
    change: &Change<'_>,
    path: &str,
    objects: &mut NewObjects,
) -> Result<Option<Entry>, EditError> {
    match (change, old) {
        // There is no document of this name, so none is deleted.
        (Change::Document(None), Some(folder @ Entry::Folder(_))) => Ok(Some(folder.clone())),
        (Change::Document(None), _) => Ok(None),
        (Change::Document(Some(_)), Some(Entry::Folder(_))) => Err(EditError::Conflict { path: path.into() }),
        (Change::Document(Some(document)), old) => {
            if old.is_none_or(|old| old.id() != document.id()) {
                objects.add(document.id(), Kind::Blob, document.bytes().to_vec());
            }
            Ok(Some(Entry::Document(document.clone())))
        }
        (Change::Folder(changes), Some(document @ Entry::Document(_))) => {
            if writes(changes) {
                return Err(EditError::Conflict { path: path.into() });
            }
            Ok(Some(document.clone()))
        }
        (Change::Folder(changes), Some(Entry::Folder(folder))) => {
            Ok(edit_folder(folder, changes, &format!("{path}/"), objects)?.map(Entry::Folder))
        }
        (Change::Folder(changes), None) => {
            let empty = Folder::empty(objects.format);
            Ok(edit_folder(&empty, changes, &format!("{path}/"), objects)?.map(Entry::Folder))
        }
    }
}

/// Returns true if the changes write any document.
fn writes(changes: &Changes<'_>) -> bool {
    changes.values().any(|change| match change {
        Change::Document(document) => document.is_some(),
        Change::Folder(changes) => writes(changes),
    })
}

/// Checks the path of a document: segments of letters, digits and `_+=,.@%-`, separated by `/`. No segment is `.`, `..`
/// or `.git`.
fn check_path(path: &str) -> Result<(), EditError> {
    let fail = |reason: &str| Err(EditError::Path { path: path.chars().take(100).collect(), reason: reason.into() });
    if path.len() > MAX_PATH_BYTES {
        return fail(&format!("it has more than {MAX_PATH_BYTES} bytes"));
    }
    if path.matches('/').count() > MAX_FOLDER_DEPTH {
        return fail(&format!("it has more than {MAX_FOLDER_DEPTH} folders"));
    }
    for segment in path.split('/') {
        if segment.is_empty() {
            return fail("it has an empty segment");
        }
        if !segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@%-".contains(&byte)) {
            return fail("only letters, digits and _ + = , . @ % - are allowed");
        }
        if [".", ".."].contains(&segment) || segment.eq_ignore_ascii_case(".git") {
            return fail("no segment may be `.`, `..` or `.git`");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::author::Author;
    use crate::documents::Changed;
    use gitferry_engine::ledger::head::Frontier;

    const FORMAT: Format = Format::Sha1;

    fn edit(documents: &[(&str, Option<&str>)]) -> Edit {
        let documents = documents.iter().map(|(path, text)| {
            let bytes = text.map(|text| Bytes::copy_from_slice(text.as_bytes()));
            ((*path).to_owned(), bytes)
        });
        Edit { documents: documents.collect(), message: "change".into() }
    }

    fn commit(before: &Documents, edit: Edit) -> Result<Option<NewCommit>, EditError> {
        let author = Author::new("ann", "arn:aws:iam::1:user/ann");
        edit.commit(before, &Signature { author, time: Timestamp::UNIX_EPOCH, id: Uuid::nil() })
    }

    fn after(before: &Documents, edit: Edit) -> Documents {
        let new = commit(before, edit).unwrap().unwrap();
        Documents::new(Frontier::ORIGIN, new.id, new.root)
    }

    fn nothing() -> Documents {
        Documents::before_the_first_change(FORMAT)
    }

    #[test]
    fn an_edit_that_changes_nothing_makes_no_commit() {
        let some = after(&nothing(), edit(&[("users/ann", Some("1"))]));
        for same in [&[("users/ann", Some("1"))][..], &[("users/bob", None)], &[("users", None)], &[]] {
            assert!(commit(&some, edit(same)).unwrap().is_none(), "{same:?}");
        }
        // The first commit is made in any case: it creates the repository.
        assert_eq!(commit(&nothing(), edit(&[])).unwrap().unwrap().objects.len(), 2);
    }

    #[test]
    fn an_edit_makes_only_the_objects_that_changed() {
        let first = edit(&[("users/ann", Some("1")), ("users/bob", Some("1")), ("groups/dev/x", Some("2"))]);
        let new = commit(&nothing(), first.clone()).unwrap().unwrap();
        let kinds = |new: &NewCommit| new.objects.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
        // Both users are the same blob.
        assert_eq!(kinds(&new).iter().filter(|kind| **kind == Kind::Blob).count(), 2);
        let some = after(&nothing(), first);
        let new = commit(&some, edit(&[("users/ann", Some("3"))])).unwrap().unwrap();
        assert_eq!(kinds(&new), [Kind::Blob, Kind::Tree, Kind::Tree, Kind::Commit]);
        assert_eq!(new.parent, Some(some.commit()));
        let Some(Entry::Folder(groups)) = new.root.get("groups") else { panic!("there are groups") };
        let Some(Entry::Folder(before)) = some.root().get("groups") else { panic!("there were groups") };
        assert!(Arc::ptr_eq(groups, before), "an unchanged folder is shared");
        let none = edit(&[("users/ann", None), ("users/bob", None), ("groups/dev/x", None)]);
        let new = commit(&some, none).unwrap().unwrap();
        assert_eq!((kinds(&new), new.root.id()), (vec![Kind::Tree, Kind::Commit], ObjectId::empty_tree(FORMAT)));
    }

    #[test]
    fn edits_that_contradict_themselves_or_the_documents_are_refused() {
        let some = after(&nothing(), edit(&[("a/b", Some("1")), ("c", Some("1"))]));
        let conflicts: [&[(&str, Option<&str>)]; 6] = [
            &[("a", Some("1"))],
            &[("c/d", Some("1"))],
            &[("x", Some("1")), ("x", Some("1"))],
            &[("x", Some("1")), ("x/y", Some("1"))],
            &[("x/y", Some("1")), ("x", Some("1"))],
            &[("c", None), ("c/d", Some("1"))],
        ];
        for bad in conflicts {
            assert!(matches!(commit(&some, edit(bad)), Err(EditError::Conflict { .. })), "{bad:?}");
        }
        let long = "a".repeat(MAX_PATH_BYTES + 1);
        let deep = "a/".repeat(MAX_FOLDER_DEPTH + 1) + "a";
        for path in ["", "/a", "a/", "a//b", ".", "a/..", "a/.GIT/b", "a b", "a\n", "ä", "a\\b", "a:b", &long, &deep] {
            let error = commit(&some, edit(&[(path, Some("1"))])).unwrap_err();
            assert!(matches!(error, EditError::Path { .. }), "{path:?}: {error}");
        }
        let deepest = "a/".repeat(MAX_FOLDER_DEPTH) + "a";
        for path in ["users/a+b=c,d.e@f-g_h.json", "..json", ".git.json", "a%2Fb", &deepest] {
            assert!(commit(&some, edit(&[(path, Some("1"))])).is_ok(), "{path}");
        }
        let large = "x".repeat(MAX_DOCUMENT_BYTES as usize + 1);
        assert!(matches!(commit(&some, edit(&[("l", Some(&large))])), Err(EditError::TooLarge { .. })));
        assert!(commit(&some, edit(&[("l", Some(&large[1..]))])).is_ok());
        for message in ["", " \n", "a\0b", &"m".repeat(MAX_MESSAGE_BYTES + 1)] {
            let edit = Edit { message: message.into(), ..edit(&[("l", Some("1"))]) };
            assert_eq!(commit(&some, edit).unwrap_err(), EditError::Message);
        }
    }

    #[test]
    fn an_account_has_an_end() {
        let path = |number: usize| format!("d/{number:06}");
        let many = (0..=MAX_DOCUMENTS).map(|number| (path(number), Some(Bytes::from_static(b"1")))).collect();
        let error = commit(&nothing(), Edit { documents: many, message: "many".into() }).unwrap_err();
        assert_eq!(error, EditError::Full { documents: MAX_DOCUMENTS + 1, bytes: MAX_DOCUMENTS as u64 + 1 });
    }

    proptest! {
        #[test]
        fn edits_are_those_of_a_map(
            rounds in proptest::collection::vec(
                proptest::collection::btree_map("[ab-](/[ab.-]x?){0,2}", proptest::option::of("[12]"), 0..6), 1..6)
        ) {
            let mut documents = nothing();
            let mut map: BTreeMap<String, String> = BTreeMap::new();
            for round in rounds {
                let edit = Edit {
                    documents: round.iter().map(|(path, text)| (path.clone(), text.clone().map(Bytes::from))).collect(),
                    message: "round".into(),
                };
                let before = documents.clone();
                let old = map.clone();
                match commit(&documents, edit) {
                    Err(EditError::Path { .. } | EditError::Conflict { .. }) => continue,
                    Err(error) => panic!("{error}"),
                    Ok(None) => {}
                    Ok(Some(new)) => documents = Documents::new(Frontier::ORIGIN, new.id, new.root),
                }
                for (path, text) in round {
                    match text {
                        Some(text) => map.insert(path, text),
                        None => map.remove(&path),
                    };
                }
                let found: BTreeMap<String, String> = documents
                    .iter()
                    .map(|(path, document)| (path, String::from_utf8(document.bytes().to_vec()).unwrap()))
                    .collect();
                prop_assert_eq!(&found, &map);
                prop_assert_eq!(documents.len(), map.len());
                prop_assert_eq!(documents.total_bytes(), map.values().map(|text| text.len() as u64).sum::<u64>());
                for (path, text) in &map {
                    prop_assert_eq!(&documents.get(path).unwrap().bytes()[..], text.as_bytes());
                }
                // The changes lead from the older state to the newer one, and name nothing else.
                let mut replayed = old.clone();
                for Changed { path, document } in documents.changes_since(&before) {
                    let text = document.map(|document| String::from_utf8(document.bytes().to_vec()).unwrap());
                    prop_assert_ne!(old.get(&path), text.as_ref());
                    match text {
                        Some(text) => replayed.insert(path, text),
                        None => replayed.remove(&path),
                    };
                }
                prop_assert_eq!(&replayed, &map);
            }
        }
    }
}
