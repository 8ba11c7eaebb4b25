//! Conflicts, their metadata, and their resolution.

use gix::ObjectId;

use crate::differences::Change;
use crate::entries::Mode;
use crate::folder::file;
use crate::limits::MAX_RESOLUTIONS;
use crate::lines::Version;
use crate::merge::conflict::{figures, hunks};
use crate::merge::resolve::{Replacement, Resolutions, ResolveError, Strategy, resolve};
use crate::merge::{Level, Merge, MergeOption, Renaming, is_fast_forward, merge};
use crate::testing::{File, commit, memory, path};
use crate::{Memory, Reader};

const F: Mode = Mode::File;

/// Two commits on top of a third; ids of destination and source.
fn diverged(memory: &mut Memory, base: &[File<'_>], destination: &[File<'_>], source: &[File<'_>]) -> [ObjectId; 2] {
    let base = commit(memory, base, &[], 1);
    [commit(memory, destination, &[base], 2), commit(memory, source, &[base], 3)]
}

fn content(reader: &mut Reader<'_>, tree: ObjectId, name: &str) -> String {
    let found = file(reader, tree, &path(name)).unwrap();
    String::from_utf8(reader.blob(&found.id).unwrap().to_vec()).unwrap()
}

fn paths(merge: &Merge) -> Vec<String> {
    merge.conflicts.iter().map(|conflict| conflict.path.to_string()).collect()
}

#[test]
fn files_that_both_sides_changed_conflict_by_file_or_by_line() {
    let mut memory = memory();
    let [one, two] = diverged(
        &mut memory,
        &[("f", F, b"a\nb\nc\nd\n"), ("g", F, b"x")],
        &[("f", F, b"A\nb\nc\nd\n"), ("g", F, b"x")],
        &[("f", F, b"a\nb\nc\nD\n"), ("g", F, b"y")],
    );
    let mut reader = Reader::new(&mut memory, &|| false);
    assert!(!is_fast_forward(&mut reader, one, two).unwrap());
    let merged = merge(&mut reader, one, two, Level::File, Renaming::Follow).unwrap();
    assert_eq!(paths(&merged), ["f"]);
    assert_eq!(merged.parents(MergeOption::Squash), Some(vec![one]));
    assert_eq!(merged.parents(MergeOption::ThreeWay), Some(vec![one, two]));
    let merged = merge(&mut reader, one, two, Level::Line, Renaming::Follow).unwrap();
    let tree = merged.tree().unwrap();
    assert_eq!(content(&mut reader, tree, "f"), "A\nb\nc\nD\n");
    assert_eq!(content(&mut reader, tree, "g"), "y");
    assert!(reader.made_below(tree).iter().any(|object| object.data == b"A\nb\nc\nD\n"));
}

#[test]
fn conflicts_have_the_metadata_of_the_api() {
    let mut memory = memory();
    let [one, two] = diverged(
        &mut memory,
        &[("text", F, b"a\nb\nc\n"), ("gone", F, b"1"), ("bin", F, b"\0"), ("kind", F, b"old")],
        &[("text", F, b"a\nB\nc\n"), ("gone", F, b"2"), ("bin", F, b"\x001"), ("kind/x", F, b"1"), ("new", F, b"1")],
        &[("text", F, b"a\nx\nc\n"), ("bin", F, b"\x002"), ("kind", F, b"older"), ("new", Mode::Executable, b"1")],
    );
    let mut reader = Reader::new(&mut memory, &|| false);
    let merged = merge(&mut reader, one, two, Level::Line, Renaming::Follow).unwrap();
    assert_eq!(paths(&merged), ["bin", "gone", "kind", "new", "text"]);
    let [bin, gone, kind, new, text] = &merged.conflicts[..] else { panic!() };
    assert_eq!(gone.operations(), (Some(Change::Deleted), Some(Change::Modified)));
    assert!(kind.object_type && kind.entries.destination.unwrap().mode == Mode::Folder);
    assert_eq!((new.content, new.mode, new.count()), (0, true, 1));
    assert_eq!(new.operations(), (Some(Change::Added), Some(Change::Added)));
    let figures = figures(&mut reader, bin).unwrap();
    assert_eq!((figures.binary.base, figures.sizes.source), (Some(true), Some(2)));
    let (found, more) = hunks(&mut reader, text.entries, 0, 9).unwrap();
    assert!(found.len() == 1 && found[0].is_conflict && !more);
    assert_eq!(found[0].lines.source.content, "eAo=");
    assert_eq!(hunks(&mut reader, bin.entries, 0, 9).unwrap(), (Vec::new(), false));
    assert_eq!(hunks(&mut reader, text.entries, 0, 0).unwrap(), (Vec::new(), true));
}

#[test]
fn strategies_and_manual_resolutions_make_a_tree() {
    let mut memory = memory();
    let [one, two] = diverged(
        &mut memory,
        &[("d/text", F, b"a\nb\nc\nd\ne\nf\n"), ("gone", F, b"1")],
        &[("d/text", F, b"a\nB\nc\nd\ne\nF\n"), ("gone", F, b"2")],
        &[("d/text", F, b"A\nx\nc\nd\ne\nf\n")],
    );
    let mut reader = Reader::new(&mut memory, &|| false);
    let merged = merge(&mut reader, one, two, Level::Line, Renaming::Follow).unwrap();
    let no = Resolutions::default();
    let error = resolve(&mut reader, &merged, Strategy::Manual, &no).unwrap_err();
    assert!(matches!(error, ResolveError::Unresolved { count: 2, .. }));
    let tree = resolve(&mut reader, &merged, Strategy::AcceptSource, &no).unwrap();
    assert_eq!(content(&mut reader, tree, "d/text"), "A\nx\nc\nd\ne\nF\n");
    assert!(file(&mut reader, tree, &path("gone")).is_err());
    let tree = resolve(&mut reader, &merged, Strategy::AcceptDestination, &no).unwrap();
    assert_eq!(content(&mut reader, tree, "gone"), "2");
    let manual = Resolutions {
        replace: vec![(path("gone"), Replacement::New(b"new".to_vec()), Some(Mode::Executable))],
        delete: vec![path("d/text")],
        keep_empty_folders: true,
        ..Resolutions::default()
    };
    let tree = resolve(&mut reader, &merged, Strategy::Manual, &manual).unwrap();
    assert_eq!(content(&mut reader, tree, "gone"), "new");
    assert_eq!(content(&mut reader, tree, "d/.gitkeep"), "");
    let keep = Resolutions {
        replace: vec![
            (path("gone"), Replacement::Keep(Version::Base), None),
            (path("d/text"), Replacement::Keep(Version::Source), None),
        ],
        ..Resolutions::default()
    };
    let tree = resolve(&mut reader, &merged, Strategy::Manual, &keep).unwrap();
    assert_eq!(content(&mut reader, tree, "gone"), "1");
}

#[test]
fn resolutions_of_no_conflict_and_of_one_twice_are_refused() {
    let mut memory = memory();
    let [one, two] = diverged(&mut memory, &[("f", F, b"1")], &[("f", F, b"2")], &[("f", F, b"3"), ("g", F, b"")]);
    let mut reader = Reader::new(&mut memory, &|| false);
    let merged = merge(&mut reader, one, two, Level::Line, Renaming::Follow).unwrap();
    let keep = |name: &str| (path(name), Replacement::Keep(Version::Base), None);
    let mut refuse =
        |resolutions: Resolutions| resolve(&mut reader, &merged, Strategy::Manual, &resolutions).unwrap_err();
    let error = refuse(Resolutions { replace: vec![keep("g")], ..Resolutions::default() });
    assert!(matches!(error, ResolveError::NoConflict(_)));
    let error = refuse(Resolutions { replace: vec![keep("f")], delete: vec![path("f")], ..Resolutions::default() });
    assert!(matches!(error, ResolveError::Twice(_)));
    let error = refuse(Resolutions { modes: vec![(path("f"), F)], ..Resolutions::default() });
    assert!(matches!(error, ResolveError::Unresolved { .. }));
    let error = refuse(Resolutions { delete: vec![path("f"); MAX_RESOLUTIONS + 1], ..Resolutions::default() });
    assert!(matches!(error, ResolveError::TooMany));
}

#[test]
fn a_change_of_a_renamed_file_follows_it() {
    let mut memory = memory();
    let base: &[u8] = b"1\n2\n3\n4\n5\n6\n";
    let [one, two] = diverged(
        &mut memory,
        &[("old", F, base), ("kept", F, b"1")],
        &[("new", F, b"1\n2\n3\n4\n5\n7\n"), ("kept", F, b"1")],
        &[("old", F, b"0\n2\n3\n4\n5\n6\n"), ("kept", F, b"1")],
    );
    let mut reader = Reader::new(&mut memory, &|| false);
    for (destination, source) in [(one, two), (two, one)] {
        let merged = merge(&mut reader, destination, source, Level::Line, Renaming::Follow).unwrap();
        let tree = merged.tree().unwrap();
        assert_eq!(content(&mut reader, tree, "new"), "0\n2\n3\n4\n5\n7\n");
        assert!(file(&mut reader, tree, &path("old")).is_err());
        let merged = merge(&mut reader, destination, source, Level::Line, Renaming::Ignore).unwrap();
        assert_eq!(paths(&merged), ["old"]);
    }
}
