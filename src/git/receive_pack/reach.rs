//! Proof that what a push needs and does not bring is reachable from visible refs.
//!
//! Presence proves nothing: an object may be here and be hidden, or be a remainder that lacks its own parts. So
//! each object is looked for where it usually is, from the cheapest place to the dearest: commits among the
//! tips and then in their history; trees and blobs in the trees of the parents of what is new, at the same
//! paths and then anywhere; and in the end in everything that visible refs reach.
//!
//! Presence is not asked before that: an object that is hidden and one that is absent take the same way to the same
//! answer, so that neither the answer nor the time until it comes tells them apart.

use std::collections::{HashMap, HashSet, VecDeque};

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::hash::oid;
use gix::objs::Kind;

use super::ancestry::{Commit, Objects, Queue};
use crate::links::for_each_link;
use crate::pack::{Object, PackError, PackSet};
use crate::view::View;

/// Commits that are walked from the refs that a push changes before all others are looked at.
const NEAR_COMMITS: usize = 2048;
/// Parents of a push that its trees are compared with.
const MAX_COMPARED_PARENTS: usize = 16;
/// Trees of the push that are compared with those of its parents, path by path.
const MAX_COMPARED_TREES: usize = 1 << 20;

/// An object that has to be reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Required {
    /// The object.
    pub id: ObjectId,
    /// What it is taken for; `None` where it may be anything.
    pub kind: Option<Kind>,
}

/// Those of `required` that are not reachable from what `view` shows, or are not what they are taken for.
///
/// `new` holds the objects of the push, and `tips` are what its commands name. `near` are good places to start:
/// what the refs to be changed name now.
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

/// Those of `bases`, which deltas are made for, that are reachable from what `view` shows, sorted.
///
/// `parents` are commits that the push says it builds on, and `near` what the refs to be changed name now. Clients
/// make deltas for what stands at the same paths there, so the search goes into trees that are bases themselves before
/// it goes into others.
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
    /// Required commits that have not been found.
    commits: HashSet<ObjectId>,
    /// Other required objects that have not been found, and in the end all of them.
    others: HashSet<ObjectId>,
    /// Required commits that are reachable: parents of what is new.
    edges: Vec<ObjectId>,
    /// Reachable trees that have been looked into with all below them.
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
            // What a client says its ref is does not make it visible.
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
        // What is no commit may be anything else.
        self.others.extend(self.commits.drain());
        Ok(())
    }

    /// Finds those of `parents` that are near, whether the others are here or not.
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

    /// Goes one commit back; `true` when there is nothing more to find, or nowhere to go.
    fn take_commits(&mut self, queue: &mut Queue) -> Result<bool, PackError> {
        let Some((id, _)) = queue.pop(&mut self.held)? else { return Ok(true) };
        if self.commits.remove(&id) {
            self.edges.push(id);
        }
        Ok(self.commits.is_empty())
    }

    /// The trees of reachable parents, or of what the refs to be changed name.
    fn roots_of_parents(&mut self, near: &[ObjectId]) -> Result<Vec<ObjectId>, PackError> {
        let from: Vec<ObjectId> = match self.edges.is_empty() {
            true => near.iter().filter(|id| self.view.is_tip(id)).copied().collect(),
            false => self.edges.clone(),
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

    /// Looks through the trees of parents, those that are `bases` first.
    fn walk_trees_of_parents(&mut self, near: &[ObjectId], bases: &HashSet<ObjectId>) -> Result<(), PackError> {
        let mut next: VecDeque<ObjectId> = self.roots_of_parents(near)?.into();
        while let Some(id) = next.pop_front() {
            if self.others.is_empty() || !self.walked.insert(id) {
                continue;
            }
            let Some(Object { data, .. }) = self.held.read(&id)? else { continue };
            for_each_entry(&data, self.view.format, |_, id, is_tree| {
                self.others.remove(id);
                match is_tree {
                    true if bases.contains(id) => next.push_front(id.to_owned()),
                    true => next.push_back(id.to_owned()),
                    false => {}
                }
            });
        }
        Ok(())
    }

    /// Compares the trees of new commits with those that they were made from: the trees of reachable parents.
    fn compare_trees(&mut self, tips: &[ObjectId], near: &[ObjectId]) -> Result<(), PackError> {
        let roots = self.roots_of_parents(near)?;
        let (mut seen, mut compared) = (HashSet::new(), HashSet::new());
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

    /// Looks through the reachable tree `old` and below it wherever the new tree `new` has something new.
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

    /// Looks through everything that is reachable, from what is likely to what is not.
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

    /// What a ref may name beside commits: tags of anything, trees, blobs.
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

/// Calls `visit` with name, id and whether it is a tree for the entries of a tree, up to where it is damaged.
/// Submodules are left out.
fn for_each_entry<'d>(data: &'d [u8], format: gix::hash::Kind, mut visit: impl FnMut(&'d [u8], &'d oid, bool)) {
    let mut rest = data;
    while let Some(space) = rest.find_byte(b' ') {
        let (mode, after) = (&rest[..space], &rest[space + 1..]);
        let Some(end) = after.find_byte(0) else { return };
        let Some((id, next)) = after[end + 1..].split_at_checked(format.len_in_bytes()) else { return };
        // As in `links`: by the last bits of the type, zero-padded or not.
        let mode = mode.strip_prefix(b"0").unwrap_or(mode);
        match mode {
            b"40000" => visit(&after[..end], oid::from_bytes_unchecked(id), true),
            b"160000" => {}
            _ => visit(&after[..end], oid::from_bytes_unchecked(id), false),
        }
        rest = next;
    }
}
