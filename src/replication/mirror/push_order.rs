//! Order of the pushes of a pass: no ref is deleted before the refs that may replace it are confirmed. No I/O.
//!
//! Refs are created first, then updated, then deleted. A deletion comes earlier only where a new ref conflicts with it
//! by name (`a` and `a/b` cannot both exist): then both go in the same push.

use std::collections::{BTreeMap, HashSet};

use gix::bstr::{BStr, BString, ByteSlice};

use super::plan::Edit;

/// Edits of a pass, in the order in which they are pushed.
#[derive(Debug, Default)]
pub struct Stages<'a> {
    /// Refs to create whose names conflict with no other ref.
    pub creations: Vec<Edit<'a>>,
    /// Refs to update.
    pub updates: Vec<Edit<'a>>,
    /// Refs to create that conflict by name with refs to delete.
    pub replacements: Vec<Replacement<'a>>,
    /// Refs to delete whose names conflict with no new ref.
    pub deletions: Vec<Edit<'a>>,
}

/// Refs to delete, and the refs to create that conflict with them by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replacement<'a> {
    /// Deletions that make room.
    pub deletions: Vec<Edit<'a>>,
    /// Creations that need the room.
    pub creations: Vec<Edit<'a>>,
}

impl<'a> Replacement<'a> {
    /// All edits in the order in which a server has to apply them.
    pub fn edits(&self) -> impl Iterator<Item = &Edit<'a>> {
        self.deletions.iter().chain(&self.creations)
    }
}

impl<'a> Stages<'a> {
    /// Sorts the edits of a plan into stages.
    pub fn of(edits: Vec<Edit<'a>>, deletions: Vec<Edit<'a>>) -> Self {
        let deleted: HashSet<BString> = deletions.iter().map(|edit| edit.name.clone().into_owned()).collect();
        let created = edits.iter().filter(|edit| edit.old.is_none());
        let created: HashSet<BString> = if deleted.is_empty() {
            HashSet::new()
        } else {
            created.map(|edit| edit.name.clone().into_owned()).collect()
        };
        // Of two conflicting names, the one that is a directory of the other keys the replacement.
        let below_deleted = created.iter().filter_map(|name| folder_among(name.as_ref(), &deleted));
        let below_created = deleted.iter().filter_map(|name| folder_among(name.as_ref(), &created));
        let mut roots: BTreeMap<BString, Replacement<'a>> =
            below_deleted.chain(below_created).map(|root| (root, Replacement::default())).collect();
        // Of nested roots the outermost, so that conflicting names share a replacement.
        let root_of = |name: &BStr| {
            let mut names = folders(name).chain([name]);
            names.find(|name| roots.contains_key(*name)).map(ToOwned::to_owned)
        };
        let mut stages = Stages::default();
        let mut placed = Vec::new();
        for edit in deletions {
            match root_of(edit.name.as_ref()) {
                Some(root) => placed.push((root, edit)),
                None => stages.deletions.push(edit),
            }
        }
        for edit in edits {
            match (edit.old, root_of(edit.name.as_ref())) {
                (Some(_), _) => stages.updates.push(edit),
                (None, Some(root)) => placed.push((root, edit)),
                (None, None) => stages.creations.push(edit),
            }
        }
        for (root, edit) in placed {
            let replacement = roots.entry(root).or_default();
            match edit.new {
                None => replacement.deletions.push(edit),
                Some(_) => replacement.creations.push(edit),
            }
        }
        roots.retain(|_, replacement| *replacement != Replacement::default());
        stages.replacements = roots.into_values().collect();
        for Replacement { deletions, creations } in &stages.replacements {
            assert!(!deletions.is_empty() && !creations.is_empty(), "a ref is replaced by one with a conflicting name");
        }
        stages
    }

