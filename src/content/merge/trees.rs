//! Merges of three trees: folders that one side alone changed are taken whole, the others are walked.

use std::collections::BTreeMap;

use gix::ObjectId;
use gix::bstr::BString;

use super::blobs::{Merged, Names, Policy, Versions, merge_entries};
use super::conflict::Conflict;
use super::renames::{Changes, Renaming, renames};
use crate::entries::{Entry, Mode};
use crate::error::ContentError;
use crate::limits::{Bound, MAX_CONFLICTS, MAX_EDIT_DEPTH, MAX_MERGE_PATHS, MAX_MERGED_BYTES};
use crate::lookup::find;
use crate::path::RepoPath;
use crate::reader::Reader;
use crate::tree_edit::TreeEdits;

/// Merged tree, without the changes that are in conflict.
pub(super) struct MergedTrees {
    pub(super) tree: ObjectId,
    /// Conflicts in the order of paths.
    pub(super) conflicts: Vec<Conflict>,
}

/// Merges the second and third tree, whose base is the first.
pub(super) fn merge_trees(
    reader: &mut Reader<'_>,
    policy: Policy,
    renaming: Renaming,
    [base, ours, theirs]: [ObjectId; 3],
) -> Result<MergedTrees, ContentError> {
    if ours == theirs || base == theirs {
        return Ok(MergedTrees { tree: ours, conflicts: Vec::new() });
    }
    if base == ours {
        return Ok(MergedTrees { tree: theirs, conflicts: Vec::new() });
    }
    let mut walk = Walk {
        reader,
        policy,
        sides: [ours, theirs],
        edits: TreeEdits::default(),
        rest: vec![(None, [Some(base), Some(ours), Some(theirs)])],
        shadowed: Vec::new(),
        conflicts: BTreeMap::new(),
        bytes_left: MAX_MERGED_BYTES,
    };
    while let Some((folder, trees)) = walk.rest.pop() {
        walk.folder(folder.as_ref(), trees)?;
    }
    if renaming == Renaming::Follow {
        walk.follow_renames([base, ours, theirs])?;
    }
    walk.finish(ours)
}

struct Walk<'r, 'a> {
    reader: &'r mut Reader<'a>,
    policy: Policy,
    /// Root trees of both sides.
    sides: [ObjectId; 2],
    /// Edits of our tree.
    edits: TreeEdits,
    /// Folders to walk.
    rest: Vec<(Option<RepoPath>, [Option<ObjectId>; 3])>,
    /// Files at paths at which there may be a folder in the result.
    shadowed: Vec<(RepoPath, Entry, Versions)>,
    conflicts: BTreeMap<RepoPath, Conflict>,
    bytes_left: u64,
}

impl Walk<'_, '_> {
    /// Merges the entries of a folder.
    fn folder(&mut self, folder: Option<&RepoPath>, trees: [Option<ObjectId>; 3]) -> Result<(), ContentError> {
        let mut names: BTreeMap<BString, Versions> = BTreeMap::new();
        for (version, tree) in trees.into_iter().enumerate() {
            let Some(tree) = tree else { continue };
            for (name, entry) in self.reader.entries(&tree)? {
                names.entry(name).or_default()[version] = Some(entry);
            }
        }
        for (name, versions) in names {
            let [base, ours, theirs] = versions;
            if ours == theirs || base == theirs {
                continue;
            }
            let path = folder.map_or_else(|| RepoPath::known(name.clone()), |folder| folder.join(&name));
            if base == ours {
                self.edits.set(&path, theirs);
            } else {
                self.both_changed(path, versions)?;
            }
            if self.edits.len() + self.rest.len() > MAX_MERGE_PATHS {
                return Err(ContentError::Limit(Bound::MergePaths));
            }
        }
        Ok(())
    }

