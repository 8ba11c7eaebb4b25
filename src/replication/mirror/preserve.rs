//! Keeps diverged tips under `refs/gitferry/diverged/` before their refs are overwritten.

use gix::bstr::BString;

use super::error::MirrorError;
use super::plan::{Plan, Preserve};
use super::pusher::{Pusher, declines_all};
use super::settle::Settlement;
use super::target::Atomicity;
use gitferry_git::receive_pack::Command;

/// Keeps the diverged tips of a plan; their objects are at the target already. Removes the refs whose tips could not be
/// kept from the plan.
pub(super) fn preserve_diverged(
    pusher: &mut Pusher<'_>,
    settlement: &mut Settlement<'_>,
    plan: &mut Plan<'_>,
) -> Result<(), MirrorError> {
    let mut lost = Vec::new();
    for batch in std::mem::take(&mut plan.preserve).chunks(pusher.batch()) {
        preserve(pusher, settlement, batch, &mut lost)?;
    }
    plan.leave(&lost);
    Ok(())
}

/// Keeps one batch, bisecting it while a hook of the target declines the whole push. Adds refs whose tips could not be
/// kept to `lost`, with the target's reason.
fn preserve(
    pusher: &mut Pusher<'_>,
    settlement: &mut Settlement<'_>,
    kept: &[Preserve],
    lost: &mut Vec<(BString, String)>,
) -> Result<(), MirrorError> {
    let commands: Vec<Command> = kept.iter().map(Preserve::command).collect();
    let report = pusher.target_mut().push_empty(&commands, Atomicity::EachRef)?;
    if declines_all(&report)
        && let Some((one, other)) = pusher.bisect(kept)
    {
        preserve(pusher, settlement, one, lost)?;
        return preserve(pusher, settlement, other, lost);
    }
    for (kept, outcome) in kept.iter().zip(report.refs) {
        match outcome.result {
            Ok(()) => settlement.add_preserved(kept),
            Err(reason) => lost.push((kept.of.clone(), reason)),
        }
    }
    Ok(())
}
