//! One pass over one repository: the pack that the source sends flows into the target's receive-pack.
//!
//! Blocking, on one thread. Nothing is stored on the way, and memory does not grow with the number or size of objects:
//! pack bytes are passed on as they arrive, and the pack's trailer only after the whole pack has been verified.

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};

use super::checkpoint::{Checkpoint, hash};
use super::error::MirrorError;
use super::head::{Followed, TargetHead};
use super::lease::Fence;
use super::lfs::LfsTransfer;
use super::list_refs::{Decision, Listing, decide};
use super::name_conflicts::AsideRef;
use super::object_source::{ObjectSource, PackRequest};
use super::plan::{Edit, Plan, Preserve, TargetObjects, all_carried, head_of};
use super::policy::RefPolicy;
use super::push::LargePushFailures;
use super::push_order::Stages;
use super::report::{MirrorOutcome, NoteKind};
use super::update::declines_all;
use super::via::Detour;
use crate::progress::Progress;
use gitferry_engine::ledger::hash::Lattice;
use gitferry_git::client::{ReceivePack, RemoteRefs, Server};
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::RefTable;
use gitferry_remote::{HeadSet, PushLimits};

/// Sets the `HEAD` of a target, which Git's push protocol cannot.
pub trait HeadSetter: Sync {
    /// Returns true if the target offers a way to set its `HEAD`.
    fn can_set(&self) -> bool;

    /// Returns true if `HEAD` is set in one step with the refs of a push, which are then committed atomically.
    fn comes_with_push(&self) -> bool {
        false
    }

    /// Sets `HEAD` to this branch with the next push, if [`HeadSetter::comes_with_push`] is true.
    fn set_with_next_push(&self, _branch: &RefName) {}

    /// Sets `HEAD` to this branch, which exists at the target.
    fn set_head(&self, branch: &RefName) -> Result<HeadSet, MirrorError>;
}

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

    /// List both sides → plan → run the pass → checkpoint. With `trust`, the source is assumed to still have the
    /// objects that the checkpoint confirms, until a fetch proves it.
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
        let mut decision = decision.map_err(|refs| MirrorError::EmptySource {
            source_url: source.url().into(),
            target_url: target.url().into(),
            refs,
        })?;
        outcome.equal = decision.equal;
        if object_source.cannot_negotiate {
            outcome.remark(
                "the source cannot report which objects it has: overwritten values count as made at the target",
            );
        }
        let plan = std::mem::take(&mut decision.plan);
        let ends = PassEnds {
            source_url: source.url().into(),
            source: &refs.refs,
            object_source: Box::new(object_source),
            target,
            target_refs: &target_refs,
            receive,
        };
        let mut pass = MirrorPass::new(self, ends, decision, outcome);
        let head = pass.run(plan, refs.head.as_ref())?;
        pass.end_detour();
        Ok(pass.checkpoint(hash(&refs.refs, refs.head.as_ref()).digest(), head))
    }
}

/// Both ends of a pass: the refs that were listed, and the open connections.
struct PassEnds<'r, 's> {
    source_url: String,
    source: &'r RefTable,
    object_source: Box<dyn ObjectSource + 's>,
    target: &'s dyn Server,
    target_refs: &'r RemoteRefs,
    receive: ReceivePack<'s>,
}

/// State of a pass over one repository.
pub(super) struct MirrorPass<'r, 's> {
    pub(super) task: &'s MirrorTask<'s>,
    pub(super) outcome: &'r mut MirrorOutcome,
    pub(super) source_url: String,
    /// Refs of the source.
    pub(super) source: &'r RefTable,
    /// Source of the objects to push: the source server, or a region once the pass has switched to a detour.
    pub(super) object_source: Box<dyn ObjectSource + 's>,
    pub(super) detoured: bool,
    pub(super) target: &'s dyn Server,
    /// Refs of the target before the first push.
    pub(super) target_refs: &'r RemoteRefs,
    pub(super) receive: ReceivePack<'s>,
    pub(super) target_objects: TargetObjects<'r>,
    /// Hash of the target's refs, updated with every confirmed edit.
    pub(super) target_hash: Lattice,
    /// Objects that the plan's refs name and the target lacks.
    pub(super) missing: Vec<ObjectId>,
    /// Objects that the source has although none of its refs names them.
    pub(super) known: HashSet<ObjectId>,
    /// Objects that the source is assumed to have until a fetch proves it.
    pub(super) assumed: HashSet<ObjectId>,
    /// Branch that the target's `HEAD` should name.
    pub(super) wanted_head: Option<RefName>,
    /// True once this pass has pushed that branch.
    pub(super) head_branch_created: bool,
    /// Confirmed new values of refs, for the checkpoint.
    pub(super) moved: Vec<(BString, Option<ObjectId>)>,
    /// Commands that the target has refused.
    pub(super) refused: Vec<Command>,
    /// Refs whose values at the target are not known to come from the source.
    pub(super) unconfirmed: Vec<BString>,
    /// Refs that keep values which gitferry has pushed, until the target accepts other refs.
    pub(super) held_moves: Vec<BString>,
    /// Number of times that a refused batch was bisected.
    pub(super) bisections: u32,
    /// Error of the first batch that was refused in the end.
    pub(super) batch_refusal: Option<MirrorError>,
    /// Refs that hold the slices of a history which is too large for one push.
    pub(super) slices: Vec<Command>,
    /// Old values that are kept aside while their refs make room for others.
    pub(super) aside: Vec<AsideRef>,
    /// Refs that have been deleted to make room.
    pub(super) made_room: HashSet<BString>,
    /// Refs with a value in `aside` that have been pushed again.
    pub(super) came_back: HashSet<BString>,
    /// True if the next push is atomic.
    pub(super) atomic: bool,
}

