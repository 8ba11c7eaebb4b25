//! Whether objects are reachable from visible refs: what a client may ask for, and may learn about.

use gix::ObjectId;
use gix::objs::Kind;

use super::commits::Queue;
use super::error::ServeError;
use super::graph::Graph;
use super::slots::SlotSet;
use super::sparse::Sparse;
use super::trees::{Mark, TreeWalk};
use crate::protocol::Filter;
use crate::view::View;

/// The commits and tags that refs reach, walked from the newest on and only as far as questions need it.
///
/// A commit that is reachable costs a walk from the refs down to its age; one that is not, all commits. The
/// walk goes on where the last question left it, so all questions of a request together cost one walk of the
/// history at most. Needs one bit for each object of the packs.
pub(crate) struct Reachable<'v> {
    view: &'v View,
    /// From `HEAD` alone: what nearly all clients ask about is found there, and with many refs it takes long
    /// to look at all of them.
    near: Option<Walk>,
    /// From all refs; made when the first question cannot be answered otherwise.
    walk: Option<Walk>,
}

struct Walk {
    seen: SlotSet,
    queue: Queue,
    /// Trees and blobs that refs name directly or through tags.
    others: Vec<u64>,
}

impl Walk {
    fn start(tips: impl Iterator<Item = ObjectId>, graph: &mut Graph<'_>) -> Result<Self, ServeError> {
        let mut walk = Walk { seen: graph.no_slots(), queue: Queue::default(), others: Vec::new() };
        for id in tips {
            // What was a ref a short while ago may be gone; what a ref names has to be there.
            let Some(slot) = graph.slot(&id) else { continue };
            let (target, kind) = graph.peel(slot, |tag| {
                walk.seen.insert(tag);
            })?;
            if kind == Kind::Commit {
                walk.add(target, graph)?;
            } else if walk.seen.insert(target) {
                walk.others.push(target);
            }
        }
        Ok(walk)
    }

    /// Walks on until an object is met, looking at no commits from before `oldest`.
    fn reaches(&mut self, slot: u64, oldest: i64, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        while !self.seen.contains(slot) {
            if self.queue.newest().is_none_or(|newest| newest < oldest) {
                return Ok(false);
            }
            let Some((_, next)) = self.queue.pop() else { return Ok(false) };
            for parent in graph.whole_commit(next)?.parents {
                self.add(parent, graph)?;
            }
        }
        Ok(true)
    }

    fn add(&mut self, slot: u64, graph: &mut Graph<'_>) -> Result<(), ServeError> {
        if self.seen.insert(slot) {
            let time = graph.whole_commit(slot)?.time;
            self.queue.push(time, slot);
        }
        Ok(())
    }
}

impl<'v> Reachable<'v> {
    pub(crate) fn new(view: &'v View) -> Self {
        Reachable { view, near: None, walk: None }
    }

    /// Whether a commit or tag is reachable.
    pub(crate) fn contains(&mut self, id: &ObjectId, slot: u64, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        if self.view.is_tip(id) {
            return Ok(true);
        }
        if self.is_near(slot, graph)? {
            return Ok(true);
        }
        if self.walk.is_none() {
            self.walk = Some(Walk::start(self.view.tips(), graph)?);
        }
        match &mut self.walk {
            Some(walk) => walk.reaches(slot, i64::MIN, graph),
            None => Ok(false),
        }
    }

    /// Whether `HEAD` reaches a commit by way of commits that are not older; if not, nothing is said.
    fn is_near(&mut self, slot: u64, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        if graph.kind(slot)? != Kind::Commit {
            return Ok(false);
        }
        let time = graph.whole_commit(slot)?.time;
        if self.near.is_none() {
            self.near = Some(Walk::start(self.view.head_object().into_iter(), graph)?);
        }
        match &mut self.near {
            Some(near) => near.reaches(slot, time, graph),
            None => Ok(false),
        }
    }
}

/// Makes sure that trees and blobs are reachable; else names the first of `wanted` that is not.
///
/// Walks the trees of commits, the newest first, until all have been met. What a checkout needs is found in
/// the first trees; an object that is not reachable costs a walk over all trees of the history. All objects
/// of a request together cost one walk. Needs two bits for each object of the packs.
pub(crate) fn check_contents(view: &View, wanted: &[u64], graph: &mut Graph<'_>) -> Result<(), ServeError> {
    let mut missing = graph.no_slots();
    let mut left = wanted.iter().filter(|slot| missing.insert(**slot)).count();
    if left == 0 {
        return Ok(());
    }
    let mut walk = Walk::start(view.tips(), graph)?;
    let mut trees = TreeWalk::new(graph, &Filter::default(), Sparse::default());
    let others = std::mem::take(&mut walk.others);
    let mut met = |slot: u64| {
        left -= usize::from(missing.remove(slot));
        Ok(left > 0)
    };
    for slot in others {
        if !trees.object(graph, slot, Mark::Send, &mut met)? {
            return Ok(());
        }
    }
    while let Some((_, slot)) = walk.queue.pop() {
        let commit = graph.whole_commit(slot)?;
        if !trees.root(graph, &commit.tree, slot, Mark::Send, &mut met)? {
            return Ok(());
        }
        for parent in commit.parents {
            walk.add(parent, graph)?;
        }
    }
    match wanted.iter().find(|slot| missing.contains(**slot)) {
        Some(slot) => Err(ServeError::NotOurs(graph.id(*slot))),
        None => Ok(()),
    }
}
