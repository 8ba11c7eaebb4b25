//! Edits of files, and what they refuse.

use gix::ObjectId;
use gix::objs::Kind;

use crate::edit::{Edit, EditError, PutFile, SourceFile, edit};
use crate::entries::{Entry, Mode};
use crate::folder::file;
use crate::limits::{MAX_FILE_BYTES, MAX_FILE_ENTRIES};
use crate::testing::{File, memory, path, tree};
use crate::tree_edit::TreeEdits;
use crate::{Memory, Reader};

const F: Mode = Mode::File;

fn put(name: &str, content: &[u8]) -> PutFile {
    PutFile { path: path(name), mode: None, content: Some(content.to_vec()), source: None }
}

fn from(name: &str, source: &str, is_move: bool) -> PutFile {
    let source = Some(SourceFile { path: path(source), is_move });
    PutFile { path: path(name), mode: None, content: None, source }
}

/// A tree with a file, a folder, a link and a submodule.
fn sample() -> (Memory, ObjectId) {
    let mut memory = memory();
    let files: [File<'_>; 4] =
        [("f", F, b"1"), ("d/x", Mode::Executable, b"2"), ("d/.gitkeep", F, b""), ("l", Mode::Symlink, b"f")];
    let root = tree(&mut memory, &files);
    let mut copy = memory.clone();
    let mut reader = Reader::new(&mut copy, &|| false);
    let mut edits = TreeEdits::default();
    let id = reader.make(Kind::Blob, b"not read".to_vec()).unwrap();
    edits.set(&path("sub"), Some(Entry { mode: Mode::Submodule, id }));
    let root = edits.apply(&mut reader, root).unwrap();
    for object in reader.made_below(root) {
        memory.insert(object.id, object.kind, &object.data);
    }
    (memory, root)
}

fn refused(change: Edit) -> EditError {
    let (mut memory, root) = sample();
    let mut reader = Reader::new(&mut memory, &|| false);
    edit(&mut reader, Some(root), &change).unwrap_err()
}

fn puts(put: Vec<PutFile>) -> Edit {
    Edit { put, ..Edit::default() }
}

#[test]
fn paths_that_collide_are_refused() {
    assert!(matches!(refused(puts(vec![put("d", b"")])), EditError::IsFolder(_)));
    assert!(matches!(refused(puts(vec![put("f/x", b"")])), EditError::BelowFile { by, .. } if by == path("f")));
    assert!(matches!(refused(puts(vec![put("sub", b"")])), EditError::Submodule(_)));
    assert!(matches!(refused(puts(vec![put("sub/x", b"")])), EditError::Submodule(_)));
    assert!(matches!(refused(puts(vec![put("n/a", b""), put("n", b"")])), EditError::FileAndFolder(_)));
    assert!(matches!(refused(puts(vec![put("n", b""), put("n", b"")])), EditError::SamePath(_)));
    let change = Edit { delete: vec![path("f")], ..puts(vec![from("n", "f", true)]) };
    assert!(matches!(refused(change), EditError::SamePath(_)));
}

#[test]
fn entries_without_sense_are_refused() {
    assert!(matches!(refused(Edit::default()), EditError::NoEntry));
    assert!(matches!(refused(puts(vec![put("f", b"1")])), EditError::NoChange));
    let neither = PutFile { content: None, ..put("n", b"") };
    assert!(matches!(refused(puts(vec![neither])), EditError::NoContent(_)));
    let both = PutFile { content: Some(Vec::new()), ..from("n", "f", false) };
    assert!(matches!(refused(puts(vec![both])), EditError::ContentAndSource(_)));
    assert!(matches!(refused(puts(vec![from("n", "none", false)])), EditError::NoFile(_)));
    assert!(matches!(refused(puts(vec![from("n", "d/.gitkeep", true)])), EditError::RestrictedSource(_)));
    assert!(matches!(refused(Edit { delete: vec![path("d")], ..Edit::default() }), EditError::NoFile(_)));
    assert!(matches!(refused(Edit { modes: vec![(path("f"), Mode::Folder)], ..Edit::default() }), EditError::Mode(_)));
    let large = vec![0; MAX_FILE_BYTES as usize + 1];
    assert!(matches!(refused(puts(vec![put("n", &large)])), EditError::FileTooLarge(_)));
    let half = vec![0; MAX_FILE_BYTES as usize / 2 + 1];
    assert!(matches!(refused(puts(vec![put("n/a", &half), put("n/b", &half)])), EditError::FolderTooLarge(_)));
    let many = (0..=MAX_FILE_ENTRIES).map(|n| put(&format!("n{n}"), b"")).collect();
    assert!(matches!(refused(puts(many)), EditError::TooManyEntries));
}

#[test]
fn a_file_may_take_the_place_of_one_that_goes() {
    let (mut memory, root) = sample();
    let mut reader = Reader::new(&mut memory, &|| false);
    let change = Edit { delete: vec![path("f")], ..puts(vec![put("f/x", b"new")]) };
    let edited = edit(&mut reader, Some(root), &change).unwrap();
    assert_eq!(file(&mut reader, edited.tree, &path("f/x")).unwrap().size, 3);
    let change = puts(vec![put("d/x", b"new")]);
    let edited = edit(&mut reader, Some(root), &change).unwrap();
    assert_eq!(edited.updated[0].mode, Mode::Executable, "a mode stays");
    let first = edit(&mut reader, None, &puts(vec![put("a", b"1")])).unwrap();
    assert_eq!(first.added.len(), 1);
    let last = Edit { delete: vec![path("a")], ..Edit::default() };
    let empty = edit(&mut reader, Some(first.tree), &last).unwrap();
    assert_eq!(empty.tree, ObjectId::empty_tree(gix::hash::Kind::Sha1));
    assert!(reader.made_below(empty.tree).iter().any(|object| object.id == empty.tree));
}
