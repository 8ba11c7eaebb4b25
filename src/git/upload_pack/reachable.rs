//! Reachability from visible refs, which decides what clients may fetch and learn about.

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

/// Answers reachability queries for commits and tags with an incremental walk, newest commit first.
///
/// A reachable commit costs a walk from the refs back to its age; an unreachable one costs a walk over all commits.
/// Each query resumes the walk of the last one, so all queries of a request cost one walk of the history at most.
/// Memory: one bit per object of the packs and walk.
pub(crate) struct Reachable<'v> {
    view: &'v View,
    /// Walk from `HEAD` alone, tried first: it answers nearly all queries, and starting from many refs is slow.
    from_head: Option<Walk>,
    /// Walk from all refs, started by the first query that `from_head` cannot answer.
    from_refs: Option<Walk>,
}

struct Walk {
    seen: SlotSet,
    queue: Queue,
    /// Trees and blobs that tips name, directly or through tags.
    others: Vec<u64>,
}

impl Walk {
    fn start(tips: impl Iterator<Item = ObjectId>, graph: &mut Graph<'_>) -> Result<Self, ServeError> {
        let mut walk = Walk { seen: graph.empty_set(), queue: Queue::default(), others: Vec::new() };
        for id in tips {
            // Only recent tips may be missing, if they were collected since. Targets of current refs exist.
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

    /// Resumes the walk until `slot` is found; false once all remaining commits are older than `oldest`.
    fn reaches(&mut self, slot: u64, oldest: i64, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        while !self.seen.contains(slot) {
            if self.queue.newest().is_none_or(|newest| newest < oldest) {
                return Ok(false);
            }
            let Some((_, next)) = self.queue.pop() else { return Ok(false) };
            for parent in graph.unshallow_commit(next)?.parents {
                self.add(parent, graph)?;
            }
        }
        Ok(true)
    }

    fn add(&mut self, slot: u64, graph: &mut Graph<'_>) -> Result<(), ServeError> {
        if self.seen.insert(slot) {
            let time = graph.unshallow_commit(slot)?.time;
            self.queue.push(time, slot);
        }
        Ok(())
    }
}

impl<'v> Reachable<'v> {
    pub(crate) fn new(view: &'v View) -> Self {
        Reachable { view, from_head: None, from_refs: None }
    }

    /// Returns true if a tip reaches the commit or tag.
    pub(crate) fn contains(&mut self, id: &ObjectId, slot: u64, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        if self.view.is_tip(id) {
            return Ok(true);
        }
        if self.is_reached_from_head(slot, graph)? {
            return Ok(true);
        }
        if self.from_refs.is_none() {
            self.from_refs = Some(Walk::start(self.view.tips(), graph)?);
        }
        match &mut self.from_refs {
            Some(walk) => walk.reaches(slot, i64::MIN, graph),
            None => Ok(false),
        }
    }

    /// Returns true if `HEAD` reaches a commit through commits that are not older. False proves nothing.
    fn is_reached_from_head(&mut self, slot: u64, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        if graph.kind(slot)? != Kind::Commit {
            return Ok(false);
        }
        let time = graph.unshallow_commit(slot)?.time;
        if self.from_head.is_none() {
            self.from_head = Some(Walk::start(self.view.head_object().into_iter(), graph)?);
        }
        match &mut self.from_head {
            Some(walk) => walk.reaches(slot, time, graph),
            None => Ok(false),
        }
    }
}

/// Checks that tips reach all wanted trees and blobs. Fails with [`ServeError::NotOurs`] for the first of `wanted`
/// that no tip reaches.
///
/// Walks the trees of commits, newest first, until all wanted objects are found. Objects of a recent checkout are in
/// the first trees; an unreachable object costs a walk over all trees of the history. All objects of a request share
/// one walk. Memory: a few bits per object of the packs.
pub(crate) fn check_contents(view: &View, wanted: &[u64], graph: &mut Graph<'_>) -> Result<(), ServeError> {
    let mut missing = graph.empty_set();
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
        let commit = graph.unshallow_commit(slot)?;
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