    /// Merges an entry that both sides changed.
    fn both_changed(&mut self, path: RepoPath, versions: Versions) -> Result<(), ContentError> {
        let folders = versions.map(|entry| entry.and_then(|entry| entry.folder()));
        let files = versions.map(|entry| entry.filter(|entry| entry.mode != Mode::Folder));
        let merged = merge_entries(self.reader, self.policy, files, Names::default(), &mut self.bytes_left)?;
        self.report(&path, versions, merged)?;
        if folders == [None; 3] {
            self.edits.set(&path, merged.entry);
            return Ok(());
        }
        if files[1].is_some() {
            self.edits.set(&path, None);
        }
        if let Some(file) = merged.entry {
            self.shadowed.push((path.clone(), file, versions));
        }
        let [base, ours, theirs] = folders;
        if ours == theirs || base == theirs {
            return Ok(());
        }
        if base == ours {
            self.edits.set(&path, theirs.map(|id| Entry { mode: Mode::Folder, id }));
            return Ok(());
        }
        if path.names().count() > MAX_EDIT_DEPTH {
            return Err(ContentError::Limit(Bound::EditDepth));
        }
        self.rest.push((Some(path), folders));
        Ok(())
    }

    fn report(&mut self, path: &RepoPath, versions: Versions, merged: Merged) -> Result<(), ContentError> {
        if merged.is_clean() {
            return Ok(());
        }
        let conflict = self.conflicts.entry(path.clone()).or_insert_with(|| Conflict::new(path.clone(), versions));
        conflict.add(merged.content, merged.mode, merged.object_type);
        if self.conflicts.len() > MAX_CONFLICTS { Err(ContentError::Limit(Bound::Conflicts)) } else { Ok(()) }
    }

    /// Carries changes of a file to the path to which the other side renamed it.
    fn follow_renames(&mut self, [base, ours, theirs]: [ObjectId; 3]) -> Result<(), ContentError> {
        let Some(ours) = Changes::list(self.reader, base, ours)? else { return Ok(()) };
        let Some(theirs) = Changes::list(self.reader, base, theirs)? else { return Ok(()) };
        let renamed = [renames(self.reader, &ours, &theirs)?, renames(self.reader, &theirs, &ours)?];
        let sides = [&ours, &theirs];
        for side in 0..2 {
            for (old, new) in &renamed[side] {
                let Some(base) = sides[side].deleted.get(old).copied() else { continue };
                let Some(own) = sides[side].added.get(new).copied() else { continue };
                let Some(other) = renamed[1 - side].get(old) else {
                    // Where the other side has a file of its own, what was found at both paths stays.
                    if !sides[1 - side].added.contains_key(new) {
                        let changed = self.other_version(old, side)?;
                        self.merge_at([old, new], side, in_order(side, Some(base), Some(own), changed))?;
                    }
                    continue;
                };
                // Both sides renamed the file: once is enough.
                let Some(theirs) = sides[1].added.get(other).copied().filter(|_| side == 0) else { continue };
                let versions = [Some(base), Some(own), Some(theirs)];
                if other == new {
                    self.merge_at([old, new], side, versions)?;
                } else {
                    self.renamed_twice([old, new, other], versions)?;
                }
            }
        }
        Ok(())
    }

    /// The other side's version of a file that a side renamed; `None` if the other side deleted the file.
    fn other_version(&mut self, old: &RepoPath, side: usize) -> Result<Option<Entry>, ContentError> {
        let found = find(self.reader, self.sides[1 - side], old)?.entry();
        Ok(found.filter(|entry| entry.mode != Mode::Folder))
    }

