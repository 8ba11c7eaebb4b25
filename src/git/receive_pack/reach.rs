//! Connectivity check: proves that visible refs reach every object that a push refers to but does not contain.
//!
//! Presence in a pack proves nothing: an object may be hidden, or be a leftover whose own links are missing. Each
//! object is searched for in places of increasing cost: commits among the tips, then in their history; trees and blobs
//! in the trees of parents of new commits, at the same paths and then anywhere; last in everything that visible refs
//! reach.
//!
//! The search does not test for presence first. Hidden and absent objects take the same path to the same answer, so
//! neither the answer nor its timing distinguishes them.

use std::collections::{HashMap, HashSet, VecDeque};

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::hash::oid;
use gix::objs::Kind;

use super::ancestry::{Commit, Objects, Queue};
use crate::links::for_each_link;
use crate::pack::{Object, PackError, PackSet};
use crate::view::View;

/// Most commits walked from the refs that a push updates before the walk starts from all refs.
const NEAR_COMMITS: usize = 2048;
/// Most parents of a push whose trees are compared with new trees.
const MAX_COMPARED_PARENTS: usize = 16;
/// Most pairs of new and old trees compared path by path.
const MAX_COMPARED_TREES: usize = 1 << 20;

/// Object that a visible ref must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Required {
    /// Id of the object.
    pub id: ObjectId,
    /// Expected kind; `None` for any kind.
    pub kind: Option<Kind>,
}

/// Returns those of `required` that no visible ref of `view` reaches, or that have another kind than expected.
///
/// `new` holds the objects of the push, `tips` are the new values of its commands. The search starts at `near`, the old
/// values of the commands, as far as they are tips.
pub fn unproven(
    view: &View,
    new: &PackSet,
    tips: &[ObjectId],
    near: &[ObjectId],
    required: &[Required],
) -> Result<HashSet<ObjectId>, PackError> {
    let mut search = Search::new(view, new)?;
    for Required { id, kind } in required {
        search.require(id, *kind)?;
    }
    search.find_commits(near)?;
    if !search.others.is_empty() {
        search.compare_trees(tips, near)?;
    }
    if !search.others.is_empty() {
        search.walk_everything()?;
    }
    for Required { id, kind } in required {
        let found = search.held.kind(id)?;
        if found.is_none() || kind.is_some_and(|kind| Some(kind) != found) {
            search.others.insert(*id);
        }
    }
    Ok(search.others)
}

/// Returns those of the delta bases `bases` that a visible ref of `view` reaches, sorted.
///
/// `parents` are the parents of pushed commits, `near` the old values of the commands. Clients choose bases at the same
/// paths in these commits, so the search enters trees that are bases themselves before others.
pub(super) fn visible_bases(
    view: &View,
    parents: &[ObjectId],
    near: &[ObjectId],
    bases: impl IntoIterator<Item = ObjectId>,
) -> Result<Vec<ObjectId>, PackError> {
    let bases: HashSet<ObjectId> = bases.into_iter().collect();
    let nothing = PackSet::new(view.format);
    let mut search = Search::new(view, &nothing)?;
    search.others = bases.iter().filter(|base| !view.is_tip(base)).copied().collect();
    if !search.others.is_empty() {
        search.find_parents(parents, near)?;
        search.walk_trees_of_parents(near, &bases)?;
    }
    if !search.others.is_empty() {
        search.walk_everything()?;
    }
    let mut visible: Vec<ObjectId> = bases.into_iter().filter(|base| !search.others.contains(base)).collect();
    visible.sort_unstable();
    Ok(visible)
}

struct Search<'a> {
    view: &'a View,
    new: &'a PackSet,
    held: Objects<'a>,
    fresh: Objects<'a>,
    /// Required commits not found yet.
    commits: HashSet<ObjectId>,
    /// Other required objects not found yet; after the commit walk, all missing ones.
    others: HashSet<ObjectId>,
    /// Required commits that are reachable: parents of new commits.
    edges: Vec<ObjectId>,
    /// Reachable trees that have been walked completely.
    walked: HashSet<ObjectId>,
}

impl<'a> Search<'a> {
    fn new(view: &'a View, new: &'a PackSet) -> Result<Self, PackError> {
        Ok(Search {
            view,
            new,
            held: Objects::new([&*view.packs])?,
            fresh: Objects::new([new])?,
            commits: HashSet::new(),
            others: HashSet::new(),
            edges: Vec::new(),
            walked: HashSet::new(),
        })
    }

