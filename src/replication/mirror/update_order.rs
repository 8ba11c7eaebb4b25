//! Decides the order of updates, where one ref may take over commits that another ref is about to drop.
//!
//! If a target accepts one update and refuses another, the refused ref may need the old value of the updated one: the
//! copy would lose commits that the source still has. Such an update is undone. A ref that the target refused in the
//! last pass counts as lacking until it is confirmed, so that the next pass does not make and undo the same update
//! again.

use std::collections::HashSet;

use gix::bstr::BString;

use super::error::MirrorError;
use super::hold_back::needed_of;
use super::plan::Edit;
use super::pusher::Pusher;
use super::report::NoteKind;
use super::settle::Settlement;
use super::target::Atomicity;
use super::update::update_all;
use gitferry_git::receive_pack::Command;

/// Updates refs whose old values are not needed by refs that the target lacks (refused ones, and those in `waiting`).
/// The others keep their values.
pub(super) fn update_in_order(
    pusher: &mut Pusher<'_>,
    settlement: &mut Settlement<'_>,
    updates: Vec<Edit<'_>>,
    waiting: &HashSet<BString>,
) -> Result<(), MirrorError> {
    let (doubtful, others): (Vec<_>, Vec<_>) =
        updates.into_iter().partition(|edit| settlement.was_unconfirmed(edit.name.as_ref()));
    let mut lacking = waiting.clone();
    lacking.extend(doubtful.iter().map(|edit| edit.name.clone().into_owned()));
    let (free, held) = split_needed(pusher, settlement, others, &lacking)?;
    let mut moved = update_some(pusher, settlement, free)?;
    let doubtful = hold_back_moves(pusher, settlement, doubtful, waiting)?;
    moved.extend(update_some(pusher, settlement, doubtful)?);
    let freed = hold_back_moves(pusher, settlement, held, waiting)?;
    moved.extend(update_some(pusher, settlement, freed)?);
    undo_needed(pusher, settlement, &moved)
}

/// Pushes these updates; returns those that the target has accepted.
fn update_some<'e>(
    pusher: &mut Pusher<'_>,
    settlement: &mut Settlement<'_>,
    edits: Vec<Edit<'e>>,
) -> Result<Vec<Edit<'e>>, MirrorError> {
    update_all(pusher, settlement, edits.clone())?;
    let stayed = settlement.unconfirmed();
    Ok(edits.into_iter().filter(|edit| !stayed.contains(edit.name.as_ref())).collect())
}

/// Returns the edits that may go ahead. The others are settled as pending, and may be freed by the next pass.
fn hold_back_moves<'e>(
    pusher: &mut Pusher<'_>,
    settlement: &mut Settlement<'_>,
    edits: Vec<Edit<'e>>,
    waiting: &HashSet<BString>,
) -> Result<Vec<Edit<'e>>, MirrorError> {
    let supply = pusher.channel().supply();
    let Some(needed) = needed_of(supply, settlement, &edits, waiting)? else { return Ok(edits) };
    let (held, free): (Vec<_>, Vec<_>) = edits.into_iter().partition(|edit| needed.is_replaced_by(edit));
    for edit in held {
        settlement.hold_move(edit.name.as_ref(), needed.by());
    }
    Ok(free)
}

/// Splits edits into those whose old values are free, and those whose old values are needed.
fn split_needed<'e>(
    pusher: &mut Pusher<'_>,
    settlement: &Settlement<'_>,
    edits: Vec<Edit<'e>>,
    lacking: &HashSet<BString>,
) -> Result<(Vec<Edit<'e>>, Vec<Edit<'e>>), MirrorError> {
    let supply = pusher.channel().supply();
    let Some(needed) = needed_of(supply, settlement, &edits, lacking)? else { return Ok((edits, Vec::new())) };
    Ok(edits.into_iter().partition(|edit| !needed.is_replaced_by(edit)))
}

/// Restores old values that a ref needs which the target has refused in the meantime.
fn undo_needed(
    pusher: &mut Pusher<'_>,
    settlement: &mut Settlement<'_>,
    moved: &[Edit<'_>],
) -> Result<(), MirrorError> {
    let supply = pusher.channel().supply();
    let Some(needed) = needed_of(supply, settlement, moved, &HashSet::new())? else { return Ok(()) };
    let back: Vec<&Edit<'_>> = moved.iter().filter(|edit| needed.is_replaced_by(edit)).collect();
    let other = needed.by();
    for some in back.chunks(pusher.batch()) {
        let undo = |edit: &&Edit<'_>| Command { name: edit.name.clone().into_owned(), old: edit.new, new: edit.old };
        let commands: Vec<Command> = some.iter().map(undo).collect();
        let report = pusher.target_mut().push_empty(&commands, Atomicity::EachRef)?;
        for (edit, outcome) in some.iter().zip(report.refs) {
            match outcome.result {
                Ok(()) => settlement.undo(edit, other),
                Err(reason) => {
                    let old = edit.old.map_or_else(String::new, |old| old.to_string());
                    let reason =
                        format!("{other} needs its old value {old}, which the target refuses to restore: {reason}");
                    settlement.note(edit.name.as_ref(), NoteKind::Refused, reason);
                }
            }
        }
    }
    Ok(())
}
