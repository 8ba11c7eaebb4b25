//! Damaged and hostile objects end in errors.

use gix::ObjectId;
use gix::objs::Kind;
use proptest::prelude::*;

use crate::differences::{Side, differences};
use crate::edit::{Edit, edit};
use crate::entries::Mode;
use crate::folder::folder;
use crate::history::History;
use crate::limits::{Bound, MAX_EDIT_DEPTH};
use crate::merge::{Level, Renaming, merge};
use crate::testing::{File, commit, memory, path};
use crate::{ContentError, Memory, Reader};
use gitferry_git::limits::MAX_TREE_DEPTH;

fn id(number: u64) -> ObjectId {
    let mut bytes = [7; 20];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    ObjectId::from_bytes_or_panic(&bytes)
}

fn nested(memory: &mut Memory, name: &str, from: u64, depth: u64, leaf: &[u8]) -> ObjectId {
    for level in 0..depth {
        let child = id(from + level + 1);
        let data = [b"40000 ", name.as_bytes(), b"\0", child.as_bytes()].concat();
        memory.insert(id(from + level), Kind::Tree, &data);
    }
    memory.insert(id(from + depth), Kind::Tree, leaf);
    id(from)
}

#[test]
fn deep_trees_end_at_a_limit_with_a_name() {
    let mut memory = memory();
    let depth = u64::from(MAX_TREE_DEPTH) + 5;
    let deep = nested(&mut memory, "d", 10_000, depth, b"100644 f\0aaaaaaaaaaaaaaaaaaaa");
    let mut reader = Reader::new(&mut memory, &|| false);
    let mut found = differences(&mut reader, None, Side { tree: deep, path: None }, None).unwrap();
    assert!(matches!(found.next(), Some(Err(ContentError::Limit(Bound::TreeDepth)))));
    assert!(found.next().is_none());
}

#[test]
fn merges_and_edits_of_deep_trees_end_at_a_limit_with_a_name() {
    let mut memory = memory();
    let depth = MAX_EDIT_DEPTH as u64 + 400;
    let roots = [b"aaaaaaaaaaaaaaaaaaaa", b"bbbbbbbbbbbbbbbbbbbb", b"cccccccccccccccccccc"].map(|leaf| {
        let from = 100_000 * u64::from(leaf[0]);
        nested(&mut memory, "d", from, depth, &[&b"100644 f\0"[..], leaf].concat())
    });
    let mut tips = Vec::new();
    for (number, root) in roots.into_iter().enumerate() {
        let parent = tips.first().map(|parent| format!("parent {parent}\n")).unwrap_or_default();
        let data = format!("tree {root}\n{parent}author A <a> 1 +0000\ncommitter A <a> {number} +0000\n\nx\n");
        memory.insert(id(number as u64 + 1), Kind::Commit, data.as_bytes());
        tips.push(id(number as u64 + 1));
    }
    let mut reader = Reader::new(&mut memory, &|| false);
    let error = merge(&mut reader, tips[1], tips[2], Level::Line, Renaming::Follow).unwrap_err();
    assert!(matches!(error, ContentError::Limit(Bound::EditDepth)), "{error}");
    let name = path(&format!("{}f", "d/".repeat(depth as usize)));
    let error = edit(&mut reader, Some(roots[0]), &Edit { delete: vec![name], ..Edit::default() }).unwrap_err();
    assert!(!error.to_string().is_empty());
}

#[test]
fn a_tree_in_which_a_name_occurs_twice_is_not_merged() {
    let mut memory = memory();
    let entry = b"100644 f\0aaaaaaaaaaaaaaaaaaaa";
    memory.insert(id(1), Kind::Tree, &[&entry[..], entry].concat());
    let mut reader = Reader::new(&mut memory, &|| false);
    assert!(matches!(reader.entries(&id(1)), Err(ContentError::Malformed { .. })));
    assert!(matches!(reader.commit(&id(1)), Err(ContentError::WrongKind { .. })));
    assert!(matches!(reader.commit(&id(2)), Err(ContentError::Missing { .. })));
}

/// Every operation, on whatever the objects are.
fn run_all(memory: &mut Memory, one: ObjectId, two: ObjectId) {
    let mut reader = Reader::new(memory, &|| false);
    let _ = merge(&mut reader, one, two, Level::Line, Renaming::Follow);
    if let Ok(history) = History::new(&mut reader, one, &path("d/f")) {
        let _ = history.page(10);
    }
    let trees: Vec<ObjectId> = [one, two].iter().filter_map(|id| Some(reader.commit(id).ok()?.tree)).collect();
    for tree in trees {
        let _ = folder(&mut reader, tree, None);
        let _ = edit(&mut reader, Some(tree), &Edit { delete: vec![path("d/f")], ..Edit::default() });
        if let Ok(found) = differences(&mut reader, None, Side { tree, path: None }, None) {
            assert!(found.take(100).count() <= 100);
        }
    }
}

proptest! {
    #[test]
    fn damaged_objects_do_no_harm(changes in proptest::collection::vec((0usize..6, 0usize..200, any::<u8>()), 1..6)) {
        let mut memory = memory();
        let files: [File<'_>; 3] = [("a", Mode::File, b"1\n2\n"), ("d/f", Mode::File, b"3\n4\n"), ("d/e/g", Mode::Symlink, b"x")];
        let base = commit(&mut memory, &files, &[], 1);
        let one = commit(&mut memory, &[("a", Mode::File, b"0\n2\n"), files[1]], &[base], 2);
        let two = commit(&mut memory, &[("a", Mode::File, b"1\n3\n"), ("d", Mode::File, b"")], &[base], 3);
        let mut ids = memory.ids();
        ids.sort_unstable();
        for (object, at, byte) in changes {
            memory.damage(&ids[object * 7 % ids.len()], at, byte);
        }
        run_all(&mut memory, one, two);
    }
}