    fn require(&mut self, id: &ObjectId, kind: Option<Kind>) -> Result<(), PackError> {
        if self.view.is_tip(id) {
            self.edges.extend((self.held.kind(id)? == Some(Kind::Commit)).then_some(*id));
        } else if matches!(kind, None | Some(Kind::Commit)) {
            self.commits.insert(*id);
        } else {
            self.others.insert(*id);
        }
        Ok(())
    }

    fn find_commits(&mut self, near: &[ObjectId]) -> Result<(), PackError> {
        if self.commits.is_empty() {
            return Ok(());
        }
        let mut queue = Queue::default();
        for id in near.iter().chain(&self.view.head_object()) {
            // Clients choose the old values of commands, so they prove nothing unless they are current tips.
            if self.view.is_tip(id) {
                queue.push(id, &mut self.held)?;
            }
        }
        for _ in 0..NEAR_COMMITS {
            if self.take_commits(&mut queue)? {
                break;
            }
        }
        if self.commits.is_empty() {
            return Ok(());
        }
        for id in self.view.tips() {
            queue.push(&id, &mut self.held)?;
        }
        while !self.take_commits(&mut queue)? {}
        // Objects not found among the commits may be of another kind.
        self.others.extend(self.commits.drain());
        Ok(())
    }

    /// Finds those of `parents` that are near the updated refs, and gives up on the others.
    fn find_parents(&mut self, parents: &[ObjectId], near: &[ObjectId]) -> Result<(), PackError> {
        for parent in parents {
            self.require(parent, Some(Kind::Commit))?;
        }
        let mut queue = Queue::default();
        for id in near.iter().chain(&self.view.head_object()).filter(|id| self.view.is_tip(id)) {
            queue.push(id, &mut self.held)?;
        }
        for _ in 0..NEAR_COMMITS {
            if self.commits.is_empty() || self.take_commits(&mut queue)? {
                break;
            }
        }
        self.commits.clear();
        Ok(())
    }

    /// Visits one commit. Returns true when no commit remains to be found, or the walk has ended.
    fn take_commits(&mut self, queue: &mut Queue) -> Result<bool, PackError> {
        let Some((id, _)) = queue.pop(&mut self.held)? else { return Ok(true) };
        if self.commits.remove(&id) {
            self.edges.push(id);
        }
        Ok(self.commits.is_empty())
    }

    /// Returns the root trees of reachable parents; without any, those of `near`.
    fn roots_of_parents(&mut self, near: &[ObjectId]) -> Result<Vec<ObjectId>, PackError> {
        let from: Vec<ObjectId> = if self.edges.is_empty() {
            near.iter().filter(|id| self.view.is_tip(id)).copied().collect()
        } else {
            self.edges.clone()
        };
        let mut roots = Vec::new();
        for id in from.iter().take(MAX_COMPARED_PARENTS) {
            let parent = self.held.read(id)?.filter(|object| object.kind == Kind::Commit);
            let root = parent.and_then(|parent| Commit::parse(&parent.data, self.view.format).tree);
            root.inspect(|root| self.found(root));
            roots.extend(root);
        }
        Ok(roots)
    }

    /// Walks the trees of parents, those that are `bases` first.
    fn walk_trees_of_parents(&mut self, near: &[ObjectId], bases: &HashSet<ObjectId>) -> Result<(), PackError> {
        let mut next: VecDeque<ObjectId> = self.roots_of_parents(near)?.into();
        while let Some(id) = next.pop_front() {
            if self.others.is_empty() || !self.walked.insert(id) {
                continue;
            }
            let Some(Object { data, .. }) = self.held.read(&id)? else { continue };
            for_each_entry(&data, self.view.format, |_, id, is_tree| {
                self.others.remove(id);
                if is_tree && bases.contains(id) {
                    next.push_front(id.to_owned());
                } else if is_tree {
                    next.push_back(id.to_owned());
                }
            });
        }
        Ok(())
    }

    /// Compares the trees of new commits with those of reachable parents.
    fn compare_trees(&mut self, tips: &[ObjectId], near: &[ObjectId]) -> Result<(), PackError> {
        let roots = self.roots_of_parents(near)?;
        let mut seen = HashSet::new();
        let mut compared = HashSet::new();
        let mut stack = tips.to_vec();
        while let Some(id) = stack.pop() {
            if self.others.is_empty() {
                return Ok(());
            }
            if !self.new.contains(&id) || !seen.insert(id) {
                continue;
            }
            let Some(Object { kind, data }) = self.fresh.read(&id)? else { continue };
            match kind {
                Kind::Commit => {
                    let commit = Commit::parse(&data, self.view.format);
                    for (new, old) in commit.tree.iter().flat_map(|new| roots.iter().map(move |old| (new, old))) {
                        self.compare(*new, *old, &mut compared)?;
                    }
                    stack.extend(commit.parents);
                }
                Kind::Tag => {
                    let _ = for_each_link(kind, &data, self.view.format, |id, _| stack.push(id.to_owned()));
                }
                Kind::Tree | Kind::Blob => {}
            }
        }
        Ok(())
    }