    /// Merges a renamed file at its new path, in place of what was found at the old one.
    fn merge_at(&mut self, [old, new]: [&RepoPath; 2], side: usize, versions: Versions) -> Result<(), ContentError> {
        let paths = if side == 0 { [new, old] } else { [old, new] };
        let names = Names { paths: Some(paths), longer: 0 };
        let merged = merge_entries(self.reader, self.policy, versions, names, &mut self.bytes_left)?;
        self.conflicts.remove(old);
        self.conflicts.remove(new);
        self.shadowed.retain(|(path, _, _)| path != old);
        if versions.iter().all(Option::is_some) {
            self.report(new, versions, merged)?;
        } else {
            // One side renamed what the other deleted.
            self.report(new, versions, Merged { content: 1, ..merged })?;
        }
        if let Some(conflict) = self.conflicts.get_mut(new) {
            conflict.renamed_from = Some(old.clone());
        }
        if !self.is_folder_in_result(old)? {
            self.edits.set(old, None);
        }
        match self.shadowed.iter_mut().find(|(path, _, _)| path == new) {
            Some((_, file, _)) => *file = merged.entry.unwrap_or(*file),
            None => self.edits.set(new, merged.entry.or(versions[0])),
        }
        Ok(())
    }

    /// Returns true if a side has a folder at a path, which may be in the result.
    fn is_folder_in_result(&mut self, path: &RepoPath) -> Result<bool, ContentError> {
        for tree in self.sides {
            if find(self.reader, tree, path)?.entry().is_some_and(|entry| entry.mode == Mode::Folder) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reports a file that both sides renamed, to different paths. A merge of merge bases puts the merged file at both.
    fn renamed_twice(&mut self, [old, one, two]: [&RepoPath; 3], versions: Versions) -> Result<(), ContentError> {
        let conflict = Merged { content: 1, ..Merged::default() };
        let [base, ours, theirs] = versions;
        self.report(old, [base, None, None], conflict)?;
        self.report(one, [None, ours, None], conflict)?;
        self.report(two, [None, None, theirs], conflict)?;
        for path in [one, two] {
            if let Some(conflict) = self.conflicts.get_mut(path) {
                conflict.renamed_from = Some(old.clone());
            }
        }
        if let Policy::Virtual { .. } = self.policy {
            let names = Names { paths: Some([one, two]), longer: 1 };
            let merged = merge_entries(self.reader, self.policy, versions, names, &mut self.bytes_left)?;
            self.edits.set(one, merged.entry);
            self.edits.set(two, merged.entry);
        }
        Ok(())
    }

    /// Applies the edits, then puts files to their paths where no folder is left.
    fn finish(mut self, ours: ObjectId) -> Result<MergedTrees, ContentError> {
        let tree = self.edits.apply(self.reader, ours)?;
        let mut files = TreeEdits::default();
        for (path, file, versions) in std::mem::take(&mut self.shadowed) {
            let is_folder = find(self.reader, tree, &path)?.entry().is_some_and(|entry| entry.mode == Mode::Folder);
            if !is_folder {
                files.set(&path, Some(file));
                continue;
            }
            if let Policy::Virtual { .. } = self.policy {
                files.set(&moved_aside(&path, versions), Some(file));
            }
            self.report(&path, versions, Merged { object_type: true, ..Merged::default() })?;
        }
        let tree = files.apply(self.reader, tree)?;
        Ok(MergedTrees { tree, conflicts: self.conflicts.into_values().collect() })
    }
}

/// Path to which Git moves a file out of the way of a folder when it merges merge bases: renames may begin there.
fn moved_aside(path: &RepoPath, [_, ours, _]: Versions) -> RepoPath {
    let is_ours = ours.is_some_and(|ours| ours.mode != Mode::Folder);
    let suffix: &[u8] = if is_ours { b"~Temporary merge branch 1" } else { b"~Temporary merge branch 2" };
    let path: &[u8] = path.as_bstr();
    RepoPath::known([path, suffix].concat().into())
}

/// Versions of a file of which side number `side` is `own`.
fn in_order(side: usize, base: Option<Entry>, own: Option<Entry>, other: Option<Entry>) -> Versions {
    if side == 0 { [base, own, other] } else { [base, other, own] }
}
