//! Merges of three trees: folders that one side alone changed are taken whole, the others are walked.

use std::collections::BTreeMap;

use gix::ObjectId;
use gix::bstr::BString;

use super::blobs::{Merged, Policy, Versions, merge_entries};
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
        let merged = merge_entries(self.reader, self.policy, files, &mut self.bytes_left)?;
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
                let other = renamed[1 - side].get(old);
                let Some(base) = sides[side].deleted.get(old).copied() else { continue };
                let Some(own) = sides[side].added.get(new).copied() else { continue };
                match other {
                    Some(other) if other == new && side == 0 => {
                        let theirs = sides[1].added.get(new).copied();
                        self.merge_at(new, old, [Some(base), Some(own), theirs])?;
                    }
                    Some(other) if other == new => {}
                    Some(_) => self.renamed_twice(old, new, base, in_order(side, None, Some(own), None))?,
                    // The other side has a file of its own there: what was found at both paths stays.
                    None if sides[1 - side].added.contains_key(new) => {}
                    None => {
                        let changed = self.other_version(old, side)?;
                        self.merge_at(new, old, in_order(side, Some(base), Some(own), changed))?;
                    }
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
    fn merge_at(&mut self, new: &RepoPath, old: &RepoPath, versions: Versions) -> Result<(), ContentError> {
        let merged = merge_entries(self.reader, self.policy, versions, &mut self.bytes_left)?;
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

    /// Reports a file that both sides renamed, to different paths.
    fn renamed_twice(
        &mut self,
        old: &RepoPath,
        new: &RepoPath,
        base: Entry,
        versions: Versions,
    ) -> Result<(), ContentError> {
        let conflict = Merged { content: 1, ..Merged::default() };
        if !self.conflicts.contains_key(old) {
            self.report(old, [Some(base), None, None], conflict)?;
        }
        self.report(new, versions, conflict)?;
        if let Some(conflict) = self.conflicts.get_mut(new) {
            conflict.renamed_from = Some(old.clone());
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
            self.report(&path, versions, Merged { object_type: true, ..Merged::default() })?;
        }
        let tree = files.apply(self.reader, tree)?;
        Ok(MergedTrees { tree, conflicts: self.conflicts.into_values().collect() })
    }
}

/// Versions of a file of which side number `side` is `own`.
fn in_order(side: usize, base: Option<Entry>, own: Option<Entry>, other: Option<Entry>) -> Versions {
    if side == 0 { [base, own, other] } else { [base, other, own] }
}
