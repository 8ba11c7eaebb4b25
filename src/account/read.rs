//! Reading the documents of a state from its packs. Blocking.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gix::ObjectId;
use gix::objs::{CommitRef, Kind, TreeRefIter};

use super::documents::Documents;
use super::error::AccountError;
use super::folder::{Document, Entry, Folder, object_id};
use super::limits::{
    MAX_COMMIT_BYTES, MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, MAX_DOCUMENTS_BYTES, MAX_ENTRIES, MAX_FOLDER_DEPTH,
    MAX_TREE_BYTES,
};
use gitferry_engine::region::push::PushState;
use gitferry_git::pack::Finder;

/// Branch with the documents.
pub(crate) const BRANCH: &str = "refs/heads/main";

/// Returns the commit that the branch of the account names in a state; `None` if there is no such branch.
pub(crate) fn tip(state: &PushState) -> Option<ObjectId> {
    let entry = state.refs.find(BRANCH.into())?;
    entry.id.map(ToOwned::to_owned)
}

/// Reads the documents of a state. Folders and documents that `known` has are shared, and not read again.
pub(crate) fn read_documents(
    region: &str,
    state: &PushState,
    known: Option<&Documents>,
) -> Result<Documents, AccountError> {
    let Some(tip) = tip(state) else {
        let what = format!("its branch {BRANCH}");
        return Err(AccountError::Damaged { region: region.into(), what, reason: "is missing".into() });
    };
    read_commit(region, state, tip, known)
}

/// Reads the documents of a commit like [`read_documents`].
pub(crate) fn read_commit(
    region: &str,
    state: &PushState,
    commit: ObjectId,
    known: Option<&Documents>,
) -> Result<Documents, AccountError> {
    let frontier = state.item.head.frontier;
    if let Some(known) = known.filter(|known| known.commit() == commit) {
        return Ok(Documents::new(frontier, commit, known.root().clone()));
    }
    let finder = state.view.packs.finder().map_err(|fault| AccountError::Damaged {
        region: region.into(),
        what: "a pack of its repository".into(),
        reason: format!("cannot be read: {fault}"),
    })?;
    let mut reading = Reading { region, state, finder, entries: 0 };
    let bytes = reading.object(commit, Kind::Commit, "the commit", MAX_COMMIT_BYTES)?;
    let tree = match CommitRef::from_bytes(&bytes, state.view.format) {
        Ok(commit) => commit.tree(),
        Err(error) => return Err(reading.damaged(commit, "the commit", &format!("is not a commit: {error}"))),
    };
    let root = reading.folder(tree, "", 0, known.map(Documents::root))?;
    Ok(Documents::new(frontier, commit, root))
}

struct Reading<'a> {
    region: &'a str,
    state: &'a PushState,
    finder: Finder<'a>,
    /// Entries of folders visited so far.
    entries: usize,
}