impl<'r, 's> MirrorPass<'r, 's> {
    fn new(
        task: &'s MirrorTask<'s>,
        ends: PassEnds<'r, 's>,
        decision: Decision<'_>,
        outcome: &'r mut MirrorOutcome,
    ) -> Self {
        let PassEnds { source_url, source, object_source, target, target_refs, receive } = ends;
        MirrorPass {
            task,
            outcome,
            source_url,
            source,
            object_source,
            detoured: false,
            target,
            target_refs,
            receive,
            target_objects: TargetObjects::of(&target_refs.refs),
            target_hash: hash(&target_refs.refs, None),
            missing: Vec::new(),
            known: decision.known,
            assumed: decision.assumed,
            wanted_head: None,
            head_branch_created: false,
            moved: Vec::new(),
            refused: Vec::new(),
            unconfirmed: Vec::new(),
            held_moves: Vec::new(),
            bisections: 0,
            batch_refusal: None,
            slices: Vec::new(),
            aside: Vec::new(),
            made_room: HashSet::new(),
            came_back: HashSet::new(),
            atomic: false,
        }
    }
}

impl MirrorPass<'_, '_> {
    /// The phases of a pass, in order. Every push asks the fence first, so that a pass that has lost its lease pushes no
    /// more. Returns the branch for the checkpoint: `None` while the target's `HEAD` still has to follow.
    fn run(&mut self, mut plan: Plan<'_>, source_head: Option<&RefValue>) -> Result<Option<RefName>, MirrorError> {
        let wanted_head = head_of(source_head, self.task.policy);
        self.wanted_head.clone_from(&wanted_head);
        let target_head = self.query_target_head(&mut plan, wanted_head.as_ref());
        self.resume_earlier_passes(&plan)?;
        self.transfer_lfs(&plan)?;
        let mut plan = self.preserve_diverged(plan)?;
        self.outcome.notes.append(std::mem::take(&mut plan.skipped));
        self.unconfirmed.append(&mut plan.unconfirmed);
        if self.task.heads.comes_with_push()
            && let Some(head_settled) = self.push_at_once(&plan, wanted_head.as_ref(), &target_head)?
        {
            return Ok(wanted_head.filter(|_| head_settled));
        }
        let followed = self.push_in_stages(plan, wanted_head.as_ref(), &target_head)?;
        self.delete_slices()?;
        self.check_refused()?;
        self.fail_if_nothing_taken()?;
        Ok(wanted_head.filter(|_| followed != Followed::NotYet))
    }

    /// Finds refs that earlier passes have left at the target, and the objects that this pass has to send.
    fn resume_earlier_passes(&mut self, plan: &Plan<'_>) -> Result<(), MirrorError> {
        self.load_slices()?;
        self.load_aside();
        self.missing = self.target_objects.wants(&plan.edits);
        if !plan.preserve.is_empty() {
            // Preserving pushes before anything is fetched, so a shallow source has to be found here.
            self.object_source.check_whole(&self.missing)?;
        }
        Ok(())
    }

    /// Pushes in stages: nothing is deleted before the refs that may replace it are confirmed.
    fn push_in_stages(
        &mut self,
        mut plan: Plan<'_>,
        wanted_head: Option<&RefName>,
        target_head: &TargetHead,
    ) -> Result<Followed, MirrorError> {
        // Receive-pack refuses to delete the branch that `HEAD` names.
        let current = match target_head.branch() {
            Some(branch) if !self.task.heads.comes_with_push() => plan.take_deletion_of(branch.as_bstr()),
            _ => None,
        };
        let going = plan.deletions.iter().chain(&current).map(|edit| edit.name.clone().into_owned());
        let going: HashSet<BString> = going.collect();
        let stages = Stages::of(plan.edits, plan.deletions);
        let waiting = stages.waiting();
        let Stages { creations, updates, replacements, mut deletions } = stages;
        self.update_all(creations)?;
        self.move_all(updates, &waiting)?;
        self.replace_all(replacements)?;
        let followed = self.follow_head(wanted_head, target_head, &going)?;
        match current {
            Some(edit) if followed == Followed::Set => deletions.push(edit),
            Some(edit) => self.keep_current_branch(&edit, wanted_head),
            None => {}
        }
        let deletions = self.hold_back(deletions, &HashSet::new())?;
        self.delete(&deletions)?;
        Ok(followed)
    }

