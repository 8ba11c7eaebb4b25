//! Settles the edits of a pass by the target's reports, and writes the checkpoint.
//!
//! Every edit of a plan ends exactly once: the target accepts it, the target refuses it, or the ref stays as it is and
//! the report has the reason. The checkpoint is written only when all edits have ended, since it confirms every ref that
//! it does not list as unconfirmed.

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice as _};

use super::checkpoint::Checkpoint;
use super::error::MirrorError;
use super::plan::{Edit, Plan, Preserve};
use super::policy::RefPolicy;
use super::report::{MirrorOutcome, NoteKind};
use super::target::Target;
use gitferry_engine::ledger::hash::RefsDigest;
use gitferry_git::client::PushReport;
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::RefName;

/// Most moved refs that are passed to the checkpoint, and most refused refs that are compared again.
const MAX_REMEMBERED: usize = 1_000;

/// Results of a pass: the report for people, and the facts for the checkpoint.
pub(super) struct Settlement<'p> {
    outcome: &'p mut MirrorOutcome,
    /// Result of the last complete pass.
    last: Option<&'p Checkpoint>,
    /// Number of edits of the plan that have not ended.
    open: usize,
    /// Names of the edits that have ended; kept in debug builds only.
    ended: HashSet<BString>,
    /// Confirmed new values of refs, for the checkpoint.
    moved: Vec<(BString, Option<ObjectId>)>,
    /// Commands that the target has refused.
    refused: Vec<Command>,
    /// Refs whose values at the target are not known to come from the source.
    unconfirmed: Vec<BString>,
    /// Refs that keep values which gitferry has pushed, until the target accepts other refs.
    held_moves: Vec<BString>,
    /// Error of the first batch that was refused in the end.
    batch_refusal: Option<MirrorError>,
}

impl<'p> Settlement<'p> {
    /// Nothing is settled yet. `last` is the result of the last complete pass.
    pub fn new(outcome: &'p mut MirrorOutcome, last: Option<&'p Checkpoint>) -> Self {
        Settlement {
            outcome,
            last,
            open: 0,
            ended: HashSet::new(),
            moved: Vec::new(),
            refused: Vec::new(),
            unconfirmed: Vec::new(),
            held_moves: Vec::new(),
            batch_refusal: None,
        }
    }

    /// The report of the pass.
    pub fn outcome(&mut self) -> &mut MirrorOutcome {
        self.outcome
    }

    /// Records a diverged tip that the target keeps under another name.
    pub fn add_preserved(&mut self, kept: &Preserve) {
        self.outcome.preserved += 1;
        let reason = format!("{} was made at the target; it is kept as {}", kept.id, kept.name);
        self.outcome.notes.add(kept.of.as_bstr(), NoteKind::Preserved, reason);
    }

    /// Opens the edits of a plan, and takes over its notes.
    pub fn begin(&mut self, plan: &mut Plan<'_>) {
        assert_eq!(self.open, 0, "a pass has one plan");
        self.open = plan.edits.len() + plan.deletions.len();
        self.outcome.notes.append(std::mem::take(&mut plan.skipped));
        self.unconfirmed.append(&mut plan.unconfirmed);
    }

    /// Records that an edit of the plan has come to its end.
    fn end(&mut self, name: &BStr) {
        assert!(self.open > 0, "{name}: an edit is settled once, and only if it is part of the plan");
        self.open -= 1;
        if cfg!(debug_assertions) {
            assert!(self.ended.insert(name.to_owned()), "{name}: an edit is settled once");
        }
    }

