//! [`Negotiation`]: determines which of the client's haves are common.

use gix::ObjectId;
use gix::objs::Kind;

use super::error::ServeError;
use super::graph::Graph;
use super::reachable::Reachable;
use super::readiness::Readiness;
use super::slots::SlotSet;
use super::wants::Wants;
use crate::view::View;

/// State of a negotiation.
pub(crate) struct Negotiation<'v> {
    pub(crate) reachable: Reachable<'v>,
    /// Common commits in the order of the haves; haves that are tags are peeled.
    pub(crate) common: Vec<u64>,
    /// Haves found to be common.
    known: SlotSet,
    /// Haves that exist but are not common.
    unknown: SlotSet,
    readiness: Readiness,
    any_common: bool,
    /// True to acknowledge every existing have, even if no ref reaches the object.
    acknowledge_all: bool,
}

impl<'v> Negotiation<'v> {
    pub(crate) fn new(view: &'v View, graph: &Graph<'_>, acknowledge_all: bool) -> Self {
        Negotiation {
            reachable: Reachable::new(view),
            common: Vec::new(),
            known: graph.empty_set(),
            unknown: graph.empty_set(),
            readiness: Readiness::new(graph),
            any_common: false,
            acknowledge_all,
        }
    }

    /// Returns true if the server acknowledges a have: a visible ref reaches the object. Existence in a pack is not
    /// enough, as clients must not learn of hidden objects. With `acknowledge_all`, every existing object is
    /// acknowledged, but unreachable ones do not become common: objects that they refer to may be missing.
    ///
    /// Haves past the work limit are answered as unknown.
    pub(crate) fn have(&mut self, id: &ObjectId, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        let Some(slot) = graph.slot(id) else { return Ok(false) };
        if !self.known.contains(slot) && !self.unknown.contains(slot) {
            let common = match graph.metered(|graph| self.check(id, slot, graph)) {
                Err(ServeError::TooMuchWork) => false,
                checked => checked?,
            };
            if common {
                self.known.insert(slot)
            } else {
                self.unknown.insert(slot)
            };
            self.any_common |= common;
        }
        Ok(self.acknowledge_all || self.known.contains(slot))
    }

    /// Returns true if a visible ref reaches a commit or tag, and records the commit as common.
    fn check(&mut self, id: &ObjectId, slot: u64, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        if !matches!(graph.kind(slot)?, Kind::Commit | Kind::Tag) || !self.reachable.contains(id, slot, graph)? {
            return Ok(false);
        }
        let (target, kind) = graph.peel(slot, |_| {})?;
        if kind == Kind::Commit {
            // As in Git, tags do not count towards readiness.
            if target == slot {
                self.readiness.hold(slot, &graph.commit(slot)?);
            }
            self.common.push(target);
        }
        Ok(true)
    }

    /// Returns true if every wanted commit reaches a common one, so that more haves would hardly shrink the pack.
    /// Wanted trees and blobs are ignored: they have no history.
    pub(crate) fn is_ready(&mut self, wants: &Wants, graph: &mut Graph<'_>) -> Result<bool, ServeError> {
        if !self.any_common {
            return Ok(false);
        }
        match graph.metered(|graph| self.readiness.all_reach(&wants.commits, graph)) {
            Err(ServeError::TooMuchWork) => Ok(false),
            ready => ready,
        }
    }
}
