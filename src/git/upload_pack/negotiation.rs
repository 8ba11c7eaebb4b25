//! Finding out what client and server have in common.

use gix::ObjectId;
use gix::objs::Kind;

use super::error::ServeError;
use super::graph::Graph;
use super::reachable::Reachable;
use super::readiness::Readiness;
use super::slots::SlotSet;
use super::wants::Wants;
use crate::view::View;

/// Objects known to be common.
pub(crate) struct Negotiation<'v> {
    pub(crate) reachable: Reachable<'v>,
    /// Common commits in the order in which the client named them, those behind tags included.
    pub(crate) common: Vec<u64>,
    /// Objects that the client has named and that were found common.
    known: SlotSet,
    /// Objects that the client has named and that were not.
    unknown: SlotSet,
    readiness: Readiness,
    /// Whether anything is common.
    any: bool,
    /// Whether the client is told of objects that no ref reaches.
    tells_all: bool,
}

impl<'v> Negotiation<'v> {
    pub(crate) fn new(view: &'v View, graph: &Graph<'_>, tells_all: bool) -> Self {
        Negotiation {
            reachable: Reachable::new(view),
            common: Vec::new(),
            known: graph.no_slots(),
            unknown: graph.no_slots(),
            readiness: Readiness::new(graph),
            any: false,
            tells_all,
        }
    }

    /// Whether an object that the client has is common. That it lies in a pack is not enough: a client must
    /// not learn of objects that no visible ref reaches. One that may is told, but what such an object needs may not be
    /// here, so that nothing is concluded from it.
    ///
    /// An object that takes too much work to find out about is answered as one that is not here.
    pub(crate) fn have(&mut self, id: &ObjectId, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        let Some(slot) = graph.slot(id) else { return Ok(false) };
        if !self.known.contains(slot) && !self.unknown.contains(slot) {
            let common = match graph.metered(|graph| self.look(id, slot, graph)) {
                Err(ServeError::TooMuchWork) => false,
                looked => looked?,
            };
            if common {
                self.known.insert(slot)
            } else {
                self.unknown.insert(slot)
            };
            self.any |= common;
        }
        Ok(self.tells_all || self.known.contains(slot))
    }

    fn look(&mut self, id: &ObjectId, slot: u64, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        if !matches!(graph.kind(slot)?, Kind::Commit | Kind::Tag) || !self.reachable.contains(id, slot, graph)? {
            return Ok(false);
        }
        let (target, kind) = graph.peel(slot, |_| {})?;
        if kind == Kind::Commit {
            // Git, too, concludes nothing about readiness from tags.
            if target == slot {
                self.readiness.hold(slot, &graph.commit(slot)?);
            }
            self.common.push(target);
        }
        Ok(true)
    }

    /// Whether more haves would hardly make the pack smaller: every wanted commit reaches something common. Wanted
    /// trees and blobs do not matter, since nothing can be said of them.
    pub(crate) fn is_ready(&mut self, wants: &Wants, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        if !self.any {
            return Ok(false);
        }
        match graph.metered(|graph| self.readiness.all_reach(&wants.commits, graph)) {
            Err(ServeError::TooMuchWork) => Ok(false),
            ready => ready,
        }
    }
}
