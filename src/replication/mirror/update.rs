//! Creates, updates and deletes refs in batches, so that one refused ref does not stop the others.
//!
//! A target that finds one bad object, or whose hook declines one ref, refuses the whole push. A refused batch is
//! bisected until the refused refs are alone. Refs that the last pass could not push go last, in batches of their own,
//! and cost the others nothing from then on.

use super::error::MirrorError;
use super::plan::Edit;
use super::pusher::{Pusher, declines_all};
use super::settle::Settlement;
use super::target::Atomicity;

/// Creates and updates refs.
pub(super) fn update_all(
    pusher: &mut Pusher<'_>,
    settlement: &mut Settlement<'_>,
    edits: Vec<Edit<'_>>,
) -> Result<(), MirrorError> {
    let (last, first): (Vec<_>, Vec<_>) =
        edits.into_iter().partition(|edit| settlement.was_unconfirmed(edit.name.as_ref()));
    update_batches(pusher, settlement, &first)?;
    update_batches(pusher, settlement, &last)
}

/// Pushes edits in batches of the size that the target takes.
pub(super) fn update_batches(
    pusher: &mut Pusher<'_>,
    settlement: &mut Settlement<'_>,
    edits: &[Edit<'_>],
) -> Result<(), MirrorError> {
    edits.chunks(pusher.batch()).try_for_each(|edits| update(pusher, settlement, edits))
}

/// Pushes one batch, bisecting it while the target refuses the whole push.
fn update(pusher: &mut Pusher<'_>, settlement: &mut Settlement<'_>, edits: &[Edit<'_>]) -> Result<(), MirrorError> {
    let refused = match pusher.push_edits(edits, Atomicity::EachRef, settlement.outcome()) {
        Err(error) if error.is_batch_refusal() => Err(error),
        Ok(report) if edits.len() > 1 && declines_all(&report) => Ok(report),
        Ok(report) => {
            settlement.settle(pusher.target(), edits, report);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if let Some((one, other)) = pusher.bisect(edits) {
        let target = pusher.target().url();
        tracing::info!(target, refs = edits.len(), "the target refuses the whole push: bisecting it");
        update(pusher, settlement, one)?;
        return update(pusher, settlement, other);
    }
    match refused {
        Ok(report) => settlement.settle(pusher.target(), edits, report),
        Err(error) => settlement.refuse_batch(edits, error),
    }
    Ok(())
}
