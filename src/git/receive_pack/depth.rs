//! Whether what a push or an import brings can be served: no directory lies too deep, and no tag is one of too many tags.

use std::collections::HashMap;

use gix::ObjectId;
use gix::objs::Kind;

use super::ancestry::{Commit, Objects};
use crate::limits::{MAX_TAG_DEPTH, MAX_TREE_DEPTH};
use crate::links::{EntryKind, TreeEntries, for_each_link};
use crate::pack::{Object, PackError, PackSet};

/// Parents that the tree of a commit is compared with.
const MAX_COMPARED_PARENTS: usize = 16;
/// How often new trees are looked into, on the average: more than once only where a tree lies in several depths.
const MAX_VISITS: u64 = 16;

/// Why something cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooDeep {
    /// A directory lies too deep.
    #[error("tree {0} lies more than {MAX_TREE_DEPTH} directories deep, which Git does not read (core.maxTreeDepth)")]
    Tree(ObjectId),
    /// New directories contain each other in too many ways to find out how deep they lie.
    #[error("the trees contain each other in too many ways")]
    Tangled,
    /// A tag of tags of tags.
    #[error("tag {0} is one of more than {MAX_TAG_DEPTH} tags, one of the other")]
    Tag(ObjectId),
}

/// Looks for what cannot be served in what `tips` name: in what is `new`, and in how that contains what was here. All
/// else that they need has to be here, and servable: the cost is that of reading new trees and moved ones.
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

struct Search<'a> {
    new: &'a PackSet,
    /// What is new before what is held.
    objects: Objects<'a>,
    format: gix::hash::Kind,
    /// Whether there is anything to compare with: in a first push all trees are new.
    compares: bool,
    /// The greatest depth that each new tree was met at, and one more; 0 where it was not met.
    depths: Vec<u16>,
    visits_left: u64,
    /// How many directories there are in held trees, one in the other: 0 without a directory.
    heights: HashMap<ObjectId, u32>,
    /// New commits that are still to be looked at, and which objects have been commits of that kind.
    commits: Vec<ObjectId>,
    seen: Vec<bool>,
}

/// A tree at a place.
struct Place {
    id: ObjectId,
    depth: u32,
    /// The trees at the same place in the parents.
    before: Vec<ObjectId>,
}

type Found = Result<Option<TooDeep>, PackError>;

impl Search<'_> {
    fn tip(&mut self, tip: &ObjectId) -> Found {
        let mut id = *tip;
        for _ in 0..=MAX_TAG_DEPTH {
            match self.objects.kind(&id)? {
                Some(Kind::Tag) => {
                    let Some(Object { data, .. }) = self.objects.read(&id)? else { return Ok(None) };
                    let mut target = None;
                    let _ = for_each_link(Kind::Tag, &data, self.format, |id, _| target = Some(id.to_owned()));
                    match target {
                        Some(target) => id = target,
                        None => return Ok(None),
                    }
                }
                Some(Kind::Commit) => {
                    self.commits.push(id);
                    return self.commits();
                }
                Some(Kind::Tree) => return self.tree(id, Vec::new()),
                _ => return Ok(None),
            }
        }
        Ok(Some(TooDeep::Tag(*tip)))
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

    /// Where a new object has its place in tables.
    fn slot(&self, id: &ObjectId) -> Option<usize> {
        self.new.locate(id).map(|location| self.new.slot(location) as usize)
    }

    /// Looks at a root. What stands at the same place in a parent is as deep there.
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
            (self.visits_left, self.depths[slot]) = (left, depth as u16 + 1);
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

    /// Names and ids of the trees in a tree.
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

    /// How many directories lie in a held tree, one in the other. Goes into each tree once.
    fn height(&mut self, root: ObjectId) -> Result<u32, PackError> {
        let mut open: Vec<Open> = Vec::new();
        let mut next = Some(root);
        let mut height = 0;
        loop {
            if let Some(id) = next.take() {
                height = match self.heights.get(&id) {
                    Some(height) => *height,
                    // A held tree that is too deep is not gone through.
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
                // What is above hears of it in the next round.
            }
        }
    }

    fn close(&mut self, tree: Option<Open>) -> u32 {
        let Some(Open { id, height, .. }) = tree else { return 0 };
        self.heights.insert(id, height);
        height
    }
}

/// A tree of which some subtrees have not been looked at.
struct Open {
    id: ObjectId,
    rest: Vec<ObjectId>,
    height: u32,
}
