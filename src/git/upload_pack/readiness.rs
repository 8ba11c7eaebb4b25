//! Whether the client has said enough: every wanted commit reaches one that the client has.

use std::collections::{BinaryHeap, HashMap};

use super::error::ServeError;
use super::graph::{Commit, Graph};
use super::slots::SlotSet;

/// No further entry in [`Children`].
const END: u32 = u32::MAX;

/// Answers the question again and again while the client names more and more of its commits.
///
/// The walk from the wanted commits goes on where the last question left it, the newest commit first and none older
/// than the oldest one that the client has named. A commit that turns out to be at the client is found by way of the
/// walk's own edges, backwards. So all questions of a request together read each commit once, and no more commits
/// than the request's limit; beyond that the answer is that the client has not said enough.
pub(crate) struct Readiness {
    /// Commits at the client: those that it has named, and their parents.
    held: SlotSet,
    /// Commits from which one of `held` is reached.
    reaching: SlotSet,
    /// Commits that have been put into `frontier`.
    seen: SlotSet,
    frontier: BinaryHeap<Waiting>,
    children: Children,
    /// Wanted commits that may not reach anything yet; `None` until the first question.
    open: Option<Vec<u64>>,
    /// The time of the oldest commit that the client has named.
    oldest: i64,
    /// Commits that may still be read; `None` once there was one too many.
    left: Option<u64>,
}

/// A commit whose parents have not been looked at; ordered by time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    time: i64,
    slot: u64,
    parents: Vec<u64>,
}

/// The walked edges, from parents to children: a list in one vector for each parent.
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
            held: graph.no_slots(),
            reaching: graph.no_slots(),
            seen: graph.no_slots(),
            frontier: BinaryHeap::new(),
            children: Children::default(),
            open: None,
            oldest: i64::MAX,
            left: Some(graph.work_limits().ready_commits),
        }
    }

    /// Notes that the client has a commit. It then has its parents, too.
    pub(crate) fn hold(&mut self, slot: u64, commit: &Commit) {
        self.oldest = self.oldest.min(commit.time);
        for slot in std::iter::once(slot).chain(commit.parents.iter().copied()) {
            if self.held.insert(slot) {
                self.propagate(slot);
            }
        }
    }

    /// Notes that the children of a commit, as far as they have been walked, reach something that is held.
    fn propagate(&mut self, slot: u64) {
        let mut stack = vec![slot];
        while let Some(slot) = stack.pop() {
            stack.extend(self.children.of(slot).filter(|child| self.reaching.insert(*child)));
        }
    }

    /// Whether each of `wanted` reaches a commit that is held. To be called with the same ones every time.
    pub(crate) fn all_reach(&mut self, wanted: &[u64], graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        if self.open.is_none() {
            let open: Vec<u64> = wanted.iter().copied().filter(|slot| self.seen.insert(*slot)).collect();
            open.iter().try_for_each(|slot| self.read(*slot, true, graph))?;
            self.open = Some(open);
        }
        while self.left.is_some() {
            let (held, reaching) = (&self.held, &self.reaching);
            let open = self.open.get_or_insert_default();
            while open.pop_if(|slot| held.contains(*slot) || reaching.contains(*slot)).is_some() {}
            if open.is_empty() {
                return Ok(true);
            }
            let due = self.frontier.peek().is_some_and(|next| next.time >= self.oldest);
            let Some(next) = due.then(|| self.frontier.pop()).flatten() else { return Ok(false) };
            self.walk(&next, graph)?;
        }
        Ok(false)
    }

    /// Looks at the parents of a commit.
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

    /// Puts a commit into the frontier; a wanted one is walked whatever its age.
    fn read(&mut self, slot: u64, wanted: bool, graph: &mut Graph<'_>) -> Result<(), ServeError> {
        self.left = self.left.and_then(|left| left.checked_sub(1));
        if self.left.is_some() {
            let Commit { time, parents, .. } = graph.commit(slot)?;
            let time = if wanted { i64::MAX } else { time };
            self.frontier.push(Waiting { time, slot, parents });
        }
        Ok(())
    }
}
