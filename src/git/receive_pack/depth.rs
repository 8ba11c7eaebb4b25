//! Depth limits on new objects, without which they could not be served: nesting of directories and of tags. Applies to
//! pushes and imports.

use std::collections::HashMap;

use gix::ObjectId;
use gix::objs::Kind;

use super::ancestry::{Commit, Objects};
use crate::limits::{MAX_TAG_DEPTH, MAX_TREE_DEPTH};
use crate::links::{EntryKind, TreeEntries, for_each_link};
use crate::pack::{Object, PackError, PackSet};

/// Most parents with whose trees the tree of a commit is compared.
const MAX_COMPARED_PARENTS: usize = 16;
/// Most visits per new tree, on average. Trees that occur at several depths are visited more than once.
const MAX_VISITS: u64 = 16;

/// New objects exceed a depth limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooDeep {
    /// A tree is nested deeper than [`MAX_TREE_DEPTH`].
    #[error("tree {0} is more than {MAX_TREE_DEPTH} directories deep, past Git's own limit (core.maxTreeDepth)")]
    Tree(ObjectId),
    /// Checking the depth of the new trees takes more than [`MAX_VISITS`] visits per tree.
    #[error("the depth of the trees cannot be checked: too many of them occur at too many different depths")]
    Tangled,
    /// A tag starts a chain of more than [`MAX_TAG_DEPTH`] tags.
    #[error("tag {0} starts a chain of more than {MAX_TAG_DEPTH} nested tags")]
    Tag(ObjectId),
}

/// Checks the depth of everything that `tips` reach in `new`, including held trees at new places. Returns the first
/// violation. Held objects must be connected and within the limits already. Reads new and moved trees only.
pub fn too_deep(
    held: &PackSet,
    new: &PackSet,
    format: gix::hash::Kind,
    tips: impl IntoIterator<Item = ObjectId>,
) -> Result<Option<TooDeep>, PackError> {
    let mut search = Search {
        new,
        objects: Objects::new([new, held])?,
        format,
        compares: held.slots() > 0,
        depths: vec![0; usize::try_from(new.slots()).unwrap_or(usize::MAX)],
        visits_left: new.slots().saturating_mul(MAX_VISITS).saturating_add(MAX_VISITS),
        heights: HashMap::new(),
        commits: Vec::new(),
        seen: vec![false; usize::try_from(new.slots()).unwrap_or(usize::MAX)],
    };
    for tip in tips {
        if let Some(found) = search.tip(&tip)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Checks chains of tags like [`too_deep`], where the depth of all trees in `new` is known to be within the limit.
/// Reads the tags alone.
pub fn tag_too_deep(
    held: &PackSet,
    new: &PackSet,
    format: gix::hash::Kind,
    tips: impl IntoIterator<Item = ObjectId>,
) -> Result<Option<TooDeep>, PackError> {
    let mut objects = Objects::new([new, held])?;
    for tip in tips {
        if peel(&mut objects, format, &tip)? == Peeled::TooDeep {
            return Ok(Some(TooDeep::Tag(tip)));
        }
    }
    Ok(None)
}

/// Object at the end of a chain of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peeled {
    Commit(ObjectId),
    Tree(ObjectId),
    /// Nothing that has a depth.
    Other,
    /// The chain has more than [`MAX_TAG_DEPTH`] tags.
    TooDeep,
}

/// Follows a chain of tags to its end.
pub(super) fn peel(objects: &mut Objects<'_>, format: gix::hash::Kind, tip: &ObjectId) -> Result<Peeled, PackError> {
    let mut id = *tip;
    for _ in 0..=MAX_TAG_DEPTH {
        match objects.kind(&id)? {
            Some(Kind::Tag) => {
                let Some(Object { data, .. }) = objects.read(&id)? else { return Ok(Peeled::Other) };
                let mut target = None;
                let _ = for_each_link(Kind::Tag, &data, format, |id, _| target = Some(id.to_owned()));
                match target {
                    Some(target) => id = target,
                    None => return Ok(Peeled::Other),
                }
            }
            Some(Kind::Commit) => return Ok(Peeled::Commit(id)),
            Some(Kind::Tree) => return Ok(Peeled::Tree(id)),
            Some(Kind::Blob) | None => return Ok(Peeled::Other),
        }
    }
    Ok(Peeled::TooDeep)
}

struct Search<'a> {
    new: &'a PackSet,
    /// New objects, then held ones.
    objects: Objects<'a>,
    format: gix::hash::Kind,
    /// False if nothing is held: in a first push all trees are new.
    compares: bool,
    /// One more than the greatest depth at which each new tree was visited, by slot; 0 if it was not visited.
    depths: Vec<u16>,
    visits_left: u64,
    /// Height of held trees: levels of directories below them, 0 for a tree without subtrees.
    heights: HashMap<ObjectId, u32>,
    /// New commits to visit.
    commits: Vec<ObjectId>,
    /// Visited commits, by slot.
    seen: Vec<bool>,
}

/// Tree at one of its paths.
struct Place {
    id: ObjectId,
    depth: u32,
    /// Trees at the same path in the parent commits.
    before: Vec<ObjectId>,
}

type Found = Result<Option<TooDeep>, PackError>;

