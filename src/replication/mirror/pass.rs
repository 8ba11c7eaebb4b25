//! One pass over one repository, as a pipeline: each phase takes the values of the phases before it.
//!
//! Blocking, on one thread. Nothing is stored on the way, and memory does not grow with the number or size of objects:
//! pack bytes are passed on as they arrive, and the pack's trailer only after the whole pack has been verified.

use super::at_once::push_at_once;
use super::channel::Channel;
use super::checkpoint::{Checkpoint, hash};
use super::ends::HeadSetter;
use super::error::MirrorError;
use super::head::HeadFollower;
use super::lease::Fence;
use super::lfs::LfsTransfer;
use super::list_refs::{Decision, Listing, decide};
use super::object_supply::{ObjectSupply, SourceRefs};
use super::plan::head_of;
use super::policy::RefPolicy;
use super::preserve::preserve_diverged;
use super::push::LargePushFailures;
use super::pusher::Pusher;
use super::report::MirrorOutcome;
use super::settle::Settlement;
use super::stages::push_in_stages;
use super::target::Target;
use super::via::Detour;
use crate::progress::Progress;
use gitferry_git::client::Server;
use gitferry_remote::PushLimits;

/// Inputs of a pass over one repository.
pub struct MirrorTask<'t> {
    /// Refs that are mirrored, and the changes that the target's refs may undergo.
    pub policy: &'t RefPolicy,
    /// Limits of the target for one push.
    pub limits: &'t PushLimits,
    /// Access to the target's `HEAD`.
    pub heads: &'t dyn HeadSetter,
    /// Result of the last complete pass.
    pub checkpoint: Option<&'t Checkpoint>,
    /// True if a source without refs may empty the target.
    pub allow_empty: bool,
    /// Counts bytes as they flow.
    pub progress: &'t Progress,
    /// Transfer of LFS objects; `None` if the link ignores LFS.
    pub lfs: Option<&'t dyn LfsTransfer>,
    /// Way through a region, for a source that alone cannot serve the pass.
    pub detour: Option<&'t dyn Detour>,
    /// Failures of large pushes, over all attempts of the delivery.
    pub large_push_failures: &'t LargePushFailures,
    /// Asked for permission before each push.
    pub fence: Option<&'t dyn Fence>,
}

impl<'t> MirrorTask<'t> {
    /// Makes the target's refs equal to the source's, as far as the policy allows. Adds to `outcome` also where the
    /// pass fails later. Returns the checkpoint for the next pass if it differs from the last one.
    pub fn run(
        &'t self,
        source: &'t dyn Server,
        target: &'t dyn Server,
        outcome: &mut MirrorOutcome,
    ) -> Result<Option<Checkpoint>, MirrorError> {
        match self.run_once(source, target, outcome, true) {
            Err(error @ MirrorError::SourceRegressed { .. }) => {
                tracing::warn!(%error, "the source has lost history: asking it about every value that would be overwritten");
                self.run_once(source, target, outcome, false)
            }
            result => result,
        }
    }

    /// List both sides → plan → supply objects → push → settle → checkpoint. The caller holds the lease, which the
    /// fence asks about before each push. With `trust`, the source is assumed to still have the objects that the
    /// checkpoint confirms, until a fetch proves it.
    fn run_once(
        &'t self,
        source: &'t dyn Server,
        target: &'t dyn Server,
        outcome: &mut MirrorOutcome,
        trust: bool,
    ) -> Result<Option<Checkpoint>, MirrorError> {
        outcome.begin_attempt();
        let Listing { mut object_source, source: refs, receive, target: target_refs } =
            Listing::at(source, target, self.policy)?;
        let decision =
            decide(&refs, &target_refs, self.policy, self.checkpoint, self.allow_empty, &mut object_source, trust)?;
        let Decision { mut plan, equal, known, assumed } =
            decision.map_err(|refs| empty_source(source, target, refs))?;
        outcome.equal = equal;
        if object_source.cannot_negotiate {
            outcome.remark(CANNOT_NEGOTIATE);
        }
        let target = Target::new(target, &target_refs, receive, self.fence);
        let wanted_head = head_of(refs.head.as_ref(), self.policy);
        let head = HeadFollower::query(self.heads, wanted_head, self.checkpoint, &target, &mut plan);
        let missing = target.objects().wants(&plan.edits);
        let source = SourceRefs { url: source.url(), refs: &refs.refs, policy: self.policy };
        let supply = ObjectSupply::new(source, object_source, (known, assumed), missing, self.detour);
        let channel = Channel::new(supply, target, self.limits, self.progress, self.large_push_failures);
        let mut pusher = Pusher::open(channel)?;
        if !plan.preserve.is_empty() {
            // Preserving pushes before anything is fetched, so a shallow source has to be found here.
            pusher.channel().supply().check_whole()?;
        }
        if let Some(lfs) = self.lfs {
            pusher.channel().transfer_lfs(lfs, &plan, outcome)?;
        }
        let mut settlement = Settlement::new(outcome, self.checkpoint);
        preserve_diverged(&mut pusher, &mut settlement, &mut plan)?;
        settlement.begin(&mut plan);
        let at_once =
            if head.comes_with_push() { push_at_once(&mut pusher, &mut settlement, &head, &plan)? } else { None };
        let head_settled = match at_once {
            Some(head_settled) => head_settled,
            None => {
                let head_settled = push_in_stages(&mut pusher, &mut settlement, &head, plan)?;
                pusher.delete_slices()?;
                settlement.check_refused(pusher.target_mut())?;
                settlement.fail_if_nothing_taken()?;
                head_settled
            }
        };
        pusher.channel().supply().end_detour();
        let source = hash(&refs.refs, refs.head.as_ref()).digest();
        Ok(settlement.checkpoint(self.policy, source, pusher.target(), head.branch_if(head_settled)))
    }
}

/// Remark on a source that supports no negotiation.
const CANNOT_NEGOTIATE: &str =
    "the source cannot report which objects it has: overwritten values count as made at the target";

fn empty_source(source: &dyn Server, target: &dyn Server, refs: u64) -> MirrorError {
    MirrorError::EmptySource { source_url: source.url().into(), target_url: target.url().into(), refs }
}
