//! The way from the source's objects to the target's refs: one fetch and one push, between which nothing is stored.

use gix::ObjectId;

use super::error::MirrorError;
use super::lfs::LfsTransfer;
use super::object_source::PackRequest;
use super::object_supply::ObjectSupply;
use super::plan::{Edit, Plan};
use super::push::{Flow, LargePushFailures};
use super::report::MirrorOutcome;
use super::target::{Atomicity, Target};
use crate::progress::Progress;
use gitferry_git::client::PushReport;
use gitferry_git::receive_pack::Command;
use gitferry_remote::PushLimits;

/// Objects to send for a push.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Objects that the target lacks, to send with everything that is reachable from them.
    pub wants: Vec<ObjectId>,
    /// Objects that the target has, with everything that is reachable from them.
    pub haves: Vec<ObjectId>,
}

/// Both ends of a pass once its plan is made: the supply of objects and the target.
pub(super) struct Channel<'p> {
    supply: ObjectSupply<'p>,
    target: Target<'p>,
    /// Limits of the target for one push.
    limits: &'p PushLimits,
    /// Counts bytes as they flow.
    progress: &'p Progress,
    large_push_failures: &'p LargePushFailures,
}

impl<'p> Channel<'p> {
    /// A channel that keeps to the target's limits.
    pub fn new(
        supply: ObjectSupply<'p>,
        target: Target<'p>,
        limits: &'p PushLimits,
        progress: &'p Progress,
        large_push_failures: &'p LargePushFailures,
    ) -> Self {
        Channel { supply, target, limits, progress, large_push_failures }
    }

    pub fn supply(&mut self) -> &mut ObjectSupply<'p> {
        &mut self.supply
    }

    pub fn target(&self) -> &Target<'p> {
        &self.target
    }

    pub fn target_mut(&mut self) -> &mut Target<'p> {
        &mut self.target
    }

    /// Most refs in one push; at least 1.
    pub fn batch(&self) -> usize {
        self.limits.refs_per_push.max(1)
    }

    /// Finds the haves for the fetch of a batch (see [`ObjectSupply::haves`]).
    pub fn haves(
        &mut self,
        edits: &[Edit<'_>],
        wants: &[ObjectId],
        outcome: &mut MirrorOutcome,
    ) -> Result<Vec<ObjectId>, MirrorError> {
        self.supply.haves(edits, wants.len(), &self.target, outcome)
    }

    /// Makes sure that histories can be split (see [`ObjectSupply::require_depth`]).
    pub fn require_depth(
        &mut self,
        haves: Vec<ObjectId>,
        reason: String,
        outcome: &mut MirrorOutcome,
    ) -> Result<Vec<ObjectId>, MirrorError> {
        self.supply.require_depth(haves, reason, &self.target, outcome)
    }

    /// Supplies what has to be at the target before the first push.
    pub fn supply_ahead(
        &mut self,
        plan: &Plan<'_>,
        lfs: Option<&dyn LfsTransfer>,
        outcome: &mut MirrorOutcome,
    ) -> Result<(), MirrorError> {
        if !plan.preserve.is_empty() {
            // Preserving pushes before anything is fetched, so a shallow source has to be found here.
            self.supply.check_whole()?;
        }
        match lfs {
            Some(lfs) => self.transfer_lfs(lfs, plan, outcome),
            None => Ok(()),
        }
    }

    /// Transfers the LFS objects that the plan's refs need, before any ref moves.
    fn transfer_lfs(
        &mut self,
        lfs: &dyn LfsTransfer,
        plan: &Plan<'_>,
        outcome: &mut MirrorOutcome,
    ) -> Result<(), MirrorError> {
        let mut wanted = PackRequest { shallow: self.target.shallow().to_vec(), ..PackRequest::default() };
        if lfs.scans_all_history() {
            wanted.wants = self.supply.all_carried();
        } else {
            wanted.wants = self.target.objects().wants(&plan.edits);
            if !wanted.wants.is_empty() {
                wanted.haves = self.haves(&plan.edits, &wanted.wants, outcome)?;
            }
        }
        if wanted.wants.is_empty() && lfs.still_missing().is_empty() {
            return Ok(());
        }
        lfs.transfer(self.supply.from(), &wanted, self.target.format(), outcome)
    }

    /// One fetch and one push: the pack is passed on as it arrives.
    pub fn send(
        &mut self,
        commands: &[Command],
        wanted: Wanted,
        atomicity: Atomicity,
        outcome: &mut MirrorOutcome,
    ) -> Result<PushReport, MirrorError> {
        let wanted = PackRequest {
            wants: wanted.wants,
            haves: wanted.haves,
            shallow: self.target.shallow().to_vec(),
            thin: !self.target.can("no-thin"),
            ofs_delta: self.target.can("ofs-delta"),
            filter: None,
        };
        let mut pack = self.supply.fetch(commands, &wanted)?;
        let objects = u64::from(pack.objects);
        let mut flow = Flow::new(self.progress, self.limits.bytes_per_push);
        let pushed = self.target.push(commands, Some(&mut |out| flow.pass_on(&mut *pack.bytes, out)), atomicity);
        let Flow { bytes, source_failed, .. } = flow;
        drop(pack);
        let report = match pushed {
            Ok(report) => report,
            Err(error) if source_failed => return Err(error),
            Err(error) => return Err(self.judge_size(error, bytes)),
        };
        outcome.packs += 1;
        outcome.objects += objects;
        outcome.bytes += bytes;
        Ok(report)
    }

    /// Pushes refs that move only among objects that the target has.
    pub fn push_moves(&mut self, commands: &[Command], atomicity: Atomicity) -> Result<PushReport, MirrorError> {
        self.supply.prove_replaced(commands)?;
        self.target.push_empty(commands, atomicity)
    }

    /// Turns the target's failure after `bytes` of a push into [`MirrorError::TooLarge`] where size has become the likely cause,
    /// and smaller pushes are possible.
    fn judge_size(&mut self, error: MirrorError, bytes: u64) -> MirrorError {
        let target_url = self.target.url();
        if self.large_push_failures.add(&error, bytes)
            && (self.supply.from().supports_depth().unwrap_or(false) || self.supply.detour().is_some())
        {
            let reason = format!("large pushes fail repeatedly, the last one after {bytes} bytes: {error}");
            return MirrorError::TooLarge { target_url: target_url.into(), reason };
        }
        with_blob_limit(error, self.limits.bytes_per_blob)
    }
}

/// Adds the provider's limit for a single file to the refusal of a pack. The pack flows through unread, so the limit
/// cannot be checked before.
fn with_blob_limit(error: MirrorError, limit: Option<u64>) -> MirrorError {
    match (error, limit) {
        (MirrorError::Unpack { target_url, reason }, Some(limit)) => {
            let reason = format!("{reason} (the provider's limit for a file is {limit} bytes)");
            MirrorError::Unpack { target_url, reason }
        }
        (error, _) => error,
    }
}
