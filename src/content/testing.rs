//! Small repositories in memory, for unit tests.

use gix::ObjectId;
use gix::hash::Kind as Format;
use gix::objs::Kind;

use crate::commit::{NewCommit, Person};
use crate::entries::{Entry, Mode};
use crate::path::RepoPath;
use crate::reader::Reader;
use crate::source::Memory;
use crate::tree_edit::TreeEdits;

/// File of a test: path, mode, content.
pub(crate) type File<'a> = (&'a str, Mode, &'a [u8]);

pub(crate) fn path(path: &str) -> RepoPath {
    RepoPath::to_read(path).unwrap()
}

pub(crate) fn memory() -> Memory {
    Memory::new(Format::Sha1)
}

fn keep(memory: &mut Memory, make: impl FnOnce(&mut Reader<'_>) -> ObjectId) -> ObjectId {
    let mut before = memory.clone();
    let mut reader = Reader::new(&mut before, &|| false);
    let id = make(&mut reader);
    for object in reader.made_below(id) {
        memory.insert(object.id, object.kind, &object.data);
    }
    id
}

pub(crate) fn tree(memory: &mut Memory, files: &[File<'_>]) -> ObjectId {
    keep(memory, |reader| {
        let mut edits = TreeEdits::default();
        for (name, mode, content) in files {
            let id = reader.make(Kind::Blob, content.to_vec()).unwrap();
            edits.set(&path(name), Some(Entry { mode: *mode, id }));
        }
        let empty = ObjectId::empty_tree(reader.format());
        edits.apply(reader, empty).unwrap()
    })
}

pub(crate) fn commit(memory: &mut Memory, files: &[File<'_>], parents: &[ObjectId], seconds: i64) -> ObjectId {
    let tree = tree(memory, files);
    let person = Person { name: "A".into(), email: "a@example.com".into(), seconds, offset_minutes: 0 };
    let commit =
        NewCommit { tree, parents: parents.to_vec(), author: person.clone(), committer: person, message: "x".into() };
    keep(memory, |reader| reader.make(Kind::Commit, commit.bytes().unwrap()).unwrap())
}
