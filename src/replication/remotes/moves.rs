//! Refs that are updated with each other: each may have what another one had.
//!
//! Where a target takes one update and refuses another, the refused ref may need the old value of the moved one: the
//! copy would lose commits that the source still has. Such a move is undone. A ref that the target refused in the last
//! pass counts as missing until it is confirmed, so that the next pass does not make and undo the same move again.

use std::collections::HashSet;

use gix::bstr::{BStr, BString};

use super::error::RemotesError;
use super::plan::Edit;
use super::relay::Relay;
use super::report::Outcome;
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::RefValue;

impl Relay<'_, '_> {
    /// Moves refs whose old values no ref needs that the target lacks: those that it has refused, and those that are
    /// `waiting`. The others stay.
    pub(super) fn move_all(&mut self, updates: Vec<Edit<'_>>, waiting: &HashSet<BString>) -> Result<(), RemotesError> {
        let checkpoint = self.task.checkpoint;
        let was_refused = |name: &BStr| checkpoint.is_some_and(|last| last.leaves_unconfirmed(name));
        let (doubtful, others): (Vec<_>, Vec<_>) =
            updates.into_iter().partition(|edit| was_refused(edit.name.as_ref()));
        let mut lacking = waiting.clone();
        lacking.extend(doubtful.iter().map(|edit| edit.name.clone().into_owned()));
        let (free, held) = self.part_needed(others, &lacking)?;
        let mut moved = self.move_some(free)?;
        let doubtful = self.hold_back_moves(doubtful, waiting)?;
        moved.extend(self.move_some(doubtful)?);
        let freed = self.hold_back_moves(held, waiting)?;
        moved.extend(self.move_some(freed)?);
        self.undo_needed(&moved)
    }

    /// Those that have moved, where others did not.
    fn move_some<'e>(&mut self, edits: Vec<Edit<'e>>) -> Result<Vec<Edit<'e>>, RemotesError> {
        self.update_all(edits.clone())?;
        let stayed: HashSet<&BString> = self.unconfirmed.iter().collect();
        Ok(edits.into_iter().filter(|edit| !stayed.contains(&edit.name.clone().into_owned())).collect())
    }

    /// Takes out the edits whose old values are needed, and notes that they stay.
    fn hold_back_moves<'e>(
        &mut self,
        edits: Vec<Edit<'e>>,
        waiting: &HashSet<BString>,
    ) -> Result<Vec<Edit<'e>>, RemotesError> {
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

    /// Those whose old values nothing needs that the target lacks, and the others.
    fn part_needed<'e>(
        &mut self,
        edits: Vec<Edit<'e>>,
        lacking: &HashSet<BString>,
    ) -> Result<(Vec<Edit<'e>>, Vec<Edit<'e>>), RemotesError> {
        let old = edits.iter().filter(|edit| !edit.diverged).filter_map(|edit| edit.old).collect::<Vec<_>>();
        let Some((needed, _)) = self.needed(&old, lacking)? else { return Ok((edits, Vec::new())) };
        let is_free = |edit: &Edit<'_>| edit.diverged || edit.old.is_none_or(|old| !needed.contains(&old));
        Ok(edits.into_iter().partition(is_free))
    }

    /// Gives refs their old values again where a ref needs them that the target has refused meanwhile.
    fn undo_needed(&mut self, moved: &[Edit<'_>]) -> Result<(), RemotesError> {
        let old = moved.iter().filter(|edit| !edit.diverged).filter_map(|edit| edit.old).collect::<Vec<_>>();
        let Some((needed, example)) = self.needed(&old, &HashSet::new())? else { return Ok(()) };
        let is_needed = |edit: &&Edit<'_>| !edit.diverged && edit.old.is_some_and(|old| needed.contains(&old));
        let back: Vec<&Edit<'_>> = moved.iter().filter(is_needed).collect();
        for some in back.chunks(self.task.limits.refs_per_push.max(1)) {
            let undo =
                |edit: &&Edit<'_>| Command { name: edit.name.clone().into_owned(), old: edit.new, new: edit.old };
            let commands: Vec<Command> = some.iter().map(undo).collect();
            let report = self.push_empty(&commands)?;
            for (edit, told) in some.iter().zip(report.refs) {
                match told.result {
                    Ok(()) => self.note_undone(edit, example.as_ref()),
                    Err(reason) => {
                        let old = edit.old.map_or_else(String::new, |old| old.to_string());
                        let reason =
                            format!("it was {old}, which {example} needs, and cannot be set back to it: {reason}");
                        self.carried.notes.add(edit.name.as_ref(), Outcome::Refused, reason);
                    }
                }
            }
        }
        Ok(())
    }

    fn note_undone(&mut self, edit: &Edit<'_>, other: &BStr) {
        let (old, new) = (edit.old.map(RefValue::Object), edit.new.map(RefValue::Object));
        self.after.edit(edit.name.as_ref(), new.as_ref(), old.as_ref());
        self.carried.updated = self.carried.updated.saturating_sub(1);
        self.moved.push((edit.name.clone().into_owned(), edit.old));
        self.note_stays(edit.name.as_ref(), other);
        self.held_moves.push(edit.name.clone().into_owned());
    }
}
