//! Commit walks: the set difference between two histories, and the closure of one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::error::ServeError;
use super::graph::Graph;
use super::slots::SlotSet;

/// Number of held commits visited past the oldest commit to send, as in Git's `limit_list`. Tolerates clock skew:
/// commits not recognised as held are sent again.
const SLOP: usize = 64;

/// Priority queue of commits: newest first, in order of insertion among equal times.
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

    /// Time of the next commit.
    pub(crate) fn newest(&self) -> Option<i64> {
        self.heap.peek().map(|(time, ..)| *time)
    }
}

/// Commits that the wants reach and the haves do not: `git rev-list WANTS --not HAVES`.
pub(crate) struct Difference {
    /// Commits to send, newest first unless clocks are skewed.
    pub(crate) commits: Vec<u64>,
    /// Visited commits that the haves reach; with skewed clocks, possibly not all of them.
    pub(crate) held: SlotSet,
}

/// Walks back from `wanted` and `held` until only held commits remain. Visits few commits besides the difference.
pub(crate) fn difference(
    graph: &mut Graph<'_>,
    wanted: &[u64],
    held: &[u64],
    tick: &mut dyn FnMut(u64) -> Result<(), ServeError>,
) -> Result<Difference, ServeError> {
    let mut painting = Painting {
        held: graph.empty_set(),
        seen: graph.empty_set(),
        queued: graph.empty_set(),
        queue: Queue::default(),
        wanted_in_queue: 0,
        graph,
    };
    for slot in held {
        painting.hold(*slot)?;
    }
    for slot in wanted {
        painting.want(*slot)?;
    }
    let mut commits = Vec::new();
    let mut oldest = i64::MAX;
    let mut slop = SLOP;
    while let Some(newest) = painting.queue.newest() {
        if painting.wanted_in_queue == 0 {
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

/// Commits coloured as wanted or held, as in Git's `paint_down_to_common`.
struct Painting<'g, 'a> {
    graph: &'g mut Graph<'a>,
    held: SlotSet,
    seen: SlotSet,
    queued: SlotSet,
    queue: Queue,
    /// Number of commits in the queue that are not held.
    wanted_in_queue: u64,
}

impl Painting<'_, '_> {
    fn want(&mut self, slot: u64) -> Result<(), ServeError> {
        if self.seen.insert(slot) {
            let time = self.graph.commit(slot)?.time;
            self.queue.push(time, slot);
            self.queued.insert(slot);
            self.wanted_in_queue += u64::from(!self.held.contains(slot));
        }
        Ok(())
    }

    /// Marks a commit as held. A commit that was visited as wanted is queued again, so that its parents become held.
    fn hold(&mut self, slot: u64) -> Result<(), ServeError> {
        if !self.held.insert(slot) {
            return Ok(());
        }
        self.seen.insert(slot);
        if self.queued.contains(slot) {
            self.wanted_in_queue -= 1;
            return Ok(());
        }
        let time = self.graph.commit(slot)?.time;
        self.queue.push(time, slot);
        self.queued.insert(slot);
        Ok(())
    }

    /// Visits the newest commit of the queue; returns its time and slot unless the commit is held.
    fn step(&mut self) -> Result<Option<(i64, u64)>, ServeError> {
        let Some((time, slot)) = self.queue.pop() else { return Ok(None) };
        self.queued.remove(slot);
        let parents = self.graph.commit(slot)?.parents;
        if self.held.contains(slot) {
            parents.into_iter().try_for_each(|parent| self.hold(parent))?;
            return Ok(None);
        }
        self.wanted_in_queue -= 1;
        parents.into_iter().try_for_each(|parent| self.want(parent))?;
        Ok(Some((time, slot)))
    }
}

/// Returns all commits reachable from `from`, which is included.
pub(crate) fn closure(graph: &mut Graph<'_>, from: &[u64]) -> Result<SlotSet, ServeError> {
    let mut seen = graph.empty_set();
    let mut stack: Vec<u64> = from.iter().copied().filter(|slot| seen.insert(*slot)).collect();
    while let Some(slot) = stack.pop() {
        stack.extend(graph.commit(slot)?.parents.into_iter().filter(|parent| seen.insert(*parent)));
    }
    Ok(seen)
}