    /// Refs to create, with and without conflicts.
    pub fn created(&self) -> impl Iterator<Item = &Edit<'a>> {
        self.creations.iter().chain(self.replacements.iter().flat_map(|replacement| &replacement.creations))
    }

    /// Names of refs that do not exist before the replacements are done.
    pub fn waiting(&self) -> HashSet<BString> {
        let creations = self.replacements.iter().flat_map(|replacement| &replacement.creations);
        creations.map(|edit| edit.name.clone().into_owned()).collect()
    }
}

/// Directories of a ref's name, the outermost first.
fn folders(name: &BStr) -> impl Iterator<Item = &BStr> {
    name.find_iter(b"/").map(move |at| name[..at].as_bstr())
}

fn folder_among(name: &BStr, names: &HashSet<BString>) -> Option<BString> {
    folders(name).find(|folder| names.contains(*folder)).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use gix::ObjectId;

    use super::*;

    fn edit(name: &'static str, old: Option<u8>, new: Option<u8>) -> Edit<'static> {
        let id = |byte: Option<u8>| byte.map(|byte| ObjectId::from_bytes_or_panic(&[byte; 20]));
        Edit { name: Cow::Borrowed(name.into()), old: id(old), new: id(new), diverged: false }
    }

    fn names(edits: &[Edit<'_>]) -> Vec<String> {
        edits.iter().map(|edit| edit.name.to_string()).collect()
    }

    #[test]
    fn only_what_needs_the_place_of_another_goes_with_its_deletion() {
        let edits = vec![
            edit("refs/heads/dir", None, Some(1)),
            edit("refs/heads/file/a", None, Some(2)),
            edit("refs/heads/file/b/c", None, Some(3)),
            edit("refs/heads/free", None, Some(4)),
            edit("refs/heads/moved", Some(5), Some(6)),
        ];
        let deletions = vec![
            edit("refs/heads/dir/x", Some(1), None),
            edit("refs/heads/dir/y/z", Some(2), None),
            edit("refs/heads/directory", Some(2), None),
            edit("refs/heads/file", Some(3), None),
            edit("refs/heads/free2", Some(3), None),
        ];
        let stages = Stages::of(edits, deletions);
        assert_eq!(names(&stages.creations), ["refs/heads/free"]);
        assert_eq!(names(&stages.updates), ["refs/heads/moved"]);
        assert_eq!(names(&stages.deletions), ["refs/heads/directory", "refs/heads/free2"]);
        let replacements: Vec<_> = stages.replacements.iter().map(|it| it.edits().cloned().collect()).collect();
        let replacements: Vec<_> = replacements.iter().map(|edits: &Vec<_>| names(edits)).collect();
        assert_eq!(
            replacements,
            [
                vec!["refs/heads/dir/x", "refs/heads/dir/y/z", "refs/heads/dir"],
                vec!["refs/heads/file", "refs/heads/file/a", "refs/heads/file/b/c"],
            ]
        );
        assert!(stages.waiting().contains(BStr::new("refs/heads/file/b/c")) && stages.waiting().len() == 3);
        let created: Vec<_> = stages.created().map(|edit| edit.name.to_string()).collect();
        let expected = ["refs/heads/free", "refs/heads/dir", "refs/heads/file/a", "refs/heads/file/b/c"];
        assert_eq!(created, expected);
    }

    /// `a` and `a/b/c` are both new, as `rename` can map refs of the source: they conflict with each other, and both
    /// with what they replace. No edit may get lost.
    #[test]
    fn nested_conflicts_are_one_replacement() {
        let edits = vec![edit("refs/x/a", None, Some(1)), edit("refs/x/a/b/c", None, Some(2))];
        let stages = Stages::of(edits, vec![edit("refs/x/a/b", Some(3), None)]);
        let [replacement] = stages.replacements.as_slice() else { panic!("{:?}", stages.replacements) };
        assert_eq!(names(&replacement.deletions), ["refs/x/a/b"]);
        assert_eq!(names(&replacement.creations), ["refs/x/a", "refs/x/a/b/c"]);
    }
}
