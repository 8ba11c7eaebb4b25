//! Differences, folders, histories and ancestry.

use gix::ObjectId;

use crate::ancestry::{is_ancestor, merge_bases};
use crate::differences::{Change, DifferencesError, Side, differences};
use crate::entries::Mode;
use crate::folder::{FolderError, file, folder};
use crate::history::History;
use crate::testing::{commit, memory, path, tree};
use crate::{ContentError, Reader};

const F: Mode = Mode::File;

#[test]
fn a_file_is_told_from_folders_links_and_what_is_absent() {
    let mut memory = memory();
    let root = tree(&mut memory, &[("a/b", F, b"bytes"), ("l", Mode::Symlink, b"a"), ("x", Mode::Executable, b"")]);
    let mut reader = Reader::new(&mut memory, &|| false);
    let found = file(&mut reader, root, &path("a/b")).unwrap();
    assert_eq!((found.mode, found.size), (F, 5));
    assert_eq!(file(&mut reader, root, &path("l")).unwrap().mode, Mode::Symlink);
    let error = |reader: &mut Reader<'_>, name: &str| file(reader, root, &path(name)).unwrap_err();
    assert!(matches!(error(&mut reader, "a"), FolderError::IsFolder(_)));
    assert!(matches!(error(&mut reader, "a/c"), FolderError::Nothing(_)));
    assert!(matches!(error(&mut reader, "l/c"), FolderError::Blocked { mode: Mode::Symlink, .. }));
    assert!(matches!(folder(&mut reader, root, Some(&path("x"))), Err(FolderError::IsFile(_))));
    let listed = folder(&mut reader, root, Some(&path("a"))).unwrap();
    assert_eq!(
        (listed.files[0].absolute.to_string(), listed.files[0].relative.to_string()),
        ("a/b".into(), "b".into())
    );
    let listed = folder(&mut reader, root, None).unwrap();
    assert_eq!((listed.folders.len(), listed.files.len(), listed.links.len()), (1, 1, 1));
}

#[test]
fn a_folder_that_was_renamed_is_compared_with_its_new_name() {
    let mut memory = memory();
    let before = tree(&mut memory, &[("old/a", F, b"1"), ("old/b", F, b"1"), ("z", F, b"1")]);
    let after = tree(&mut memory, &[("new/a", F, b"2"), ("new/b", F, b"1")]);
    let mut reader = Reader::new(&mut memory, &|| false);
    let old = path("old");
    let new = path("new");
    let sides = [Side { tree: before, path: Some(&old) }, Side { tree: after, path: Some(&new) }];
    let found: Vec<_> = differences(&mut reader, Some(sides[0]), sides[1], None).unwrap().map(Result::unwrap).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].before.as_ref().unwrap().path, "old/a");
    assert_eq!(found[0].after.as_ref().unwrap().path, "new/a");
    let all = differences(&mut reader, None, Side { tree: after, path: None }, None).unwrap();
    assert!(all.map(Result::unwrap).all(|difference| difference.change() == Change::Added));
    let no = path("none");
    let error = differences(&mut reader, Some(sides[0]), Side { tree: after, path: Some(&no) }, None);
    assert!(error.is_ok(), "the other side has its path");
    let side = |tree| Side { tree, path: Some(&no) };
    let error = differences(&mut reader, Some(side(before)), side(after), None).map(drop);
    assert!(matches!(error, Err(DifferencesError::NoPath(_))));
}

#[test]
fn a_history_goes_on_under_the_old_name_and_lists_newer_versions() {
    let mut memory = memory();
    let text: &[u8] = b"1\n2\n3\n4\n";
    let one = commit(&mut memory, &[("old", F, text)], &[], 1);
    let other = commit(&mut memory, &[("old", F, text), ("x", F, b"x")], &[one], 2);
    let two = commit(&mut memory, &[("new", F, b"1\n2\n3\n5\n"), ("x", F, b"x")], &[other], 3);
    let gone = commit(&mut memory, &[("x", F, b"x")], &[two], 4);
    let mut reader = Reader::new(&mut memory, &|| false);
    let page = History::new(&mut reader, gone, &path("new")).unwrap().page(2).unwrap();
    let found: Vec<_> = page.versions.iter().map(|v| (v.commit, v.path.to_string(), v.blob.is_some())).collect();
    assert_eq!(found, [(gone, "new".into(), false), (two, "new".into(), true)]);
    let page = History::resume(&mut reader, page.rest).unwrap().page(2).unwrap();
    assert_eq!(page.versions.len(), 1);
    assert_eq!((page.versions[0].commit, page.versions[0].path.to_string()), (one, "old".to_owned()));
    assert_eq!(page.versions[0].children, [two]);
    assert!(page.rest.is_empty());
}

#[test]
fn merge_bases_are_all_best_common_ancestors() {
    let mut memory = memory();
    let mut add = |parents: &[ObjectId], seconds: i64| {
        commit(&mut memory, &[("a", F, seconds.to_string().as_bytes())], parents, seconds)
    };
    let root = add(&[], 1);
    let [a, b] = [add(&[root], 2), add(&[root], 3)];
    let [x, y] = [add(&[a, b], 4), add(&[b, a], 5)];
    // A clock that goes backwards.
    let late = add(&[x], 0);
    let alone = add(&[], 9);
    let mut reader = Reader::new(&mut memory, &|| false);
    assert_eq!(merge_bases(&mut reader, x, y).unwrap(), [b, a]);
    assert_eq!(merge_bases(&mut reader, a, b).unwrap(), [root]);
    assert_eq!(merge_bases(&mut reader, late, y).unwrap(), [b, a]);
    assert_eq!(merge_bases(&mut reader, late, x).unwrap(), [x]);
    assert_eq!(merge_bases(&mut reader, x, x).unwrap(), [x]);
    assert!(merge_bases(&mut reader, x, alone).unwrap().is_empty());
    assert!(is_ancestor(&mut reader, root, late).unwrap());
    assert!(is_ancestor(&mut reader, x, late).unwrap());
    assert!(!is_ancestor(&mut reader, y, late).unwrap());
}

#[test]
fn a_canceled_request_ends() {
    let mut memory = memory();
    let root = tree(&mut memory, &[("a", F, b"1")]);
    let mut reader = Reader::new(&mut memory, &|| true);
    assert!(matches!(file(&mut reader, root, &path("a")), Err(FolderError::Content(ContentError::Canceled))));
}
