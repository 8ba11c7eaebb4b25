//! Pushes the whole plan at once, to a target that commits a push in one step.

use super::error::MirrorError;
use super::head::{HeadFollower, WantedBranch};
use super::plan::{Edit, Plan};
use super::pusher::Pusher;
use super::settle::Settlement;
use super::target::Atomicity;
use gitferry_git::refs::RefName;

/// Pushes all edits and `HEAD` at once. Returns true if `HEAD` needs no more, and `None` where a ref was refused: then
/// nothing has changed, and the pass goes on in stages.
pub(super) fn push_at_once(
    pusher: &mut Pusher<'_>,
    settlement: &mut Settlement<'_>,
    head: &HeadFollower<'_>,
    plan: &Plan<'_>,
) -> Result<Option<bool>, MirrorError> {
    let differs = head.differs();
    let settled = differs.is_none() || head.wanted_branch(plan, pusher.target()) != WantedBranch::Missing;
    let set = differs.filter(|_| settled);
    let edits: Vec<Edit<'_>> = plan.deletions.iter().chain(&plan.edits).cloned().collect();
    if edits.is_empty() {
        if let Some(branch) = set {
            head.set(branch, pusher.target(), settlement.outcome())?;
        }
        return Ok(Some(settled));
    }
    if let Some(branch) = set {
        head.set_with_next_push(branch);
    }
    // A refused ref may need the old value of another one.
    let loses = edits.len() > 1 && edits.iter().any(|edit| edit.old.is_some());
    let atomicity = if loses { Atomicity::AllOrNone } else { Atomicity::EachRef };
    let report = pusher.push_edits(&edits, atomicity, settlement.outcome())?;
    if loses && !report.is_ok() {
        return Ok(None);
    }
    let outcome = settlement.outcome();
    outcome.head = set.map(RefName::to_string).or(outcome.head.take());
    settlement.settle(pusher.target(), &edits, report);
    settlement.check_refused(pusher.target_mut())?;
    Ok(Some(settled))
}
