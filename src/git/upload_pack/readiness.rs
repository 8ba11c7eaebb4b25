//! [`Readiness`]: decides when to send `ready` in a negotiation.

use std::collections::{BinaryHeap, HashMap};

use super::error::ServeError;
use super::graph::{Commit, Graph};
use super::slots::SlotSet;

/// End of a list in [`Children`].
const END: u32 = u32::MAX;

/// Incremental test that every wanted commit reaches a have: Git's `ok_to_give_up`.
///
/// The walk from the wanted commits resumes where the last query stopped, newest commit first, and visits none older
/// than the oldest have. When a visited commit becomes held, the result propagates along the visited edges back to its
/// descendants. All queries of a request thus read each commit once, and at most
/// [`WorkLimits::ready_commits`](super::WorkLimits); past that limit the answer is false.
pub(crate) struct Readiness {
    /// Haves and their parents.
    held: SlotSet,
    /// Visited commits that reach one of `held`.
    reaching: SlotSet,
    /// Commits that have been put into `queue`.
    seen: SlotSet,
    queue: BinaryHeap<Waiting>,
    children: Children,
    /// Wanted commits not yet known to reach a held one; `None` until the first query.
    unresolved: Option<Vec<u64>>,
    /// Time of the oldest have.
    oldest: i64,
    /// Commits that may still be read; `None` once the limit is exceeded.
    left: Option<u64>,
}

/// Commit whose parents have not been visited; ordered by time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    time: i64,
    slot: u64,
    parents: Vec<u64>,
}

/// Visited edges from parents to children: one linked list per parent, all in one vector.
#[derive(Default)]
struct Children {
    first: HashMap<u64, u32>,
    all: Vec<(u64, u32)>,
}

impl Children {
    fn add(&mut self, parent: u64, child: u64) {
        let Ok(at) = u32::try_from(self.all.len()) else { return };
        let next = self.first.insert(parent, at).unwrap_or(END);
        self.all.push((child, next));
    }

    fn of(&self, parent: u64) -> impl Iterator<Item = u64> + '_ {
        let mut at = self.first.get(&parent).copied().unwrap_or(END);
        std::iter::from_fn(move || {
            let (child, next) = *self.all.get(at as usize)?;
            at = next;
            Some(child)
        })
    }
}

impl Readiness {
    pub(crate) fn new(graph: &Graph<'_>) -> Self {
        Readiness {
            held: graph.empty_set(),
            reaching: graph.empty_set(),
            seen: graph.empty_set(),
            queue: BinaryHeap::new(),
            children: Children::default(),
            unresolved: None,
            oldest: i64::MAX,
            left: Some(graph.work_limits().ready_commits),
        }
    }

    /// Adds a have, and with it the parents of the commit.
    pub(crate) fn hold(&mut self, slot: u64, commit: &Commit) {
        self.oldest = self.oldest.min(commit.time);
        for slot in std::iter::once(slot).chain(commit.parents.iter().copied()) {
            if self.held.insert(slot) {
                self.propagate(slot);
            }
        }
    }

    /// Marks all visited descendants of a commit as reaching a held one.
    fn propagate(&mut self, slot: u64) {
        let mut stack = vec![slot];
        while let Some(slot) = stack.pop() {
            stack.extend(self.children.of(slot).filter(|child| self.reaching.insert(*child)));
        }
    }

    /// Returns true if each of `wanted` reaches a held commit. Every call must pass the same `wanted`.
    pub(crate) fn all_reach(&mut self, wanted: &[u64], graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        if self.unresolved.is_none() {
            let unresolved: Vec<u64> = wanted.iter().copied().filter(|slot| self.seen.insert(*slot)).collect();
            unresolved.iter().try_for_each(|slot| self.read(*slot, true, graph))?;
            self.unresolved = Some(unresolved);
        }
        while self.left.is_some() {
            let held = &self.held;
            let reaching = &self.reaching;
            let unresolved = self.unresolved.get_or_insert_default();
            while unresolved.pop_if(|slot| held.contains(*slot) || reaching.contains(*slot)).is_some() {}
            if unresolved.is_empty() {
                return Ok(true);
            }
            let may_reach = self.queue.peek().is_some_and(|next| next.time >= self.oldest);
            let Some(next) = may_reach.then(|| self.queue.pop()).flatten() else { return Ok(false) };
            self.walk(&next, graph)?;
        }
        Ok(false)
    }

    /// Visits the parents of a commit.
    fn walk(&mut self, commit: &Waiting, graph: &mut Graph<'_>) -> Result<(), ServeError> {
        for parent in &commit.parents {
            if self.held.contains(*parent) || self.reaching.contains(*parent) {
                if self.reaching.insert(commit.slot) {
                    self.propagate(commit.slot);
                }
                continue;
            }
            self.children.add(*parent, commit.slot);
            if self.seen.insert(*parent) {
                self.read(*parent, false, graph)?;
            }
        }
        Ok(())
    }

    /// Reads a commit and queues it. Wanted commits are visited regardless of their age.
    fn read(&mut self, slot: u64, wanted: bool, graph: &mut Graph<'_>) -> Result<(), ServeError> {
        self.left = self.left.and_then(|left| left.checked_sub(1));
        if self.left.is_some() {
            let Commit { time, parents, .. } = graph.commit(slot)?;
            let time = if wanted { i64::MAX } else { time };
            self.queue.push(Waiting { time, slot, parents });
        }
        Ok(())
    }
}
