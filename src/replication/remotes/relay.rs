//! Carrying out a pass for one repository: the pack that the source sends flows into the target's receive-pack.
//!
//! Blocking, on one thread. Nothing is stored on the way, and memory does not depend on the objects: the pack is handed
//! on as it arrives, without its trailer until it has proven to be whole.

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};

use super::checkpoint::{Checkpoint, hash};
use super::error::RemotesError;
use super::gate::Gate;
use super::head::{Followed, TargetHead};
use super::lfs::LfsCarrier;
use super::look::{Decided, Look, decide};
use super::order::Stages;
use super::plan::{Edit, Held, Plan, Preserve, all_carried, head_of};
use super::policy::RefPolicy;
use super::push::Strain;
use super::replace::Aside;
use super::report::{Carried, Outcome};
use super::supply::{Supply, Wanted};
use super::update::declines_all;
use super::via::Detour;
use crate::progress::Progress;
use gitferry_engine::ledger::hash::Lattice;
use gitferry_git::client::{ReceivePack, RemoteRefs, Server};
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::RefTable;
use gitferry_remote::{HeadSet, PushLimits};

/// A way to make a target's `HEAD` name another branch: no push can.
pub trait Heads: Sync {
    /// Whether there is one.
    fn can_set(&self) -> bool;

    /// Whether it can come with a push, in one step with the refs, which may then be any.
    fn comes_with_push(&self) -> bool {
        false
    }

    /// Makes it name this branch when the next push is done, where it comes with pushes.
    fn set_with_next_push(&self, _branch: &RefName) {}

    /// Makes it name this branch, which is there.
    fn set_head(&self, branch: &RefName) -> Result<HeadSet, RemotesError>;
}

/// What a pass for one repository goes by.
pub struct Task<'t> {
    /// Which refs, and what may be done to them.
    pub policy: &'t RefPolicy,
    /// What the target takes at a time.
    pub limits: &'t PushLimits,
    /// How its `HEAD` is set.
    pub heads: &'t dyn Heads,
    /// What the last complete pass left.
    pub checkpoint: Option<&'t Checkpoint>,
    /// Whether every ref may be deleted.
    pub allow_empty: bool,
    /// Counts bytes as they flow.
    pub progress: &'t Progress,
    /// What brings the objects of Git LFS, where the link carries them.
    pub lfs: Option<&'t dyn LfsCarrier>,
    /// Where the pass may turn to when the source alone cannot serve it.
    pub detour: Option<&'t dyn Detour>,
    /// How often large pushes have failed, over all attempts.
    pub strain: &'t Strain,
    /// Asked before each push, if anything is.
    pub gate: Option<&'t dyn Gate>,
}

impl<'t> Task<'t> {
    /// Brings the target's refs to what the source's are. What was done is added to `carried`, also where the pass
    /// fails later. The checkpoint for the next pass, where it differs from the last one.
    pub fn carry(
        &'t self,
        source: &'t dyn Server,
        target: &'t dyn Server,
        carried: &mut Carried,
    ) -> Result<Option<Checkpoint>, RemotesError> {
        match self.carry_once(source, target, carried, true) {
            Err(error @ RemotesError::Forgotten { .. }) => {
                tracing::warn!(%error, "the source has lost its past: it is asked about all that would be overwritten");
                self.carry_once(source, target, carried, false)
            }
            result => result,
        }
    }

    /// With `trust`, the source is believed to have what the checkpoint says until it is fetched from.
    fn carry_once(
        &'t self,
        source: &'t dyn Server,
        target: &'t dyn Server,
        carried: &mut Carried,
        trust: bool,
    ) -> Result<Option<Checkpoint>, RemotesError> {
        carried.begin_attempt();
        let Look { mut supply, source: refs, receive, target: there } = Look::at(source, target, self.policy)?;
        let decided = decide(&refs, &there, self.policy, self.checkpoint, self.allow_empty, &mut supply, trust)?;
        let Decided { plan, equal, known, on_word } = decided.map_err(|refs| RemotesError::EmptySource {
            source_url: source.url().into(),
            target_url: target.url().into(),
            refs,
        })?;
        carried.equal = equal;
        if supply.is_mute {
            carried
                .remark("the source cannot say which objects it has: what is overwritten counts as made at the target");
        }
        let mut relay = Relay {
            task: self,
            target,
            source_url: source.url().into(),
            receive,
            supply: Box::new(supply),
            detoured: false,
            missing: Vec::new(),
            source: &refs.refs,
            there: &there,
            held: Held::of(&there.refs),
            known,
            on_word,
            carried,
            after: hash(&there.refs, None),
            wanted_head: None,
            made_head: false,
            moved: Vec::new(),
            refused: Vec::new(),
            unconfirmed: Vec::new(),
            held_moves: Vec::new(),
            partings: 0,
            refused_whole: None,
            slices: Vec::new(),
            aside: Vec::new(),
            made_room: HashSet::new(),
            came_back: HashSet::new(),
            atomic: false,
        };
        let head = relay.run(plan, refs.head.as_ref())?;
        relay.end_detour();
        Ok(relay.checkpoint(hash(&refs.refs, refs.head.as_ref()).digest(), head))
    }
}

