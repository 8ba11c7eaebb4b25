//! Which objects are sent.

use gix::objs::Kind;

use super::commits::{closure, difference};
use super::error::ServeError;
use super::graph::Graph;
use super::slots::SlotSet;
use super::sparse::Sparse;
use super::trees::{Mark, TreeWalk};
use crate::protocol::Filter;
use crate::view::View;

/// What a selection starts from; everything by slot.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// What the client wants; each may be of any kind.
    pub(crate) wants: Vec<u64>,
    /// Commits that the client has with all they reach.
    pub(crate) haves: Vec<u64>,
    /// Commits whose trees the client has.
    pub(crate) edges: Vec<u64>,
    /// Whether the trees of all that the haves reach are looked at.
    pub(crate) thorough: bool,
    /// Lists of patterns of the filter.
    pub(crate) sparse: Sparse,
}

/// Most commits whose trees are looked at because the client has them, where history is cut off.
const MAX_HELD_TREES: usize = 4096;

impl Ends {
    /// Notes commits that the client has. Where history is cut off, walks may not get from them to what is wanted:
    /// their trees, the newest ones, are then known to be there all the same. That is what keeps a fetch of depth 1
    /// into a work folder of depth 1 small.
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

/// Objects to send.
pub(crate) struct Selection {
    pub(crate) send: SlotSet,
    /// Objects that the client is known to have; not all that it has.
    pub(crate) held: SlotSet,
    /// How many objects there are to send.
    pub(crate) count: u64,
}

/// Finds what is reachable from the wants and not known to be held by the client.
///
/// Costs as many reads as there are commits and trees to send, plus the trees of the commits at the edge, or of all that
/// the client has.
/// Memory: a few bits for each object of the packs and eight bytes for each commit that is sent.
pub(crate) fn select(
    view: &View,
    graph: &mut Graph<'_>,
    ends: Ends,
    (filter, include_tag): (&Filter, bool),
    tick: &mut dyn FnMut(u64) -> Result<(), ServeError>,
) -> Result<Selection, ServeError> {
    let (mut commits, mut tags, mut contents) = (Vec::new(), Vec::new(), Vec::new());
    // Git counts commits and tags behind a wanted tag as wanted, but not a tree or blob.
    let mut wanted = graph.no_slots();
    for want in &ends.wants {
        let (target, kind) = graph.peel(*want, |tag| tags.push(tag))?;
        if kind == Kind::Commit {
            wanted.insert(target);
            commits.push(target);
        } else {
            contents.push((target, target != *want));
        }
    }
    let difference = difference(graph, &commits, &ends.haves, tick)?;
    let mut walk = TreeWalk::new(graph, filter, ends.sparse);
    walk.held = difference.held;
    if ends.thorough {
        hold_all(graph, &ends.haves, &mut walk)?;
    } else if !ends.haves.is_empty() || !ends.edges.is_empty() {
        hold_edges(graph, &difference.commits, &ends.edges, &mut walk)?;
    }
    let mut count = 0;
    let mut visit = |_| {
        count += 1;
        tick(count).map(|()| true)
    };
    for slot in tags {
        walk.passing((slot, Kind::Tag), true, &mut visit)?;
    }
    for slot in &difference.commits {
        walk.passing((*slot, Kind::Commit), wanted.contains(*slot), &mut visit)?;
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

/// Marks the trees of commits that the client has and that what is sent builds on.
fn hold_edges(graph: &mut Graph<'_>, commits: &[u64], more: &[u64], walk: &mut TreeWalk) -> Result<(), ServeError> {
    let mut known = graph.no_slots();
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

/// Marks all that some commits reach.
fn hold_all(graph: &mut Graph<'_>, haves: &[u64], walk: &mut TreeWalk) -> Result<(), ServeError> {
    let commits = closure(graph, haves)?;
    for slot in commits.iter() {
        walk.held.insert(slot);
        let tree = graph.commit(slot)?.tree;
        walk.root(graph, &tree, slot, Mark::Held, &mut |_| Ok(true))?;
    }
    Ok(())
}

/// Adds the tags whose target is sent.
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
