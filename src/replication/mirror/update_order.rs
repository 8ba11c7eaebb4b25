//! Decides the order of updates, where one ref may take over commits that another ref is about to drop.
//!
//! If a target accepts one update and refuses another, the refused ref may need the old value of the updated one: the
//! copy would lose commits that the source still has. Such an update is undone. A ref that the target refused in the
//! last pass counts as lacking until it is confirmed, so that the next pass does not make and undo the same update
//! again.

use std::collections::HashSet;

use gix::bstr::{BStr, BString};

use super::error::MirrorError;
use super::pass::MirrorPass;
use super::plan::Edit;
use super::report::NoteKind;
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::RefValue;

impl MirrorPass<'_, '_> {
    /// Updates refs whose old values are not needed by refs that the target lacks (refused ones, and those in
    /// `waiting`). The others keep their values.
    pub(super) fn move_all(&mut self, updates: Vec<Edit<'_>>, waiting: &HashSet<BString>) -> Result<(), MirrorError> {
        let checkpoint = self.task.checkpoint;
        let was_refused = |name: &BStr| checkpoint.is_some_and(|last| last.is_unconfirmed(name));
        let (doubtful, others): (Vec<_>, Vec<_>) =
            updates.into_iter().partition(|edit| was_refused(edit.name.as_ref()));
        let mut lacking = waiting.clone();
        lacking.extend(doubtful.iter().map(|edit| edit.name.clone().into_owned()));
        let (free, held) = self.split_needed(others, &lacking)?;
        let mut moved = self.move_some(free)?;
        let doubtful = self.hold_back_moves(doubtful, waiting)?;
        moved.extend(self.move_some(doubtful)?);
        let freed = self.hold_back_moves(held, waiting)?;
        moved.extend(self.move_some(freed)?);
        self.undo_needed(&moved)
    }

    /// Pushes these updates; returns those that the target has accepted.
    fn move_some<'e>(&mut self, edits: Vec<Edit<'e>>) -> Result<Vec<Edit<'e>>, MirrorError> {
        self.update_all(edits.clone())?;
        let stayed: HashSet<&BString> = self.unconfirmed.iter().collect();
        Ok(edits.into_iter().filter(|edit| !stayed.contains(&edit.name.clone().into_owned())).collect())
    }

    /// Returns the edits that may go ahead. The others are noted as pending, and may be freed later in the pass.
    fn hold_back_moves<'e>(
        &mut self,
        edits: Vec<Edit<'e>>,
        waiting: &HashSet<BString>,
    ) -> Result<Vec<Edit<'e>>, MirrorError> {
        let old = edits.iter().filter(|edit| !edit.diverged).filter_map(|edit| edit.old).collect::<Vec<_>>();
        let Some((needed, example)) = self.needed(&old, waiting)? else { return Ok(edits) };
        let (held, free): (Vec<_>, Vec<_>) =
            edits.into_iter().partition(|edit| !edit.diverged && edit.old.is_some_and(|old| needed.contains(&old)));
        for edit in held {
            self.note_stays(edit.name.as_ref(), example.as_ref());
            self.held_moves.push(edit.name.into_owned());
        }
        Ok(free)
    }

    /// Splits edits into those whose old values are free, and those whose old values are needed.
    fn split_needed<'e>(
        &mut self,
        edits: Vec<Edit<'e>>,
        lacking: &HashSet<BString>,
    ) -> Result<(Vec<Edit<'e>>, Vec<Edit<'e>>), MirrorError> {
        let old = edits.iter().filter(|edit| !edit.diverged).filter_map(|edit| edit.old).collect::<Vec<_>>();
        let Some((needed, _)) = self.needed(&old, lacking)? else { return Ok((edits, Vec::new())) };
        let is_free = |edit: &Edit<'_>| edit.diverged || edit.old.is_none_or(|old| !needed.contains(&old));
        Ok(edits.into_iter().partition(is_free))
    }

    /// Restores old values that a ref needs which the target has refused in the meantime.
    fn undo_needed(&mut self, moved: &[Edit<'_>]) -> Result<(), MirrorError> {
        let old = moved.iter().filter(|edit| !edit.diverged).filter_map(|edit| edit.old).collect::<Vec<_>>();
        let Some((needed, example)) = self.needed(&old, &HashSet::new())? else { return Ok(()) };
        let is_needed = |edit: &&Edit<'_>| !edit.diverged && edit.old.is_some_and(|old| needed.contains(&old));
        let back: Vec<&Edit<'_>> = moved.iter().filter(is_needed).collect();
        for some in back.chunks(self.task.limits.refs_per_push.max(1)) {
            let undo =
                |edit: &&Edit<'_>| Command { name: edit.name.clone().into_owned(), old: edit.new, new: edit.old };
            let commands: Vec<Command> = some.iter().map(undo).collect();
            let report = self.push_empty(&commands)?;
            for (edit, outcome) in some.iter().zip(report.refs) {
                match outcome.result {
                    Ok(()) => self.note_undone(edit, example.as_ref()),
                    Err(reason) => {
                        let old = edit.old.map_or_else(String::new, |old| old.to_string());
                        let reason = format!(
                            "{example} needs its old value {old}, which the target refuses to restore: {reason}"
                        );
                        self.outcome.notes.add(edit.name.as_ref(), NoteKind::Refused, reason);
                    }
                }
            }
        }
        Ok(())
    }

    fn note_undone(&mut self, edit: &Edit<'_>, other: &BStr) {
        let old = edit.old.map(RefValue::Object);
        let new = edit.new.map(RefValue::Object);
        self.target_hash.edit(edit.name.as_ref(), new.as_ref(), old.as_ref());
        debug_assert!(self.outcome.updated > 0, "an update that is undone was counted");
        self.outcome.updated = self.outcome.updated.saturating_sub(1);
        self.moved.push((edit.name.clone().into_owned(), edit.old));
        self.note_stays(edit.name.as_ref(), other);
        self.held_moves.push(edit.name.clone().into_owned());
    }
}