impl Reading<'_> {
    /// Reads a folder; `known` is the folder at the same path in an earlier state.
    fn folder(
        &mut self,
        id: ObjectId,
        path: &str,
        depth: usize,
        known: Option<&Arc<Folder>>,
    ) -> Result<Arc<Folder>, AccountError> {
        if let Some(known) = known.filter(|known| known.id() == id) {
            return Ok(known.clone());
        }
        if depth > MAX_FOLDER_DEPTH {
            return Err(self.too_large(format!("{path} is below more than {MAX_FOLDER_DEPTH} folders")));
        }
        let what = if path.is_empty() { "the root folder" } else { path };
        let bytes = self.object(id, Kind::Tree, what, MAX_TREE_BYTES)?;
        let mut entries: BTreeMap<Arc<str>, Entry> = BTreeMap::new();
        for entry in TreeRefIter::from_bytes(&bytes, id.kind()) {
            let entry = entry.map_err(|error| self.damaged(id, what, &format!("is not a tree: {error}")))?;
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(self.too_large(format!("its folders have more than {MAX_ENTRIES} entries")));
            }
            let Ok(name) = std::str::from_utf8(entry.filename) else {
                return Err(self.damaged(id, what, &format!("has a name that is not UTF-8: {:?}", entry.filename)));
            };
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let known = known.and_then(|known| known.get(name));
            let read = if entry.mode.is_tree() {
                let known = known.and_then(|known| match known {
                    Entry::Folder(folder) => Some(folder),
                    Entry::Document(_) => None,
                });
                Entry::Folder(self.folder(entry.oid.to_owned(), &path, depth + 1, known)?)
            } else if entry.mode.is_blob() && !entry.mode.is_executable() {
                Entry::Document(self.document(entry.oid.to_owned(), &path, known)?)
            } else {
                return Err(self.damaged(entry.oid.to_owned(), &path, "is neither a document nor a folder"));
            };
            if entries.insert(name.into(), read).is_some() {
                return Err(self.damaged(id, what, &format!("has the name {name} twice")));
            }
        }
        let folder = Folder::new(id, entries.into_iter().collect());
        if folder.documents() > MAX_DOCUMENTS {
            return Err(self.too_large(format!("it has more than {MAX_DOCUMENTS} documents")));
        }
        if folder.bytes() > MAX_DOCUMENTS_BYTES {
            return Err(self.too_large(format!("its documents have more than {MAX_DOCUMENTS_BYTES} bytes")));
        }
        Ok(folder)
    }

    fn document(&mut self, id: ObjectId, path: &str, known: Option<&Entry>) -> Result<Document, AccountError> {
        if let Some(Entry::Document(known)) = known
            && known.id() == id
        {
            return Ok(known.clone());
        }
        let bytes = self.object(id, Kind::Blob, path, MAX_DOCUMENT_BYTES)?;
        Ok(Document::new(id, bytes))
    }

    /// Reads an object of a kind and proves that the bytes have its id.
    fn object(&mut self, id: ObjectId, kind: Kind, path: &str, limit: u64) -> Result<Bytes, AccountError> {
        let Some(location) = self.state.view.packs.locate(&id) else {
            return Err(self.damaged(id, path, "is in none of the packs of the repository"));
        };
        let size = self.finder.size(location);
        let size = size.map_err(|error| self.damaged(id, path, &format!("cannot be read: {}", error.fault)))?;
        if size > limit {
            return Err(self.too_large(format!("{path} has {size} bytes, more than {limit}")));
        }
        let object = self.finder.read(location);
        let object = object.map_err(|error| self.damaged(id, path, &format!("cannot be read: {}", error.fault)))?;
        if object.kind != kind {
            return Err(self.damaged(id, path, &format!("is a {}, not a {kind}", object.kind)));
        }
        if object_id(id.kind(), kind, &object.data) != Some(id) {
            return Err(self.damaged(id, path, "has other bytes than its id says"));
        }
        Ok(Bytes::copy_from_slice(&object.data))
    }

    /// Reports damage of an object, with the key of the pack that holds it.
    fn damaged(&self, id: ObjectId, path: &str, reason: &str) -> AccountError {
        let pack = self.state.view.packs.locate(&id);
        let pack = pack.and_then(|location| self.state.local.packs.get(location.pack as usize));
        let pack = pack.map_or(String::new(), |pack| format!(" in pack {}", pack.live.key));
        let what = format!("{path} (object {id}{pack})");
        AccountError::Damaged { region: self.region.into(), what, reason: reason.into() }
    }

    fn too_large(&self, what: String) -> AccountError {
        AccountError::TooLarge { region: self.region.into(), what }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use gitferry_engine::region::Region;
    use gitferry_git::pack::PackSet;

    use super::*;
    use crate::{AccountRepository, Author, Edit};

    fn edit(documents: &[(&str, &'static str)]) -> Edit {
        let documents =
            documents.iter().map(|(path, text)| ((*path).to_owned(), Some(Bytes::from_static(text.as_bytes()))));
        Edit { documents: documents.collect(), message: "change".into() }
    }

    #[tokio::test]
    async fn an_object_that_no_pack_has_is_named_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let region = Region::open_embedded("us", &folder.path().join("o"), &folder.path().join("t.db")).unwrap();
        let ann = Author::new("ann", "arn:aws:iam::1:user/ann");
        let first = edit(&[("groups/dev", "1"), ("users/ann", "1"), ("users/bob", "1")]);
        let account = AccountRepository::create(&region, &ann, first).await.unwrap();
        let before = account.read().await.unwrap();
        account.commit(&ann, |_| Ok::<_, Infallible>(edit(&[("users/bob", "2")]))).await.unwrap();
        let mut state = account.states.newest().await.unwrap();
        assert_eq!(state.local.packs.len(), 2);
        let newest = &state.local.packs[1];
        let mut packs = PackSet::new(state.view.format);
        packs.add(&newest.pack, &newest.index).unwrap();
        state.view.packs = Arc::new(packs);
        let error = read_documents("us", &state, None).unwrap_err().to_string();
        assert!(error.contains("region us") && error.contains("groups (object"), "{error}");
        assert!(error.contains("is in none of the packs"), "{error}");
        // What is known already is not read.
        assert_eq!(read_documents("us", &state, Some(&before)).unwrap().len(), 3);
        state.view.packs = Arc::new(PackSet::new(state.view.format));
        let error = read_documents("us", &state, Some(&before)).unwrap_err().to_string();
        assert!(error.contains("the commit (object"), "{error}");
    }
}