    /// Settles a batch by the target's report.
    pub fn settle(&mut self, target: &Target<'_>, edits: &[Edit<'_>], report: PushReport) {
        assert_eq!(report.refs.len(), edits.len(), "a report has one outcome per edit");
        let refuses = report.refs.iter().any(|outcome| outcome.result.is_err());
        for message in &report.messages {
            tracing::debug!(target = target.url(), "remote: {message}");
            // Servers often state the reason of a refusal only in a message of the sideband.
            if refuses && ["error", "fatal"].iter().any(|word| message.to_lowercase().contains(word)) {
                self.outcome.remark(&format!("the target says: {message}"));
            }
        }
        for (edit, outcome) in edits.iter().zip(report.refs) {
            assert_eq!(edit.name.as_ref(), outcome.name.as_bstr(), "outcomes are in the order of the edits");
            match outcome.result {
                Ok(()) => self.add_done(edit),
                Err(reason) => {
                    self.add_refused(edit.name.as_ref(), &reason);
                    if self.refused.len() < MAX_REMEMBERED {
                        self.refused.push(edit.command());
                    }
                }
            }
        }
    }

    fn add_done(&mut self, edit: &Edit<'_>) {
        self.end(edit.name.as_ref());
        match (edit.old, edit.new) {
            (_, None) => self.outcome.deleted += 1,
            (None, Some(_)) => self.outcome.created += 1,
            (Some(_), Some(_)) => self.outcome.updated += 1,
        }
        self.add_moved(edit.name.as_ref(), edit.new);
    }

    fn add_refused(&mut self, name: &BStr, reason: &str) {
        self.end(name);
        self.outcome.refused += 1;
        self.outcome.notes.add(name, NoteKind::Refused, reason);
        self.unconfirmed.push(name.to_owned());
    }

    /// Settles a batch that the target refuses as a whole, for example because of its objects.
    pub fn refuse_batch(&mut self, edits: &[Edit<'_>], error: MirrorError) {
        let reason = match &error {
            MirrorError::Unpack { reason, .. } => reason.clone(),
            error => error.to_string(),
        };
        for edit in edits {
            self.add_refused(edit.name.as_ref(), &reason);
        }
        self.batch_refusal = self.batch_refusal.take().or(Some(error));
    }

    /// Settles an edit that is not made in this pass, with the reason. The ref is unconfirmed.
    pub fn leave(&mut self, name: &BStr, reason: impl Into<String>) {
        self.end(name);
        self.outcome.notes.add(name, NoteKind::Pending, reason);
        self.unconfirmed.push(name.to_owned());
    }

    /// Settles an edit that has to wait until the target has the ref `other`. The ref is unconfirmed.
    pub fn leave_needed(&mut self, name: &BStr, other: &BStr) {
        self.leave(name, needed_by(other));
    }

    /// Settles an update that has to wait until the target has the ref `other`. The ref keeps a value that gitferry has
    /// pushed.
    pub fn hold_move(&mut self, name: &BStr, other: &BStr) {
        self.end(name);
        self.add_held_move(name, other);
    }

    fn add_held_move(&mut self, name: &BStr, other: &BStr) {
        self.outcome.notes.add(name, NoteKind::Pending, needed_by(other));
        self.held_moves.push(name.to_owned());
    }

    fn add_moved(&mut self, name: &BStr, id: Option<ObjectId>) {
        // Refs of the last checkpoint are recorded beyond the limit, so that no stale value of theirs survives.
        if self.moved.len() < MAX_REMEMBERED || self.last.is_some_and(|last| last.has_recent(name)) {
            self.moved.push((name.to_owned(), id));
        }
    }

    /// Records the value that a ref has again, in the place of the value that the ref had in between: the checkpoint
    /// keeps only the first moves, and would keep the value in between.
    fn set_moved(&mut self, name: &BStr, id: Option<ObjectId>) {
        match self.moved.iter_mut().find(|(moved, _)| moved == name) {
            Some((_, recorded)) => *recorded = id,
            None => self.add_moved(name, id),
        }
    }

    /// Takes back an update that was settled as made: the ref has its old value again, which the ref `other` needs.
    pub fn undo(&mut self, edit: &Edit<'_>, other: &BStr) {
        assert!(self.outcome.updated > 0, "{}: an update that is undone was counted", edit.name);
        self.outcome.updated -= 1;
        self.set_moved(edit.name.as_ref(), edit.old);
        self.add_held_move(edit.name.as_ref(), other);
    }

    /// Takes back a deletion: the ref has its old value again, which the ref `other` needs. `counted` is true if the
    /// deletion was settled as made in this pass.
    pub fn restore(&mut self, name: &BStr, id: ObjectId, counted: bool, other: &BStr) {
        if counted {
            assert!(self.outcome.deleted > 0, "{name}: a deletion that is taken back was counted");
            self.outcome.deleted -= 1;
        }
        self.set_moved(name, Some(id));
        self.outcome.notes.add(name, NoteKind::Pending, needed_by(other));
        self.unconfirmed.push(name.to_owned());
    }

    /// Adds a note on an edit that has ended.
    pub fn note(&mut self, name: &BStr, kind: NoteKind, reason: String) {
        self.outcome.notes.add(name, kind, reason);
    }

    /// Returns true if the last pass could not make this ref equal to the source's.
    pub fn was_unconfirmed(&self, name: &BStr) -> bool {
        self.last.is_some_and(|last| last.is_unconfirmed(name))
    }

    /// Refs whose values at the target are not known to come from the source.
    pub fn unconfirmed(&self) -> HashSet<&BStr> {
        self.unconfirmed.iter().map(|name| name.as_bstr()).collect()
    }

    /// Refs of the target that lack the source's value by now.
    pub fn lacking(&self) -> impl Iterator<Item = &BString> {
        self.unconfirmed.iter().chain(&self.held_moves)
    }

    /// Fails with [`MirrorError::Moved`], which is worth another attempt, if a refused ref no longer has its old value:
    /// then another client has moved it during the pass.
    pub fn check_refused(&self, target: &mut Target<'_>) -> Result<(), MirrorError> {
        if self.refused.is_empty() {
            return Ok(());
        }
        match target.moved_meanwhile(&self.refused)?.as_slice() {
            [] => Ok(()),
            [first, rest @ ..] => {
                let refs = if rest.is_empty() { first.clone() } else { format!("{first} and {} more", rest.len()) };
                Err(MirrorError::Moved { target_url: target.url().into(), refs })
            }
        }
    }

    /// Fails with the first refusal if the target has accepted nothing in this pass: then the target fails, and not
    /// single refs.
    pub fn fail_if_nothing_taken(&mut self) -> Result<(), MirrorError> {
        match self.batch_refusal.take() {
            Some(error) if !self.outcome.has_changed() => Err(error),
            _ => Ok(()),
        }
    }

    /// Builds the checkpoint for the next pass; `None` if it equals the last one. `source` is the digest of the source's
    /// refs, `head` the branch that the target's `HEAD` has settled on.
    pub fn checkpoint(
        self,
        policy: &RefPolicy,
        source: RefsDigest,
        target: &Target<'_>,
        head: Option<RefName>,
    ) -> Option<Checkpoint> {
        assert_eq!(self.open, 0, "every edit of a plan ends before the checkpoint");
        let mut checkpoint = Checkpoint {
            policy: policy.fingerprint().into(),
            source,
            target: target.digest(),
            head: head.map(|branch| branch.to_string()),
            ..Checkpoint::default()
        };
        checkpoint.set_unconfirmed(&self.unconfirmed);
        let (missing, pointers) = &self.outcome.lfs_missing;
        checkpoint.set_missing(pointers, *missing);
        let before = target.refs_before();
        let left = |name: &BStr| match self.moved.iter().find(|(moved, _)| moved == name) {
            Some((_, id)) => *id,
            None => before.find(name).and_then(|entry| before.object(&entry)),
        };
        checkpoint.set_recent(self.last, &self.moved, left);
        for command in &self.refused {
            let name = command.name.as_bstr();
            assert!(!checkpoint.has_value(name, command.new), "{name}: the checkpoint has a value that was refused");
        }
        Some(checkpoint).filter(|checkpoint| Some(checkpoint) != self.last)
    }
}