    /// Transfers the LFS objects that the plan's refs need, before any ref moves.
    fn transfer_lfs(&mut self, plan: &Plan<'_>) -> Result<(), MirrorError> {
        let Some(lfs) = self.task.lfs else { return Ok(()) };
        let mut wanted = PackRequest { shallow: self.receive.shallow().to_vec(), ..PackRequest::default() };
        if lfs.scans_all_history() {
            wanted.wants = all_carried(self.source, self.task.policy);
        } else {
            wanted.wants = self.target_objects.wants(&plan.edits);
            if !wanted.wants.is_empty() {
                wanted.haves = self.haves(&plan.edits, &wanted.wants)?;
            }
        }
        if wanted.wants.is_empty() && lfs.still_missing().is_empty() {
            return Ok(());
        }
        lfs.transfer(&mut *self.object_source, &wanted, self.target_refs.format, self.outcome)
    }

    /// Pushes everything at once to a target that commits a push in one step. Returns true if `HEAD` needs no more, and
    /// `None` where a ref was refused: then nothing has changed, and the pass goes on in stages.
    fn push_at_once(
        &mut self,
        plan: &Plan<'_>,
        wanted: Option<&RefName>,
        target_head: &TargetHead,
    ) -> Result<Option<bool>, MirrorError> {
        let is_there = |branch: &RefName| {
            let kept = plan.deletions.iter().all(|edit| edit.name.as_ref() != branch.as_bstr());
            let made = plan.edits.iter().any(|edit| edit.name.as_ref() == branch.as_bstr());
            made || (kept && self.target_refs.refs.find(branch.as_bstr()).is_some())
        };
        let differs = |wanted: &&RefName| target_head.was_queried() && target_head.branch() != Some(*wanted);
        let head = wanted.filter(differs);
        let settled = head.is_none_or(is_there);
        let head = head.filter(|_| settled);
        let edits: Vec<Edit<'_>> = plan.deletions.iter().chain(&plan.edits).cloned().collect();
        if edits.is_empty() {
            return head.map_or(Ok(Some(settled)), |head| self.move_head(head).map(|_| Some(settled)));
        }
        if let Some(head) = head {
            self.task.heads.set_with_next_push(head);
        }
        // A refused ref may need the old value of another one.
        let loses = edits.len() > 1 && edits.iter().any(|edit| edit.old.is_some());
        let report = if loses { self.push_edits_atomically(&edits)? } else { self.push_edits(&edits)? };
        if loses && !report.is_ok() {
            return Ok(None);
        }
        self.outcome.head = head.map(RefName::to_string).or(self.outcome.head.take());
        self.settle(&edits, report);
        self.check_refused().map(|()| Some(settled))
    }

    /// Keeps diverged tips under `refs/gitferry/diverged/`; their objects are at the target already. Returns the plan
    /// without the refs whose tips could not be kept.
    fn preserve_diverged<'a>(&mut self, mut plan: Plan<'a>) -> Result<Plan<'a>, MirrorError> {
        let mut lost = Vec::new();
        for batch in std::mem::take(&mut plan.preserve).chunks(self.task.limits.refs_per_push.max(1)) {
            self.preserve_some(batch, &mut lost)?;
        }
        plan.leave(&lost);
        Ok(plan)
    }

    fn preserve_some(&mut self, kept: &[Preserve], lost: &mut Vec<(BString, String)>) -> Result<(), MirrorError> {
        let commands: Vec<Command> = kept.iter().map(Preserve::command).collect();
        let report = self.push_empty(&commands)?;
        if self.may_bisect(kept.len()) && declines_all(&report) {
            let (one, other) = kept.split_at(kept.len() / 2);
            self.preserve_some(one, lost)?;
            return self.preserve_some(other, lost);
        }
        for (kept, outcome) in kept.iter().zip(report.refs) {
            match outcome.result {
                Ok(()) => {
                    self.outcome.preserved += 1;
                    self.target_hash.edit(&kept.name, None, Some(&RefValue::Object(kept.id)));
                    let reason = format!("{} was made at the target; it is kept as {}", kept.id, kept.name);
                    self.outcome.notes.add(kept.of.as_bstr(), NoteKind::Preserved, reason);
                }
                Err(reason) => lost.push((kept.of.clone(), reason)),
            }
        }
        Ok(())
    }

    fn delete(&mut self, deletions: &[Edit<'_>]) -> Result<(), MirrorError> {
        deletions.chunks(self.task.limits.refs_per_push.max(1)).try_for_each(|edits| self.update(edits))
    }
}
