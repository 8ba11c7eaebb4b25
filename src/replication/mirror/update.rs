//! Creates, updates and deletes refs in batches, so that one refused ref does not stop the others.
//!
//! A target that finds one bad object, or whose hook declines one ref, refuses the whole push. A refused batch is
//! bisected until the refused refs are alone. Refs that the last pass could not push go last, in batches of their own,
//! and cost the others nothing from then on.

use gix::bstr::BStr;

use super::error::MirrorError;
use super::pass::MirrorPass;
use super::plan::Edit;
use super::report::NoteKind;
use gitferry_git::client::PushReport;
use gitferry_git::receive_pack::Command;

/// Most bisections of one pass: enough to find one ref among as many as a push may name, and bounded because each half
/// is sent again.
const MAX_BISECTIONS: u32 = 20;
/// Text of Git's per-ref status when a hook has declined the push.
const DECLINED: &str = "hook declined";

impl MirrorPass<'_, '_> {
    /// Creates and updates refs.
    pub(super) fn update_all(&mut self, edits: Vec<Edit<'_>>) -> Result<(), MirrorError> {
        let checkpoint = self.task.checkpoint;
        let was_refused = |name: &BStr| checkpoint.is_some_and(|last| last.is_unconfirmed(name));
        let (last, first): (Vec<_>, Vec<_>) = edits.into_iter().partition(|edit| was_refused(edit.name.as_ref()));
        let batch = self.task.limits.refs_per_push.max(1);
        first.chunks(batch).chain(last.chunks(batch)).try_for_each(|edits| self.update(edits))
    }

    /// Counts one more bisection; returns false if the batch is a single ref, or the pass has used up
    /// [`MAX_BISECTIONS`].
    pub(super) fn may_bisect(&mut self, refs: usize) -> bool {
        let may = refs > 1 && self.bisections < MAX_BISECTIONS;
        self.bisections += u32::from(may);
        may
    }

    /// Pushes one batch, bisecting it while the target refuses the whole push.
    pub(super) fn update(&mut self, edits: &[Edit<'_>]) -> Result<(), MirrorError> {
        let refused = match self.push_edits(edits) {
            Err(error) if error.is_batch_refusal() => Err(error),
            Ok(report) if edits.len() > 1 && declines_all(&report) => Ok(report),
            Ok(report) => {
                self.settle(edits, report);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if self.may_bisect(edits.len()) {
            tracing::info!(
                target = self.target.url(),
                refs = edits.len(),
                "the target refuses the whole push: bisecting it"
            );
            let (one, other) = edits.split_at(edits.len() / 2);
            self.update(one)?;
            return self.update(other);
        }
        match refused {
            Ok(report) => self.settle(edits, report),
            Err(error) => self.note_batch_refused(edits, error),
        }
        Ok(())
    }

    /// Pushes some edits with one pack.
    pub(super) fn push_edits(&mut self, edits: &[Edit<'_>]) -> Result<PushReport, MirrorError> {
        let commands: Vec<Command> = edits.iter().map(Edit::command).collect();
        let wants = self.target_objects.wants(edits);
        if !wants.is_empty() {
            let haves = self.haves(edits, &wants)?;
            return self.fetch_and_push_or_slice(&commands, &wants, haves);
        }
        if edits.iter().all(|edit| edit.new.is_none()) {
            return self.push(&commands, None);
        }
        self.push_moves(&commands)
    }

    /// Pushes some edits atomically. The target has to support that.
    pub(super) fn push_edits_atomically(&mut self, edits: &[Edit<'_>]) -> Result<PushReport, MirrorError> {
        self.atomic = true;
        let pushed = self.push_edits(edits);
        self.atomic = false;
        pushed
    }

    /// Records that the target refuses the objects of these refs.
    pub(super) fn note_batch_refused(&mut self, edits: &[Edit<'_>], error: MirrorError) {
        let reason = match &error {
            MirrorError::Unpack { reason, .. } => reason.clone(),
            error => error.to_string(),
        };
        for edit in edits {
            self.outcome.refused += 1;
            self.outcome.notes.add(edit.name.as_ref(), NoteKind::Refused, reason.as_str());
            self.unconfirmed.push(edit.name.clone().into_owned());
        }
        self.batch_refusal = self.batch_refusal.take().or(Some(error));
    }

    /// Fails with the first refusal if the target has accepted nothing in this pass: then the target fails, and not
    /// single refs.
    pub(super) fn fail_if_nothing_taken(&mut self) -> Result<(), MirrorError> {
        match self.batch_refusal.take() {
            Some(error) if !self.outcome.has_changed() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Returns true if a hook has declined the push as a whole, and not single refs.
pub(super) fn declines_all(report: &PushReport) -> bool {
    let mut reasons = report.refs.iter().map(|outcome| outcome.result.as_ref().err());
    let first = reasons.next().flatten();
    first.is_some_and(|first| first.contains(DECLINED) && reasons.all(|reason| reason == Some(first)))
}
