//! Finding out what client and server have in common.

use gix::ObjectId;
use gix::objs::Kind;

use super::commits::all_reach;
use super::error::ServeError;
use super::graph::Graph;
use super::reachable::Reachable;
use super::slots::SlotSet;
use super::wants::Wants;
use crate::git::view::View;

/// What is known to be common.
pub(crate) struct Negotiation<'v> {
    pub(crate) reachable: Reachable<'v>,
    /// Common commits in the order in which the client named them.
    pub(crate) common: Vec<u64>,
    marks: SlotSet,
    oldest: i64,
    /// Whether the client is told of objects that no ref reaches.
    tells_all: bool,
    /// The answer of [`Negotiation::is_ready`], and how many common commits it was given for.
    ready: (usize, bool),
}

impl<'v> Negotiation<'v> {
    pub(crate) fn new(view: &'v View, graph: &Graph<'_>, tells_all: bool) -> Self {
        let (reachable, marks) = (Reachable::new(view), graph.no_slots());
        Negotiation { reachable, common: Vec::new(), marks, oldest: i64::MAX, tells_all, ready: (0, false) }
    }

    /// Whether an object that the client has is common. That it lies in a pack is not enough: a client must
    /// not learn of objects that no visible ref reaches. One that may is told, but what such an object needs may not be
    /// here, so that nothing is concluded from it.
    pub(crate) fn have(&mut self, id: &ObjectId, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        let Some(slot) = graph.slot(id) else { return Ok(false) };
        if !matches!(graph.kind(slot)?, Kind::Commit | Kind::Tag) || !self.reachable.contains(id, slot, graph)? {
            return Ok(self.tells_all);
        }
        if let (commit, Kind::Commit) = graph.peel(slot, |_| {})?
            && self.marks.insert(commit)
        {
            self.oldest = self.oldest.min(graph.commit(commit)?.time);
            self.common.push(commit);
        }
        Ok(true)
    }

    /// Whether more haves would hardly make the pack smaller: every want reaches something common.
    pub(crate) fn is_ready(&mut self, wants: &Wants, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        if self.common.is_empty() || !wants.only_commits {
            return Ok(false);
        }
        if self.ready.0 != self.common.len() && !self.ready.1 {
            let ready = all_reach(graph, &wants.commits, &self.marks, self.oldest)?;
            self.ready = (self.common.len(), ready);
        }
        Ok(self.ready.1)
    }
}