/// A pass under way.
pub(super) struct Relay<'r, 's> {
    pub(super) task: &'s Task<'s>,
    pub(super) target: &'s dyn Server,
    pub(super) source_url: String,
    pub(super) receive: ReceivePack<'s>,
    /// Where objects come from: the source, or what lies on the way through which the pass has turned.
    pub(super) supply: Box<dyn Supply + 's>,
    pub(super) detoured: bool,
    /// All that the target lacks of what the plan names.
    pub(super) missing: Vec<ObjectId>,
    pub(super) source: &'r RefTable,
    pub(super) there: &'r RemoteRefs,
    pub(super) held: Held<'r>,
    /// Objects that are known to be at the source although no ref of it names them.
    pub(super) known: HashSet<ObjectId>,
    /// Objects that the source is believed to have until a fetch shows it.
    pub(super) on_word: HashSet<ObjectId>,
    pub(super) carried: &'r mut Carried,
    /// The hash of the target's refs as far as they have got.
    pub(super) after: Lattice,
    /// What the target's `HEAD` is to name, and whether this pass has made that branch.
    pub(super) wanted_head: Option<RefName>,
    pub(super) made_head: bool,
    pub(super) moved: Vec<(BString, Option<ObjectId>)>,
    pub(super) refused: Vec<Command>,
    pub(super) unconfirmed: Vec<BString>,
    /// Refs that keep their old values, which gitferry has put there, until the target has others.
    pub(super) held_moves: Vec<BString>,
    /// How often what was refused as a whole has been parted, and why some of it was refused in the end.
    pub(super) partings: u32,
    pub(super) refused_whole: Option<RemotesError>,
    /// Refs that part a history that is too large for one push.
    pub(super) slices: Vec<Command>,
    /// What is kept of refs that make room for others, the refs that have made room, and those that came back.
    pub(super) aside: Vec<Aside>,
    pub(super) made_room: HashSet<BString>,
    pub(super) came_back: HashSet<BString>,
    /// Whether the next push is to be done as one step.
    pub(super) atomic: bool,
}

impl Relay<'_, '_> {
    /// All steps; what `HEAD` of the target is to be, once that needs no more.
    fn run(&mut self, mut plan: Plan<'_>, source_head: Option<&RefValue>) -> Result<Option<RefName>, RemotesError> {
        let wanted_head = head_of(source_head, self.task.policy);
        self.wanted_head.clone_from(&wanted_head);
        let target_head = self.look_at_target(&mut plan, wanted_head.as_ref());
        self.find_slices()?;
        self.find_aside();
        self.missing = self.held.wants(&plan.edits);
        if !plan.preserve.is_empty() {
            // The first push would come before the first fetch.
            self.supply.check_whole(&self.missing)?;
        }
        self.carry_lfs(&plan)?;
        self.preserve(&mut plan)?;
        let Plan { skipped, unconfirmed, .. } = &mut plan;
        self.carried.notes.append(std::mem::take(skipped));
        self.unconfirmed.append(unconfirmed);
        if self.task.heads.comes_with_push()
            && let Some(settled) = self.run_at_once(&plan, wanted_head.as_ref(), &target_head)?
        {
            return Ok(wanted_head.filter(|_| settled));
        }
        let followed = self.run_in_order(plan, wanted_head.as_ref(), &target_head)?;
        self.delete_slices()?;
        self.look_at_refused()?;
        self.judge_refused()?;
        Ok(wanted_head.filter(|_| followed != Followed::NotYet))
    }

