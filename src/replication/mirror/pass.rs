//! One pass over one repository, as a pipeline: each phase takes the values of the phases before it.
//!
//! Blocking, on one thread. Nothing is stored on the way, and memory does not grow with the number or size of objects:
//! pack bytes are passed on as they arrive, and the pack's trailer only after the whole pack has been verified.

use super::channel::Channel;
use super::checkpoint::{Checkpoint, hash};
use super::error::MirrorError;
use super::head::HeadFollower;
use super::list_refs::{Decision, Listing, decide};
use super::object_supply::{ObjectSupply, SourceRefs};
use super::plan::head_of;
use super::preserve::preserve_diverged;
use super::pusher::Pusher;
use super::report::MirrorOutcome;
use super::settle::Settlement;
use super::stages::push_plan;
use super::target::Target;
use super::task::MirrorTask;
use gitferry_git::client::Server;

/// Remark on a source that supports no negotiation.
const CANNOT_NEGOTIATE: &str =
    "the source cannot report which objects it has: overwritten values count as made at the target";

/// Makes the target's refs equal to the source's, as far as the policy allows. Adds to `outcome` also where the pass
/// fails later. Returns the checkpoint for the next pass if it differs from the last one.
pub fn run(
    task: &MirrorTask<'_>,
    source: &dyn Server,
    target: &dyn Server,
    outcome: &mut MirrorOutcome,
) -> Result<Option<Checkpoint>, MirrorError> {
    match run_phases(task, source, target, outcome, true) {
        Err(error @ MirrorError::SourceRegressed { .. }) => {
            tracing::warn!(%error, "the source has lost history: asking it about every value that would be overwritten");
            run_phases(task, source, target, outcome, false)
        }
        result => result,
    }
}

/// The phases of a pass. The caller holds the lease, which the fence asks about before each push. With `trust`, the
/// source is assumed to still have the objects that the checkpoint confirms, until a fetch proves it.
fn run_phases(
    task: &MirrorTask<'_>,
    source: &dyn Server,
    target: &dyn Server,
    outcome: &mut MirrorOutcome,
    trust: bool,
) -> Result<Option<Checkpoint>, MirrorError> {
    outcome.begin_attempt();
    // List both sides.
    let Listing { refs, mut object_source, receive } = Listing::at(source, target, task.policy)?;
    // Plan, without I/O but for questions about single objects and HEAD.
    let Decision { mut plan, objects } =
        decide(&refs, task.policy, task.checkpoint, task.allow_empty, &mut object_source, trust)?;
    outcome.equal = plan.equal;
    if object_source.cannot_negotiate {
        outcome.remark(CANNOT_NEGOTIATE);
    }
    let target = Target::new(target, &refs.target, receive, task.fence);
    let wanted_head = head_of(refs.source.head.as_ref(), task.policy);
    let head = HeadFollower::query(task.heads, wanted_head, task.checkpoint, &target, &mut plan);
    // Supply objects.
    let source = SourceRefs { url: source.url(), refs: &refs.source.refs, policy: task.policy };
    let missing = target.objects().wants(&plan.edits);
    let supply = ObjectSupply::new(source, object_source, objects, missing, task.detour);
    let channel = Channel::new(supply, target, task.limits, task.progress, task.large_push_failures);
    let mut pusher = Pusher::open(channel)?;
    pusher.channel().supply_ahead(&plan, task.lfs, outcome)?;
    // Push in batches; each batch is settled by the target's report. HEAD follows before anything is deleted.
    let mut settlement = Settlement::new(outcome, task.checkpoint);
    preserve_diverged(&mut pusher, &mut settlement, &mut plan)?;
    settlement.begin(&mut plan);
    let head_settled = push_plan(&mut pusher, &mut settlement, &head, plan)?;
    pusher.channel().supply().end_detour();
    // Report.
    let digest = hash(&refs.source.refs, refs.source.head.as_ref()).digest();
    Ok(settlement.checkpoint(task.policy, digest, pusher.target(), head.branch_if(head_settled)))
}