    fn found(&mut self, id: &oid) {
        self.others.remove(id);
    }

    /// Searches the reachable tree `old`, and its subtrees wherever those of the new tree `new` differ.
    fn compare(
        &mut self,
        new: ObjectId,
        old: ObjectId,
        compared: &mut HashSet<(ObjectId, ObjectId)>,
    ) -> Result<(), PackError> {
        let mut stack = vec![(new, old)];
        while let Some(pair) = stack.pop() {
            if self.others.is_empty() || compared.len() >= MAX_COMPARED_TREES || !compared.insert(pair) {
                continue;
            }
            let (Some(new), Some(old)) = (self.fresh.read(&pair.0)?, self.held.read(&pair.1)?) else { continue };
            let mut old_trees: HashMap<&[u8], &oid> = HashMap::new();
            for_each_entry(&old.data, self.view.format, |name, id, is_tree| {
                self.others.remove(id);
                if is_tree {
                    old_trees.insert(name, id);
                }
            });
            for_each_entry(&new.data, self.view.format, |name, id, is_tree| {
                if is_tree
                    && let Some(old) = old_trees.get(name)
                    && *old != id
                {
                    stack.push((id.to_owned(), (*old).to_owned()));
                }
            });
        }
        Ok(())
    }

    /// Walks everything that visible refs reach, starting at the parents of new commits.
    fn walk_everything(&mut self) -> Result<(), PackError> {
        let mut queue = Queue::default();
        for id in std::mem::take(&mut self.edges) {
            queue.push(&id, &mut self.held)?;
        }
        let mut all_tips = false;
        while !self.others.is_empty() {
            match queue.pop(&mut self.held)? {
                Some((id, commit)) => {
                    self.found(&id);
                    if let Some(tree) = commit.tree {
                        self.walk_tree(tree)?;
                    }
                }
                None if all_tips => return Ok(()),
                None => {
                    all_tips = true;
                    for id in self.view.tips() {
                        queue.push(&id, &mut self.held)?;
                        self.walk_tip(id)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Walks a tip that is no commit: a tag of any kind, a tree or a blob.
    fn walk_tip(&mut self, id: ObjectId) -> Result<(), PackError> {
        let mut next = Some(id);
        while let Some(id) = next.take() {
            self.found(&id);
            match self.held.read(&id)? {
                Some(Object { kind: Kind::Tree, .. }) => self.walk_tree(id)?,
                Some(Object { kind: kind @ Kind::Tag, data }) => {
                    let _ = for_each_link(kind, &data, self.view.format, |id, _| next = Some(id.to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn walk_tree(&mut self, root: ObjectId) -> Result<(), PackError> {
        let mut stack = vec![root];
        while let Some(id) = stack.pop() {
            if self.others.is_empty() || !self.walked.insert(id) {
                continue;
            }
            self.found(&id);
            let Some(Object { data, .. }) = self.held.read(&id)? else { continue };
            for_each_entry(&data, self.view.format, |_, id, is_tree| {
                self.others.remove(id);
                if is_tree {
                    stack.push(id.to_owned());
                }
            });
        }
        Ok(())
    }
}

/// Calls `visit` with the name and id of each entry of a tree, and true for subtrees. Skips submodules, and stops at
/// the first malformed entry.
fn for_each_entry<'d>(data: &'d [u8], format: gix::hash::Kind, mut visit: impl FnMut(&'d [u8], &'d oid, bool)) {
    let mut rest = data;
    while let Some(space) = rest.find_byte(b' ') {
        let (mode, after) = (&rest[..space], &rest[space + 1..]);
        let Some(end) = after.find_byte(0) else { return };
        let Some((id, next)) = after[end + 1..].split_at_checked(format.len_in_bytes()) else { return };
        // As in `links`, modes may be zero-padded.
        let mode = mode.strip_prefix(b"0").unwrap_or(mode);
        match mode {
            b"40000" => visit(&after[..end], oid::from_bytes_unchecked(id), true),
            b"160000" => {}
            _ => visit(&after[..end], oid::from_bytes_unchecked(id), false),
        }
        rest = next;
    }
}