fn needed_by(other: &BStr) -> String {
    format!("it stays until the target has {other}, the only other ref with some of its commits")
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn id(byte: u8) -> ObjectId {
        ObjectId::from_bytes_or_panic(&[byte; 20])
    }

    fn edit(name: &str, old: Option<u8>, new: Option<u8>) -> Edit<'static> {
        let name = format!("refs/heads/{name}");
        Edit { name: Cow::Owned(name.into()), old: old.map(id), new: new.map(id), diverged: false }
    }

    /// Settles edits of which the first one is taken back, among more refs than a checkpoint keeps values of.
    #[test]
    fn a_value_that_is_taken_back_is_not_in_the_checkpoint() {
        for (old, new) in [(Some(1), Some(2)), (Some(1), None)] {
            let first = edit("first", old, new);
            let others = (0..200).map(|n| edit(&n.to_string(), Some(3), Some(4)));
            let edits: Vec<_> = [first.clone()].into_iter().chain(others).collect();
            let mut plan = Plan { edits: edits.clone(), ..Plan::default() };
            let mut outcome = MirrorOutcome::default();
            let mut settlement = Settlement::new(&mut outcome, None);
            settlement.begin(&mut plan);
            edits.iter().for_each(|edit| settlement.add_done(edit));
            match new {
                Some(_) => settlement.undo(&first, "refs/heads/other".into()),
                None => settlement.restore(first.name.as_ref(), id(1), true, "refs/heads/other".into()),
            }
            let mut checkpoint = Checkpoint::default();
            checkpoint.set_recent(None, &settlement.moved, |_| None);
            assert!(checkpoint.has_value(first.name.as_ref(), first.old), "{:?}", checkpoint.recent);
            assert_eq!((settlement.outcome.updated, settlement.outcome.deleted), (200, 0));
            assert_eq!(settlement.open, 0);
        }
    }

    #[test]
    #[should_panic(expected = "an edit is settled once")]
    fn an_edit_that_is_settled_twice_is_a_fault() {
        let edits = [edit("a", None, Some(1)), edit("b", None, Some(1))];
        let mut plan = Plan { edits: edits.to_vec(), ..Plan::default() };
        let mut outcome = MirrorOutcome::default();
        let mut settlement = Settlement::new(&mut outcome, None);
        settlement.begin(&mut plan);
        settlement.add_done(&edits[0]);
        settlement.leave(edits[0].name.as_ref(), "it stays");
    }
}
