//! Shallow clones: where history is cut off.

use std::io::{self, Write};

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::objs::Kind;

use super::commits::{Queue, closure};
use super::error::ServeError;
use super::graph::Graph;
use super::reachable::Reachable;
use super::selection::Ends;
use super::slots::SlotSet;
use crate::protocol::{Deepen, FetchRequest, PacketWriter};
use crate::view::View;

/// What the client is told about its history.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ShallowChange {
    /// Commits whose parents are not sent.
    pub(crate) shallow: Vec<ObjectId>,
    /// Commits whose parents the client lacked and is sent.
    pub(crate) unshallow: Vec<ObjectId>,
}

/// Commits by how far history goes.
struct Depths {
    /// Where history is cut off, in the order in which they are met.
    boundary: Vec<u64>,
    /// Commits whose parents are part of it.
    inner: SlotSet,
}

/// Decides where history is cut off, cuts the graph there, and adds what an unshallowed commit needs to
/// `ends`. Costs a walk over the commits within the depth; `deepen-not` one over all that is left out.
pub(crate) fn apply(
    view: &View,
    graph: &mut Graph<'_>,
    reachable: &mut Reachable<'_>,
    request: &FetchRequest,
    wanted: &[u64],
    ends: &mut Ends,
) -> Result<ShallowChange, ServeError> {
    let client = client_shallow(graph, &request.shallow)?;
    let mut change = ShallowChange::default();
    let depths = match &request.deepen {
        None => None,
        Some(Deepen::Depth(Deepen::WHOLE)) => {
            let mut inner = graph.no_slots();
            for (id, slot) in &client {
                if graph.metered(|graph| reachable.contains(id, *slot, graph))? {
                    inner.insert(*slot);
                }
            }
            Some(Depths { boundary: Vec::new(), inner })
        }
        Some(Deepen::Depth(depth)) => Some(by_depth(graph, wanted, *depth)?),
        Some(Deepen::Relative(more)) => {
            // As Git, from commits that refs reach now, not only a short while ago.
            let now = View { recent_tips: Default::default(), ..view.clone() };
            let mut reachable = Reachable::new(&now);
            let mut from = Vec::new();
            for (id, slot) in &client {
                if graph.metered(|graph| reachable.contains(id, *slot, graph))? {
                    from.push(*slot);
                }
            }
            Some(by_depth(graph, &from, more.saturating_add(1))?)
        }
        Some(Deepen::Commits { since, not }) => Some(by_commits(view, graph, wanted, *since, not)?),
    };
    let mut known = graph.no_slots();
    client.iter().for_each(|(_, slot)| {
        known.insert(*slot);
    });
    if let Some(Depths { boundary, inner }) = &depths {
        for slot in boundary.iter().filter(|slot| !inner.contains(**slot)) {
            if known.insert(*slot) {
                change.shallow.push(graph.id(*slot));
            }
            graph.cut(*slot);
        }
        for (id, slot) in client.iter().filter(|(_, slot)| inner.contains(*slot)) {
            change.unshallow.push(*id);
            ends.wants.extend(graph.whole_commit(*slot)?.parents);
            ends.edges.push(*slot);
            ends.haves.push(*slot);
        }
    }
    // Where the client's history ends, walks end too: it has nothing behind that, and what it is sent of it
    // has been wanted above.
    client.iter().for_each(|(_, slot)| graph.cut(*slot));
    Ok(change)
}

/// The commits that the client lacks the parents of, as far as they are here.
fn client_shallow(graph: &Graph<'_>, ids: &[ObjectId]) -> Result<Vec<(ObjectId, u64)>, ServeError> {
    let mut known = graph.no_slots();
    let mut client = Vec::new();
    for id in ids {
        let Some(slot) = graph.slot(id) else { continue };
        if graph.kind(slot)? == Kind::Commit && known.insert(slot) {
            client.push((*id, slot));
        }
    }
    Ok(client)
}

/// Cuts behind `depth` commits, the wanted ones included.
fn by_depth(graph: &mut Graph<'_>, wanted: &[u64], depth: u32) -> Result<Depths, ServeError> {
    let (mut seen, mut inner) = (graph.no_slots(), graph.no_slots());
    let mut level: Vec<u64> = wanted.iter().copied().filter(|slot| seen.insert(*slot)).collect();
    for _ in 1..depth {
        let mut next = Vec::new();
        for slot in level {
            inner.insert(slot);
            next.extend(graph.whole_commit(slot)?.parents.into_iter().filter(|parent| seen.insert(*parent)));
        }
        level = next;
        if level.is_empty() {
            break;
        }
    }
    // Git sends the last one first.
    level.reverse();
    Ok(Depths { boundary: level, inner })
}

/// Cuts where commits are too old or reachable from other refs.
fn by_commits(
    view: &View,
    graph: &mut Graph<'_>,
    wanted: &[u64],
    since: Option<i64>,
    not: &[BString],
) -> Result<Depths, ServeError> {
    let mut excluded = Vec::new();
    for name in not {
        let id = view.refs.expand(name.as_bstr()).and_then(|entry| view.refs.object(&entry));
        let slot = id.and_then(|id| graph.slot(&id)).ok_or_else(|| ServeError::UnknownExclusion(name.clone()))?;
        if let (commit, Kind::Commit) = graph.peel(slot, |_| {})? {
            excluded.push(commit);
        }
    }
    let excluded = closure(graph, &excluded)?;
    let (mut seen, mut inner) = (graph.no_slots(), graph.no_slots());
    // The newest first, as `git rev-list` lists them: the client is told in this order.
    let (mut order, mut queue) = (Vec::new(), Queue::default());
    let mut met = |slot: u64, graph: &mut Graph<'_>, queue: &mut Queue| match excluded.contains(slot) {
        false if seen.insert(slot) => graph.whole_commit(slot).map(|commit| queue.push(commit.time, slot)),
        _ => Ok(()),
    };
    wanted.iter().try_for_each(|slot| met(*slot, graph, &mut queue))?;
    while let Some((time, slot)) = queue.pop() {
        if since.is_none_or(|since| time >= since) {
            inner.insert(slot);
            order.push(slot);
            let parents = graph.whole_commit(slot)?.parents;
            parents.into_iter().try_for_each(|parent| met(parent, graph, &mut queue))?;
        }
    }
    if order.is_empty() {
        return Err(ServeError::NothingSelected);
    }
    let mut boundary = Vec::new();
    for slot in order {
        if graph.whole_commit(slot)?.parents.iter().any(|parent| !inner.contains(*parent)) {
            boundary.push(slot);
        }
    }
    boundary.iter().for_each(|slot| {
        inner.remove(*slot);
    });
    Ok(Depths { boundary, inner })
}

impl ShallowChange {
    /// Tells the client, in lines without a line break: libgit2 refuses longer ones.
    pub(crate) fn write<W: Write>(&self, out: &mut PacketWriter<W>) -> io::Result<()> {
        self.shallow.iter().try_for_each(|id| out.data(format!("shallow {id}").as_bytes()))?;
        self.unshallow.iter().try_for_each(|id| out.data(format!("unshallow {id}").as_bytes()))
    }
}
