//! Pushes a plan: at once where the target commits a push in one step, or in stages. Nothing is deleted before the
//! refs that may replace it are confirmed.

use std::collections::HashSet;

use super::at_once::push_at_once;
use super::error::MirrorError;
use super::head::{Followed, HeadFollower};
use super::hold_back::hold_back;
use super::name_conflicts::AsideRefs;
use super::plan::Plan;
use super::push_order::Stages;
use super::pusher::Pusher;
use super::settle::Settlement;
use super::update::{update_all, update_batches};
use super::update_order::update_in_order;

/// Pushes a plan, and removes what the pass has kept at the target only for its own use. Returns true if `HEAD` needs no
/// more.
pub(super) fn push_plan(
    pusher: &mut Pusher<'_>,
    settlement: &mut Settlement<'_>,
    head: &HeadFollower<'_>,
    plan: Plan<'_>,
) -> Result<bool, MirrorError> {
    if head.comes_with_push()
        && let Some(head_settled) = push_at_once(pusher, settlement, head, &plan)?
    {
        return Ok(head_settled);
    }
    let head_settled = push_in_stages(pusher, settlement, head, plan)?;
    pusher.delete_slices()?;
    settlement.check_refused(pusher.target_mut())?;
    settlement.fail_if_nothing_taken()?;
    Ok(head_settled)
}

/// Creates, updates, replaces, lets `HEAD` follow, and deletes. Returns true if `HEAD` needs no more.
fn push_in_stages(
    pusher: &mut Pusher<'_>,
    settlement: &mut Settlement<'_>,
    head: &HeadFollower<'_>,
    mut plan: Plan<'_>,
) -> Result<bool, MirrorError> {
    let wanted_branch = head.wanted_branch(&plan, pusher.target());
    let current = head.undeletable().and_then(|branch| plan.take_deletion_of(branch));
    let stages = Stages::of(plan.edits, plan.deletions);
    let waiting = stages.waiting();
    let aside = AsideRefs::load(pusher.target(), stages.created());
    let Stages { creations, updates, replacements, mut deletions } = stages;
    update_all(pusher, settlement, creations)?;
    update_in_order(pusher, settlement, updates, &waiting)?;
    aside.replace_all(pusher, settlement, replacements)?;
    let followed = head.follow(wanted_branch, pusher.target(), settlement)?;
    match current {
        Some(edit) if followed == Followed::Set => deletions.push(edit),
        Some(edit) => head.keep_current_branch(&edit, settlement),
        None => {}
    }
    let deletions = hold_back(pusher.channel().supply(), settlement, deletions, &HashSet::new())?;
    update_batches(pusher, settlement, &deletions)?;
    Ok(followed != Followed::NotYet)
}
