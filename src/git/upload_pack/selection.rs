//! Object selection: the objects that wants reach and haves do not.

use gix::objs::Kind;

use super::commits::{closure, difference};
use super::error::ServeError;
use super::graph::Graph;
use super::slots::SlotSet;
use super::sparse::Sparse;
use super::trees::{Mark, TreeWalk};
use crate::protocol::Filter;
use crate::view::View;

/// Input of a selection; all objects by slot.
#[derive(Debug, Default)]
pub(crate) struct RevisionSpec {
    /// Wanted objects of any kind.
    pub(crate) wants: Vec<u64>,
    /// Commits that the client has, with everything they reach.
    pub(crate) haves: Vec<u64>,
    /// Edge commits: the client has their trees, but not necessarily their history.
    pub(crate) edges: Vec<u64>,
    /// True to mark the trees of all commits that the haves reach as held, instead of those at the edge only.
    pub(crate) thorough: bool,
    /// Pattern lists of `sparse:oid` filters.
    pub(crate) sparse: Sparse,
}

/// Most haves whose trees are read as edges in a shallow history.
const MAX_HELD_TREES: usize = 4096;

impl RevisionSpec {
    /// Adds common commits. In a shallow history the walk may not connect wants to haves, so the newest haves become
    /// edges as well. That keeps a fetch of depth 1 into a clone of depth 1 small.
    pub(crate) fn hold(&mut self, haves: Vec<u64>, graph: &mut Graph<'_>) -> Result<(), ServeError> {
        if graph.is_cut() {
            let mut by_time = Vec::new();
            for slot in &haves {
                by_time.push((graph.commit(*slot)?.time, *slot));
            }
            by_time.sort_unstable_by_key(|(time, _)| std::cmp::Reverse(*time));
            self.edges.extend(by_time.into_iter().take(MAX_HELD_TREES).map(|(_, slot)| slot));
        }
        self.haves.extend(haves);
        Ok(())
    }
}

/// Outcome of [`select`].
pub(crate) struct Selection {
    /// Objects to send.
    pub(crate) send: SlotSet,
    /// Objects that the client is known to have; a subset of what it has.
    pub(crate) held: SlotSet,
    /// Number of objects to send.
    pub(crate) count: u64,
}

/// Selects the objects that wants reach and that the client is not known to have.
///
/// Reads the commits and trees to send, plus the trees of edge commits; with `thorough`, all trees that haves reach.
/// Memory: a few bits per object of the packs and eight bytes per commit to send.
pub(crate) fn select(
    view: &View,
    graph: &mut Graph<'_>,
    spec: RevisionSpec,
    (filter, include_tag): (&Filter, bool),
    tick: &mut dyn FnMut(u64) -> Result<(), ServeError>,
) -> Result<Selection, ServeError> {
    let mut commits = Vec::new();
    let mut tags = Vec::new();
    let mut contents = Vec::new();
    // As in Git, the commit that a wanted tag peels to counts as wanted; a tree or blob does not.
    let mut wanted = graph.empty_set();
    for want in &spec.wants {
        let (target, kind) = graph.peel(*want, |tag| tags.push(tag))?;
        if kind == Kind::Commit {
            wanted.insert(target);
            commits.push(target);
        } else {
            contents.push((target, target != *want));
        }
    }
    let difference = difference(graph, &commits, &spec.haves, tick)?;
    let mut walk = TreeWalk::new(graph, filter, spec.sparse);
    walk.held = difference.held;
    if spec.thorough {
        hold_all(graph, &spec.haves, &mut walk)?;
    } else if !spec.haves.is_empty() || !spec.edges.is_empty() {
        hold_edges(graph, &difference.commits, &spec.edges, &mut walk)?;
    }
    let mut count = 0;
    let mut visit = |_| {
        count += 1;
        tick(count).map(|()| true)
    };
    for slot in tags {
        walk.commit_or_tag((slot, Kind::Tag), true, &mut visit)?;
    }
    for slot in &difference.commits {
        walk.commit_or_tag((*slot, Kind::Commit), wanted.contains(*slot), &mut visit)?;
    }
    for slot in &difference.commits {
        let tree = graph.commit(*slot)?.tree;
        walk.root(graph, &tree, *slot, Mark::Send, &mut visit)?;
    }
    for (slot, behind_tag) in contents {
        if behind_tag {
            walk.tagged(graph, slot, &mut visit)?;
        } else {
            walk.object(graph, slot, Mark::Send, &mut visit)?;
        }
    }
    let (mut send, held) = walk.finish();
    if include_tag {
        add_tags(view, graph, &mut send)?;
    }
    let count = send.len();
    Ok(Selection { send, held, count })
}

/// Marks the trees of edge commits as held: `more`, and held parents of the commits to send.
fn hold_edges(graph: &mut Graph<'_>, commits: &[u64], more: &[u64], walk: &mut TreeWalk) -> Result<(), ServeError> {
    let mut known = graph.empty_set();
    let mut edges: Vec<u64> = more.iter().copied().filter(|slot| known.insert(*slot)).collect();
    for slot in commits {
        let parents = graph.commit(*slot)?.parents;
        edges.extend(parents.into_iter().filter(|parent| walk.held.contains(*parent) && known.insert(*parent)));
    }
    for slot in edges {
        let tree = graph.commit(slot)?.tree;
        walk.root(graph, &tree, slot, Mark::Held, &mut |_| Ok(true))?;
    }
    Ok(())
}

/// Marks everything that the haves reach as held.
fn hold_all(graph: &mut Graph<'_>, haves: &[u64], walk: &mut TreeWalk) -> Result<(), ServeError> {
    let commits = closure(graph, haves)?;
    for slot in commits.iter() {
        walk.held.insert(slot);
        let tree = graph.commit(slot)?.tree;
        walk.root(graph, &tree, slot, Mark::Held, &mut |_| Ok(true))?;
    }
    Ok(())
}

/// Adds annotated tags whose peeled target is sent (`include-tag`).
fn add_tags(view: &View, graph: &mut Graph<'_>, send: &mut SlotSet) -> Result<(), ServeError> {
    let rows = view.refs.with_prefix(b"refs/tags/");
    for (row, target) in view.peeled_tags()?.from(rows.start).take_while(|(row, _)| *row < rows.end) {
        if graph.slot(&target).is_some_and(|slot| send.contains(slot)) {
            let tag = view.refs.get(row).and_then(|entry| entry.id).and_then(|id| graph.slot(id));
            if let Some(tag) = tag {
                graph.peel(tag, |tag| {
                    send.insert(tag);
                })?;
            }
        }
    }
    Ok(())
}
