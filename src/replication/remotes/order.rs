//! The order of a pass's pushes: nothing is deleted before what may replace it is confirmed. No I/O.
//!
//! Refs are created first, then updated, then deleted. Only where a new ref needs the place of an old one (`a` and `a/b`
//! cannot both exist) does the old one go in the same push.

use std::collections::{BTreeMap, HashSet};

use gix::bstr::{BStr, BString, ByteSlice};

use super::plan::Edit;

/// The edits of a pass, in the order in which they are pushed.
#[derive(Debug, Default)]
pub struct Stages<'a> {
    /// Refs to be created whose places are free.
    pub creations: Vec<Edit<'a>>,
    /// Refs to be moved.
    pub updates: Vec<Edit<'a>>,
    /// Refs that take the places of others.
    pub replacements: Vec<Replacement<'a>>,
    /// Refs to be deleted whose places nothing takes.
    pub deletions: Vec<Edit<'a>>,
}

/// Refs to be deleted, and those to be created that cannot exist beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replacement<'a> {
    /// Those that make room.
    pub deletions: Vec<Edit<'a>>,
    /// Those that need it.
    pub creations: Vec<Edit<'a>>,
}

impl<'a> Replacement<'a> {
    /// All edits in the order in which a server has to make them.
    pub fn edits(&self) -> impl Iterator<Item = &Edit<'a>> {
        self.deletions.iter().chain(&self.creations)
    }
}

impl<'a> Stages<'a> {
    /// Orders the edits of a plan.
    pub fn of(edits: Vec<Edit<'a>>, deletions: Vec<Edit<'a>>) -> Self {
        let deleted: HashSet<BString> = deletions.iter().map(|edit| edit.name.clone().into_owned()).collect();
        let created = edits.iter().filter(|edit| edit.old.is_none());
        let created: HashSet<BString> = match deleted.is_empty() {
            true => HashSet::new(),
            false => created.map(|edit| edit.name.clone().into_owned()).collect(),
        };
        // The one of two conflicting names that is the folder of the other stands for both.
        let mut roots: BTreeMap<BString, Replacement<'a>> = BTreeMap::new();
        for name in &created {
            if let Some(root) = folder_among(name.as_ref(), &deleted) {
                roots.entry(root).or_default();
            }
        }
        for name in &deleted {
            if let Some(root) = folder_among(name.as_ref(), &created) {
                roots.entry(root).or_default();
            }
        }
        let root_of = |name: &BStr| match roots.contains_key(name) {
            true => Some(name.to_owned()),
            false => folders(name).find(|folder| roots.contains_key(*folder)).map(ToOwned::to_owned),
        };
        let (mut stages, mut placed) = (Stages::default(), Vec::new());
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
        stages.replacements = roots.into_values().collect();
        stages
    }

    /// Names of refs that are not there before the replacements are done.
    pub fn waiting(&self) -> HashSet<BString> {
        let creations = self.replacements.iter().flat_map(|replacement| &replacement.creations);
        creations.map(|edit| edit.name.clone().into_owned()).collect()
    }
}

/// The folders that a ref's name lies in, the nearest last.
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
    }
}
