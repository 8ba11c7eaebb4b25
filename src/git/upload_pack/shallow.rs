//! Shallow fetches: computes the shallow boundary and its change.

use std::io::{self, Write};

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::objs::Kind;

use super::commits::{Queue, closure};
use super::error::ServeError;
use super::graph::Graph;
use super::reachable::Reachable;
use super::selection::RevisionSpec;
use super::slots::SlotSet;
use crate::protocol::{Deepen, FetchRequest, PacketWriter};
use crate::view::View;

/// Change of the client's shallow boundary: the `shallow` and `unshallow` lines of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ShallowChange {
    /// New boundary commits: their parents are not sent.
    pub(crate) shallow: Vec<ObjectId>,
    /// Former boundary commits: the client lacked their parents and now receives them.
    pub(crate) unshallow: Vec<ObjectId>,
}

/// Commits within the requested depth.
struct Depths {
    /// Boundary commits in the order in which the walk found them.
    boundary: Vec<u64>,
    /// Commits whose parents are within the depth, too.
    inner: SlotSet,
}

/// Computes the shallow boundary, cuts the graph there, and adds the parents of unshallowed commits to `spec`.
/// Walks the commits within the depth; `deepen-not` also walks all excluded commits.
pub(crate) fn apply(
    view: &View,
    graph: &mut Graph<'_>,
    reachable: &mut Reachable<'_>,
    request: &FetchRequest,
    wanted: &[u64],
    spec: &mut RevisionSpec,
) -> Result<ShallowChange, ServeError> {
    let client = client_shallow(graph, &request.shallow)?;
    let mut change = ShallowChange::default();
    let depths = match &request.deepen {
        None => None,
        Some(Deepen::Depth(Deepen::WHOLE)) => {
            let mut inner = graph.empty_set();
            for slot in reached(graph, &client, reachable)? {
                inner.insert(slot);
            }
            Some(Depths { boundary: Vec::new(), inner })
        }
        Some(Deepen::Depth(depth)) => Some(by_depth(graph, wanted, *depth)?),
        Some(Deepen::Relative(more)) => {
            // As in Git, only from commits that current refs reach: recent tips do not count.
            let now = View { recent_tips: Default::default(), ..view.clone() };
            let from = reached(graph, &client, &mut Reachable::new(&now))?;
            Some(by_depth(graph, &from, more.saturating_add(1))?)
        }
        Some(Deepen::Commits { since, not }) => Some(by_commits(view, graph, wanted, *since, not)?),
    };
    let mut known = graph.empty_set();
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
            spec.wants.extend(graph.unshallow_commit(*slot)?.parents);
            spec.edges.push(*slot);
            spec.haves.push(*slot);
        }
    }
    // Walks stop at the client's own boundary: the client has nothing beyond it, and parents that it now receives
    // became wants above.
    client.iter().for_each(|(_, slot)| graph.cut(*slot));
    Ok(change)
}

/// Returns the boundary commits of the client that refs reach.
fn reached(
    graph: &mut Graph<'_>,
    client: &[(ObjectId, u64)],
    reachable: &mut Reachable<'_>,
) -> Result<Vec<u64>, ServeError> {
    let mut reached = Vec::new();
    for (id, slot) in client {
        if graph.metered(|graph| reachable.contains(id, *slot, graph))? {
            reached.push(*slot);
        }
    }
    Ok(reached)
}

/// Returns the client's boundary commits that exist in this repository, without duplicates.
fn client_shallow(graph: &Graph<'_>, ids: &[ObjectId]) -> Result<Vec<(ObjectId, u64)>, ServeError> {
    let mut known = graph.empty_set();
    let mut client = Vec::new();
    for id in ids {
        let Some(slot) = graph.slot(id) else { continue };
        if graph.kind(slot)? == Kind::Commit && known.insert(slot) {
            client.push((*id, slot));
        }
    }
    Ok(client)
}

/// Computes the boundary for `deepen`: `depth` counts commits, including the wanted ones.
fn by_depth(graph: &mut Graph<'_>, wanted: &[u64], depth: u32) -> Result<Depths, ServeError> {
    let mut seen = graph.empty_set();
    let mut inner = graph.empty_set();
    let mut level: Vec<u64> = wanted.iter().copied().filter(|slot| seen.insert(*slot)).collect();
    for _ in 1..depth {
        let mut next = Vec::new();
        for slot in level {
            inner.insert(slot);
            next.extend(graph.unshallow_commit(slot)?.parents.into_iter().filter(|parent| seen.insert(*parent)));
        }
        level = next;
        if level.is_empty() {
            break;
        }
    }
    // Git lists boundary commits in reverse order of the walk.
    level.reverse();
    Ok(Depths { boundary: level, inner })
}

/// Computes the boundary for `deepen-since` and `deepen-not`: excludes old commits and those that other refs reach.
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
    let mut seen = graph.empty_set();
    let mut inner = graph.empty_set();
    // The answer lists boundary commits newest first, in the order of `git rev-list`.
    let mut order = Vec::new();
    let mut queue = Queue::default();
    let mut enqueue = |slot: u64, graph: &mut Graph<'_>, queue: &mut Queue| {
        if !excluded.contains(slot) && seen.insert(slot) {
            queue.push(graph.unshallow_commit(slot)?.time, slot);
        }
        Ok::<_, ServeError>(())
    };
    wanted.iter().try_for_each(|slot| enqueue(*slot, graph, &mut queue))?;
    while let Some((time, slot)) = queue.pop() {
        if since.is_none_or(|since| time >= since) {
            inner.insert(slot);
            order.push(slot);
            let parents = graph.unshallow_commit(slot)?.parents;
            parents.into_iter().try_for_each(|parent| enqueue(parent, graph, &mut queue))?;
        }
    }
    if order.is_empty() {
        return Err(ServeError::NothingSelected);
    }
    let mut boundary = Vec::new();
    for slot in order {
        if graph.unshallow_commit(slot)?.parents.iter().any(|parent| !inner.contains(*parent)) {
            boundary.push(slot);
        }
    }
    boundary.iter().for_each(|slot| {
        inner.remove(*slot);
    });
    Ok(Depths { boundary, inner })
}

impl ShallowChange {
    /// Writes the `shallow` and `unshallow` lines, without line breaks: libgit2 rejects lines that end in one.
    pub(crate) fn write<W: Write>(&self, out: &mut PacketWriter<W>) -> io::Result<()> {
        self.shallow.iter().try_for_each(|id| out.data(format!("shallow {id}").as_bytes()))?;
        self.unshallow.iter().try_for_each(|id| out.data(format!("unshallow {id}").as_bytes()))
    }
}
