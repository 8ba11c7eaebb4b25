//! Walks over commits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::error::ServeError;
use super::graph::Graph;
use super::slots::SlotSet;

/// How many commits that the client has are looked at beyond the oldest one that is to be sent: clocks go
/// wrong, and what is not recognised as held is sent again.
const SLOP: usize = 64;

/// Commits waiting to be looked at, the newest first; those of one time in the order in which they came.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<(i64, Reverse<u64>, u64)>,
    count: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, time: i64, slot: u64) {
        self.count += 1;
        self.heap.push((time, Reverse(self.count), slot));
    }

    pub(crate) fn pop(&mut self) -> Option<(i64, u64)> {
        self.heap.pop().map(|(time, _, slot)| (time, slot))
    }

    /// The time of the next one.
    pub(crate) fn newest(&self) -> Option<i64> {
        self.heap.peek().map(|(time, ..)| *time)
    }
}

/// The commits that are reachable from some and not known to be from others.
pub(crate) struct Difference {
    /// Mostly the newest first.
    pub(crate) commits: Vec<u64>,
    /// Commits known to be reachable from the others. If clocks went wrong, not all of them.
    pub(crate) held: SlotSet,
}

/// Walks from `wanted` until `held` commits are reached. Looks at not much more than the difference.
pub(crate) fn difference(
    graph: &mut Graph<'_>,
    wanted: &[u64],
    held: &[u64],
    tick: &mut dyn FnMut(u64) -> Result<(), ServeError>,
) -> Result<Difference, ServeError> {
    let (seen, queued) = (graph.no_slots(), graph.no_slots());
    let mut painting = Painting { held: graph.no_slots(), graph, seen, queued, queue: Queue::default(), open: 0 };
    for slot in held {
        painting.hold(*slot)?;
    }
    for slot in wanted {
        painting.want(*slot)?;
    }
    let mut commits = Vec::new();
    let (mut oldest, mut slop) = (i64::MAX, SLOP);
    while let Some(newest) = painting.queue.newest() {
        if painting.open == 0 {
            let Some(left) = slop.checked_sub(usize::from(newest < oldest)) else { break };
            slop = left;
            if commits.is_empty() {
                break;
            }
        }
        if let Some((time, slot)) = painting.step()? {
            oldest = oldest.min(time);
            commits.push(slot);
            tick(commits.len() as u64)?;
        }
    }
    let held = painting.held;
    commits.retain(|slot| !held.contains(*slot));
    Ok(Difference { commits, held })
}

struct Painting<'g, 'a> {
    graph: &'g mut Graph<'a>,
    held: SlotSet,
    seen: SlotSet,
    queued: SlotSet,
    queue: Queue,
    /// How many commits in the queue are not held.
    open: u64,
}

impl Painting<'_, '_> {
    fn want(&mut self, slot: u64) -> Result<(), ServeError> {
        if self.seen.insert(slot) {
            let time = self.graph.commit(slot)?.time;
            self.queue.push(time, slot);
            self.queued.insert(slot);
            self.open += u64::from(!self.held.contains(slot));
        }
        Ok(())
    }

    /// Marks a commit as held. One that has been taken for wanted is looked at again, for its parents.
    fn hold(&mut self, slot: u64) -> Result<(), ServeError> {
        if !self.held.insert(slot) {
            return Ok(());
        }
        self.seen.insert(slot);
        if self.queued.contains(slot) {
            self.open -= 1;
            return Ok(());
        }
        let time = self.graph.commit(slot)?.time;
        self.queue.push(time, slot);
        self.queued.insert(slot);
        Ok(())
    }

    /// Looks at the newest commit; returns it unless it is held.
    fn step(&mut self) -> Result<Option<(i64, u64)>, ServeError> {
        let Some((time, slot)) = self.queue.pop() else { return Ok(None) };
        self.queued.remove(slot);
        let parents = self.graph.commit(slot)?.parents;
        if self.held.contains(slot) {
            parents.into_iter().try_for_each(|parent| self.hold(parent))?;
            return Ok(None);
        }
        self.open -= 1;
        parents.into_iter().try_for_each(|parent| self.want(parent))?;
        Ok(Some((time, slot)))
    }
}

/// Everything that is reachable from some commits.
pub(crate) fn closure(graph: &mut Graph<'_>, from: &[u64]) -> Result<SlotSet, ServeError> {
    let mut seen = graph.no_slots();
    let mut stack: Vec<u64> = from.iter().copied().filter(|slot| seen.insert(*slot)).collect();
    while let Some(slot) = stack.pop() {
        stack.extend(graph.commit(slot)?.parents.into_iter().filter(|parent| seen.insert(*parent)));
    }
    Ok(seen)
}