impl Search<'_> {
    fn tip(&mut self, tip: &ObjectId) -> Found {
        match peel(&mut self.objects, self.format, tip)? {
            Peeled::Commit(id) => {
                self.commits.push(id);
                self.commits()
            }
            Peeled::Tree(id) => self.tree(id, Vec::new()),
            Peeled::Other => Ok(None),
            Peeled::TooDeep => Ok(Some(TooDeep::Tag(*tip))),
        }
    }

    fn commits(&mut self) -> Found {
        while let Some(id) = self.commits.pop() {
            let Some(slot) = self.slot(&id) else { continue };
            if std::mem::replace(&mut self.seen[slot], true) {
                continue;
            }
            let commit = self.commit(&id)?;
            let mut before = Vec::new();
            for parent in commit.parents.iter().take(if self.compares { MAX_COMPARED_PARENTS } else { 0 }) {
                before.extend(self.commit(parent)?.tree);
            }
            self.commits.extend(commit.parents);
            if let Some(tree) = commit.tree.filter(|tree| !before.contains(tree))
                && let Some(found) = self.tree(tree, before)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn commit(&mut self, id: &ObjectId) -> Result<Commit, PackError> {
        let object = self.objects.read(id)?.filter(|object| object.kind == Kind::Commit);
        Ok(Commit::parse(object.as_ref().map_or(&[][..], |object| &object.data), self.format))
    }

    /// Returns the slot of a new object; `None` for held and missing objects.
    fn slot(&self, id: &ObjectId) -> Option<usize> {
        self.new.locate(id).map(|location| self.new.slot(location) as usize)
    }

    /// Checks a root tree. Skips subtrees that a parent commit has at the same path: their depth is the same there.
    fn tree(&mut self, root: ObjectId, before: Vec<ObjectId>) -> Found {
        let mut stack = vec![Place { id: root, depth: 0, before }];
        while let Some(Place { id, depth, before }) = stack.pop() {
            let Some(slot) = self.slot(&id) else {
                if depth + self.height(id)? > MAX_TREE_DEPTH {
                    return Ok(Some(TooDeep::Tree(id)));
                }
                continue;
            };
            if depth > MAX_TREE_DEPTH {
                return Ok(Some(TooDeep::Tree(id)));
            }
            if u32::from(self.depths[slot]) > depth {
                continue;
            }
            let Some(left) = self.visits_left.checked_sub(1) else { return Ok(Some(TooDeep::Tangled)) };
            self.visits_left = left;
            self.depths[slot] = depth as u16 + 1;
            let entries = self.subtrees(&id)?;
            let mut old = Vec::new();
            for tree in before.iter().filter(|_| !entries.is_empty()) {
                old.push(self.subtrees(tree)?);
            }
            for (name, id) in entries {
                let at = |entries: &Vec<(Vec<u8>, ObjectId)>| {
                    entries.iter().find(|(old, _)| *old == name).map(|(_, id)| *id)
                };
                let before: Vec<ObjectId> = old.iter().filter_map(at).collect();
                if !before.contains(&id) {
                    stack.push(Place { id, depth: depth + 1, before });
                }
            }
        }
        Ok(None)
    }

    /// Returns the names and ids of the subtrees of a tree.
    fn subtrees(&mut self, id: &ObjectId) -> Result<Vec<(Vec<u8>, ObjectId)>, PackError> {
        let mut found = Vec::new();
        let Some(Object { kind: Kind::Tree, data }) = self.objects.read(id)? else { return Ok(found) };
        let mut entries = TreeEntries::new(&data, self.format);
        while let Ok(Some(entry)) = entries.read() {
            if entry.kind == EntryKind::Tree {
                found.push((entry.name.to_vec(), entry.id.to_owned()));
            }
        }
        Ok(found)
    }

    /// Returns the height of a held tree. Reads each tree once.
    fn height(&mut self, root: ObjectId) -> Result<u32, PackError> {
        let mut open: Vec<Open> = Vec::new();
        let mut next = Some(root);
        let mut height = 0;
        loop {
            if let Some(id) = next.take() {
                height = match self.heights.get(&id) {
                    Some(height) => *height,
                    // A held tree past the limit is not explored further.
                    None if open.len() as u32 > MAX_TREE_DEPTH => MAX_TREE_DEPTH + 1,
                    None => {
                        let rest = self.subtrees(&id)?.into_iter().map(|(_, id)| id).collect();
                        open.push(Open { id, rest, height: 0 });
                        next = open.last_mut().and_then(|tree| tree.rest.pop());
                        if next.is_some() {
                            continue;
                        }
                        self.close(open.pop())
                    }
                };
            }
            let Some(above) = open.last_mut() else { return Ok(height) };
            above.height = above.height.max(height.saturating_add(1));
            next = above.rest.pop();
            if next.is_none() {
                height = self.close(open.pop());
                // The next round updates the height of the parent.
            }
        }
    }

    fn close(&mut self, tree: Option<Open>) -> u32 {
        let Some(Open { id, height, .. }) = tree else { return 0 };
        self.heights.insert(id, height);
        height
    }
}

/// Tree with subtrees that have not been visited.
struct Open {
    id: ObjectId,
    rest: Vec<ObjectId>,
    height: u32,
}
