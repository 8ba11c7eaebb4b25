//! What became of what was pushed, and what the next pass is told of it.

use gix::bstr::BStr;

use super::checkpoint::Checkpoint;
use super::error::RemotesError;
use super::plan::Edit;
use super::relay::Relay;
use super::report::Outcome;
use gitferry_engine::ledger::hash::RefsDigest;
use gitferry_git::client::PushReport;
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::{RefName, RefValue};

/// Most moved refs that a checkpoint is told of, and refused ones that are looked at again.
const MAX_REMEMBERED: usize = 1_000;

impl Relay<'_, '_> {
    /// Takes in what became of a batch.
    pub(super) fn settle(&mut self, edits: &[Edit<'_>], report: PushReport) {
        let refuses = report.refs.iter().any(|outcome| outcome.result.is_err());
        for message in &report.messages {
            tracing::debug!(target = self.target.url(), "remote: {message}");
            // Why it refuses is often said here alone.
            if refuses && ["error", "fatal"].iter().any(|word| message.to_lowercase().contains(word)) {
                self.carried.remark(&format!("the target says: {message}"));
            }
        }
        for (edit, outcome) in edits.iter().zip(report.refs) {
            match outcome.result {
                Ok(()) => self.settle_done(edit),
                Err(reason) => {
                    self.carried.refused += 1;
                    self.carried.notes.add(edit.name.as_ref(), Outcome::Refused, reason);
                    self.unconfirmed.push(edit.name.clone().into_owned());
                    if self.refused.len() < MAX_REMEMBERED {
                        self.refused.push(edit.command());
                    }
                }
            }
        }
    }

    fn settle_done(&mut self, edit: &Edit<'_>) {
        let (old, new) = (edit.old.map(RefValue::Object), edit.new.map(RefValue::Object));
        self.after.edit(edit.name.as_ref(), old.as_ref(), new.as_ref());
        match (edit.old, edit.new) {
            (_, None) => self.carried.deleted += 1,
            (None, Some(_)) => self.carried.created += 1,
            (Some(_), Some(_)) => self.carried.updated += 1,
        }
        if let Some(new) = edit.new {
            self.held.add(new);
            if self.aside.iter().any(|aside| aside.is_of(edit.name.as_ref())) {
                self.came_back.insert(edit.name.clone().into_owned());
            }
        }
        self.made_head |=
            edit.new.is_some() && self.wanted_head.as_ref().is_some_and(|head| head.as_bstr() == edit.name.as_ref());
        // What the checkpoint before tells of is told anew, however much else has moved.
        if self.moved.len() < MAX_REMEMBERED || self.task.checkpoint.is_some_and(|last| last.tells_of(&edit.name)) {
            self.moved.push((edit.name.clone().into_owned(), edit.new));
        }
    }

    /// What was refused because somebody else was faster is worth another attempt: that is when it no longer has the
    /// value that it had.
    pub(super) fn look_at_refused(&mut self) -> Result<(), RemotesError> {
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
                Err(RemotesError::Moved { target_url: self.target.url().into(), refs })
            }
        }
    }

    /// What the next pass is told.
    pub(super) fn checkpoint(self, source: RefsDigest, head: Option<RefName>) -> Option<Checkpoint> {
        let before = self.task.checkpoint;
        let mut checkpoint = Checkpoint {
            policy: self.task.policy.fingerprint().into(),
            source,
            target: self.after.digest(),
            head: head.map(|branch| branch.to_string()),
            ..Checkpoint::default()
        };
        checkpoint.set_unconfirmed(&self.unconfirmed);
        let (missing, pointers) = &self.carried.lfs_missing;
        checkpoint.set_missing(pointers, *missing);
        let left = |name: &BStr| match self.moved.iter().rfind(|(moved, _)| moved == name) {
            Some((_, id)) => *id,
            None => self.there.refs.find(name).and_then(|entry| self.there.refs.object(&entry)),
        };
        checkpoint.set_recent(before, &self.moved, left);
        Some(checkpoint).filter(|checkpoint| Some(checkpoint) != before)
    }
}
