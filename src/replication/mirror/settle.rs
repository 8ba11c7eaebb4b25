//! Takes in the results of pushes, and writes the checkpoint.

use gix::bstr::{BStr, ByteSlice as _};

use super::checkpoint::Checkpoint;
use super::error::MirrorError;
use super::pass::MirrorPass;
use super::plan::Edit;
use super::report::NoteKind;
use gitferry_engine::ledger::hash::RefsDigest;
use gitferry_git::client::PushReport;
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::{RefName, RefValue};

/// Most moved refs that are passed to the checkpoint, and most refused refs that are compared again.
const MAX_REMEMBERED: usize = 1_000;

impl MirrorPass<'_, '_> {
    /// Takes in the report on a batch.
    pub(super) fn settle(&mut self, edits: &[Edit<'_>], report: PushReport) {
        assert_eq!(report.refs.len(), edits.len(), "a report has one outcome per command");
        debug_assert!(
            edits.iter().zip(&report.refs).all(|(edit, outcome)| edit.name.as_ref() == outcome.name.as_bstr()),
            "the outcomes of a report are in the order of its commands"
        );
        let refuses = report.refs.iter().any(|outcome| outcome.result.is_err());
        for message in &report.messages {
            tracing::debug!(target = self.target.url(), "remote: {message}");
            // Servers often state the reason of a refusal only in a message of the sideband.
            if refuses && ["error", "fatal"].iter().any(|word| message.to_lowercase().contains(word)) {
                self.outcome.remark(&format!("the target says: {message}"));
            }
        }
        for (edit, outcome) in edits.iter().zip(report.refs) {
            match outcome.result {
                Ok(()) => self.record_done(edit),
                Err(reason) => {
                    self.outcome.refused += 1;
                    self.outcome.notes.add(edit.name.as_ref(), NoteKind::Refused, reason);
                    self.unconfirmed.push(edit.name.clone().into_owned());
                    if self.refused.len() < MAX_REMEMBERED {
                        self.refused.push(edit.command());
                    }
                }
            }
        }
    }

    fn record_done(&mut self, edit: &Edit<'_>) {
        let old = edit.old.map(RefValue::Object);
        let new = edit.new.map(RefValue::Object);
        self.target_hash.edit(edit.name.as_ref(), old.as_ref(), new.as_ref());
        match (edit.old, edit.new) {
            (_, None) => self.outcome.deleted += 1,
            (None, Some(_)) => self.outcome.created += 1,
            (Some(_), Some(_)) => self.outcome.updated += 1,
        }
        if let Some(new) = edit.new {
            self.target_objects.add(new);
            if self.aside.iter().any(|aside| aside.is_of(edit.name.as_ref())) {
                self.came_back.insert(edit.name.clone().into_owned());
            }
        }
        self.head_branch_created |=
            edit.new.is_some() && self.wanted_head.as_ref().is_some_and(|head| head.as_bstr() == edit.name.as_ref());
        // Refs of the last checkpoint are recorded beyond the limit, so that no stale value of theirs survives.
        if self.moved.len() < MAX_REMEMBERED || self.task.checkpoint.is_some_and(|last| last.has_recent(&edit.name)) {
            self.moved.push((edit.name.clone().into_owned(), edit.new));
        }
    }

    /// Fails with [`MirrorError::Moved`], which is worth another attempt, if a refused ref no longer has its old value:
    /// then another client has moved it during the pass.
    pub(super) fn check_refused(&mut self) -> Result<(), MirrorError> {
        if self.refused.is_empty() {
            return Ok(());
        }
        let unmoved = |command: &Command| Command { name: command.name.clone(), old: None, new: command.old };
        let commands: Vec<Command> = self.refused.iter().map(unmoved).collect();
        let report = self.receive.confirm(&commands)?;
        let moved: Vec<String> = report
            .refs
            .iter()
            .filter(|outcome| outcome.result.is_err())
            .map(|outcome| outcome.name.to_string())
            .collect();
        match moved.as_slice() {
            [] => Ok(()),
            [first, rest @ ..] => {
                let refs = if rest.is_empty() { first.clone() } else { format!("{first} and {} more", rest.len()) };
                Err(MirrorError::Moved { target_url: self.target.url().into(), refs })
            }
        }
    }

    /// Builds the checkpoint for the next pass; `None` if it equals the last one.
    pub(super) fn checkpoint(self, source: RefsDigest, head: Option<RefName>) -> Option<Checkpoint> {
        let before = self.task.checkpoint;
        let mut checkpoint = Checkpoint {
            policy: self.task.policy.fingerprint().into(),
            source,
            target: self.target_hash.digest(),
            head: head.map(|branch| branch.to_string()),
            ..Checkpoint::default()
        };
        checkpoint.set_unconfirmed(&self.unconfirmed);
        let (missing, pointers) = &self.outcome.lfs_missing;
        checkpoint.set_missing(pointers, *missing);
        let left = |name: &BStr| match self.moved.iter().rfind(|(moved, _)| moved == name) {
            Some((_, id)) => *id,
            None => self.target_refs.refs.find(name).and_then(|entry| self.target_refs.refs.object(&entry)),
        };
        checkpoint.set_recent(before, &self.moved, left);
        Some(checkpoint).filter(|checkpoint| Some(checkpoint) != before)
    }
}