    /// One push after the other: nothing is deleted before what may replace it is confirmed.
    fn run_in_order(
        &mut self,
        mut plan: Plan<'_>,
        wanted_head: Option<&RefName>,
        target_head: &TargetHead,
    ) -> Result<Followed, RemotesError> {
        let current = match self.task.heads.comes_with_push() {
            true => None,
            false => target_head.branch().and_then(|branch| plan.take_deletion_of(branch.as_bstr())),
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
            Some(edit) => self.leave_current(&edit, wanted_head),
            None => {}
        }
        let deletions = self.hold_back(deletions, &HashSet::new())?;
        self.delete(&deletions)?;
        Ok(followed)
    }

    /// Brings the objects of Git LFS that the refs of a plan need, before any of them moves.
    fn carry_lfs(&mut self, plan: &Plan<'_>) -> Result<(), RemotesError> {
        let Some(lfs) = self.task.lfs else { return Ok(()) };
        let (wants, haves) = match lfs.looks_at_all() {
            true => (all_carried(self.source, self.task.policy), Vec::new()),
            false => {
                let wants = self.held.wants(&plan.edits);
                let haves = if wants.is_empty() { Vec::new() } else { self.haves(&plan.edits, &wants)? };
                (wants, haves)
            }
        };
        if wants.is_empty() && lfs.remembered().is_empty() {
            return Ok(());
        }
        let wanted = Wanted { wants, haves, shallow: self.receive.shallow().to_vec(), ..Wanted::default() };
        lfs.carry(&mut *self.supply, &wanted, self.there.format, self.carried)
    }

    /// Everything in one push, which the target takes as one step. Whether `HEAD` is what it is to be; `None` where
    /// something is refused, so that nothing has changed and the order of pushes matters.
    fn run_at_once(
        &mut self,
        plan: &Plan<'_>,
        wanted: Option<&RefName>,
        target_head: &TargetHead,
    ) -> Result<Option<bool>, RemotesError> {
        let is_there = |branch: &RefName| {
            let kept = plan.deletions.iter().all(|edit| edit.name.as_ref() != branch.as_bstr());
            let made = plan.edits.iter().any(|edit| edit.name.as_ref() == branch.as_bstr());
            made || (kept && self.there.refs.find(branch.as_bstr()).is_some())
        };
        let differs = |wanted: &&RefName| target_head.was_looked_at() && target_head.branch() != Some(*wanted);
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
        // A ref that is refused may need what another one was.
        let loses = edits.len() > 1 && edits.iter().any(|edit| edit.old.is_some());
        let report = match loses {
            true => self.push_edits_atomically(&edits)?,
            false => self.push_edits(&edits)?,
        };
        if loses && !report.is_ok() {
            return Ok(None);
        }
        self.carried.head = head.map(RefName::to_string).or(self.carried.head.take());
        self.settle(&edits, report);
        self.look_at_refused().map(|()| Some(settled))
    }

    /// Keeps diverged tips: their objects are at the target. What cannot be kept is left alone.
    fn preserve(&mut self, plan: &mut Plan<'_>) -> Result<(), RemotesError> {
        let kept = std::mem::take(&mut plan.preserve);
        let mut lost = Vec::new();
        for kept in kept.chunks(self.task.limits.refs_per_push.max(1)) {
            self.preserve_some(kept, &mut lost)?;
        }
        plan.leave(&lost);
        Ok(())
    }

    fn preserve_some(&mut self, kept: &[Preserve], lost: &mut Vec<(BString, String)>) -> Result<(), RemotesError> {
        let commands: Vec<Command> = kept.iter().map(Preserve::command).collect();
        let report = self.push_empty(&commands)?;
        if self.may_part(kept.len()) && declines_all(&report) {
            let (some, others) = kept.split_at(kept.len() / 2);
            self.preserve_some(some, lost)?;
            return self.preserve_some(others, lost);
        }
        for (kept, outcome) in kept.iter().zip(report.refs) {
            match outcome.result {
                Ok(()) => {
                    self.carried.preserved += 1;
                    self.after.edit(&kept.name, None, Some(&RefValue::Object(kept.id)));
                    let reason = format!("{} was made at the target; it is kept as {}", kept.id, kept.name);
                    self.carried.notes.add(kept.of.as_bstr(), Outcome::Preserved, reason);
                }
                Err(reason) => lost.push((kept.of.clone(), reason)),
            }
        }
        Ok(())
    }

    fn delete(&mut self, deletions: &[Edit<'_>]) -> Result<(), RemotesError> {
        deletions.chunks(self.task.limits.refs_per_push.max(1)).try_for_each(|edits| self.update(edits))
    }
}
