//! Creating, updating and deleting refs in batches, so that what one ref brings stops no other.
//!
//! A target that finds one bad object, or whose hook declines one ref, refuses all of a push. What was refused as a whole
//! is parted in the middle until those that are refused are alone. Refs that were refused the last time go last, by
//! themselves: from then on they cost the others nothing.

use gix::bstr::BStr;

use super::error::RemotesError;
use super::plan::Edit;
use super::relay::Relay;
use super::report::Outcome;
use gitferry_git::client::PushReport;
use gitferry_git::receive_pack::Command;

/// How often a pass parts what was refused: enough to find one ref among as many as a push may name, and bounded, as
/// each half is sent again.
const MAX_PARTINGS: u32 = 20;
/// What Git says of each ref when a hook has declined the push.
const DECLINED: &str = "hook declined";

impl Relay<'_, '_> {
    /// Creates and updates refs.
    pub(super) fn update_all(&mut self, edits: Vec<Edit<'_>>) -> Result<(), RemotesError> {
        let checkpoint = self.task.checkpoint;
        let was_refused = |name: &BStr| checkpoint.is_some_and(|last| last.leaves_unconfirmed(name));
        let (last, first): (Vec<_>, Vec<_>) = edits.into_iter().partition(|edit| was_refused(edit.name.as_ref()));
        let batch = self.task.limits.refs_per_push.max(1);
        first.chunks(batch).chain(last.chunks(batch)).try_for_each(|edits| self.update(edits))
    }

    /// Whether some refs that were refused as a whole may be parted once more.
    pub(super) fn may_part(&mut self, refs: usize) -> bool {
        let may = refs > 1 && self.partings < MAX_PARTINGS;
        self.partings += u32::from(may);
        may
    }

    /// One batch: at once, or in parts where the target refuses it as a whole.
    pub(super) fn update(&mut self, edits: &[Edit<'_>]) -> Result<(), RemotesError> {
        let refused = match self.push_edits(edits) {
            Err(error) if error.is_of_some_refs() => Err(error),
            Ok(report) if edits.len() > 1 && declines_all(&report) => Ok(report),
            Ok(report) => {
                self.settle(edits, report);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if self.may_part(edits.len()) {
            tracing::info!(target = self.target.url(), refs = edits.len(), "refused as a whole: it goes in parts");
            let (some, others) = edits.split_at(edits.len() / 2);
            self.update(some)?;
            return self.update(others);
        }
        match refused {
            Ok(report) => self.settle(edits, report),
            Err(error) => self.leave_refused(edits, error),
        }
        Ok(())
    }

    /// Creates and updates some refs with one pack.
    pub(super) fn push_edits(&mut self, edits: &[Edit<'_>]) -> Result<PushReport, RemotesError> {
        let commands: Vec<Command> = edits.iter().map(Edit::command).collect();
        let wants = self.held.wants(edits);
        match wants.is_empty() {
            true if edits.iter().all(|edit| edit.new.is_none()) => self.push(&commands, None),
            true => self.push_moves(&commands),
            false => {
                let haves = self.haves(edits, &wants)?;
                self.relay_all(&commands, &wants, haves)
            }
        }
    }

    /// The same in one step, where the target offers that.
    pub(super) fn push_edits_atomically(&mut self, edits: &[Edit<'_>]) -> Result<PushReport, RemotesError> {
        self.atomic = true;
        let pushed = self.push_edits(edits);
        self.atomic = false;
        pushed
    }

    /// The target takes none of what these refs need.
    pub(super) fn leave_refused(&mut self, edits: &[Edit<'_>], error: RemotesError) {
        let reason = match &error {
            RemotesError::Unpack { reason, .. } => reason.clone(),
            error => error.to_string(),
        };
        for edit in edits {
            self.carried.refused += 1;
            self.carried.notes.add(edit.name.as_ref(), Outcome::Refused, reason.as_str());
            self.unconfirmed.push(edit.name.clone().into_owned());
        }
        self.refused_whole = self.refused_whole.take().or(Some(error));
    }

    /// A target that has taken nothing at all is one that fails, not one that refuses some refs.
    pub(super) fn judge_refused(&mut self) -> Result<(), RemotesError> {
        match self.refused_whole.take() {
            Some(error) if !self.carried.has_changed() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether a hook has declined the push, and not single refs of it.
pub(super) fn declines_all(report: &PushReport) -> bool {
    let mut reasons = report.refs.iter().map(|outcome| outcome.result.as_ref().err());
    let first = reasons.next().flatten();
    first.is_some_and(|first| first.contains(DECLINED) && reasons.all(|reason| reason == Some(first)))
}
