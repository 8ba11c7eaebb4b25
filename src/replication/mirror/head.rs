//! The target's `HEAD` and its symbolic refs, which receive-pack neither advertises nor changes.

use gix::bstr::{BStr, ByteSlice};

use super::checkpoint::Checkpoint;
use super::ends::HeadSetter;
use super::error::MirrorError;
use super::plan::{Edit, Plan};
use super::report::MirrorOutcome;
use super::settle::Settlement;
use super::target::Target;
use gitferry_git::client::{Server, UploadPack};
use gitferry_git::refs::{RefName, RefValue};
use gitferry_remote::HeadSet;

/// Most deletions whose refs are listed by name, to find symbolic ones. With more, all refs are listed.
const MAX_ASKED: usize = 256;

/// Value of the target's `HEAD`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TargetHead {
    /// Not queried: the value does not matter, or could not be changed.
    NotQueried,
    /// Detached, or not reported by the target.
    Unknown,
    /// Symbolic ref to this branch.
    Names(RefName),
}

/// Progress of the target's `HEAD` towards the source's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// `HEAD` was set in this pass.
    Set,
    /// `HEAD` names the branch already, or cannot be set.
    Settled,
    /// The branch does not exist at the target yet.
    NotYet,
}

/// Lets the target's `HEAD` follow the source's.
pub(super) struct HeadFollower<'p> {
    heads: &'p dyn HeadSetter,
    /// Branch that the target's `HEAD` should name.
    wanted: Option<RefName>,
    /// The target's `HEAD` before the pass.
    now: TargetHead,
}

/// Existence of the wanted branch at the target once the plan is carried out, as far as it is known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WantedBranch {
    /// The target has the branch, and the plan does not delete it.
    Present,
    /// The plan creates the branch.
    Created,
    /// The target lacks the branch, or the plan deletes it.
    Missing,
}

impl<'p> HeadFollower<'p> {
    /// Queries the target's `HEAD` over a connection of its own, where its value matters: when refs are deleted, on a
    /// first copy, or when the source's `HEAD` may have changed and the target's can be set. Removes deletions of
    /// symbolic refs from the plan, since receive-pack would delete the refs that they point to.
    pub fn query(
        heads: &'p dyn HeadSetter,
        wanted: Option<RefName>,
        last: Option<&Checkpoint>,
        target: &Target<'_>,
        plan: &mut Plan<'_>,
    ) -> Self {
        let settled = last.is_some_and(|last| last.head == wanted.as_ref().map(RefName::to_string));
        let follows = wanted.is_some() && !settled && heads.can_set();
        let is_first = target.objects().is_empty() && !plan.is_empty();
        let matters = !plan.deletions.is_empty() || follows || is_first;
        let now = if matters { query(target.server(), plan) } else { TargetHead::NotQueried };
        HeadFollower { heads, wanted, now }
    }

    /// Returns true if `HEAD` is set in one step with the refs of a push.
    pub fn comes_with_push(&self) -> bool {
        self.heads.comes_with_push()
    }

    /// The branch that `HEAD` names and that receive-pack would refuse to delete.
    pub fn undeletable(&self) -> Option<&BStr> {
        match &self.now {
            TargetHead::Names(branch) if !self.comes_with_push() => Some(branch.as_bstr()),
            _ => None,
        }
    }

    /// Existence of the wanted branch after this plan.
    pub fn wanted_branch(&self, plan: &Plan<'_>, target: &Target<'_>) -> WantedBranch {
        let Some(wanted) = &self.wanted else { return WantedBranch::Missing };
        let is_wanted = |edit: &Edit<'_>| edit.name.as_ref() == wanted.as_bstr();
        if target.refs_before().find(wanted.as_bstr()).is_some() && !plan.deletions.iter().any(is_wanted) {
            WantedBranch::Present
        } else if plan.edits.iter().any(is_wanted) {
            WantedBranch::Created
        } else {
            WantedBranch::Missing
        }
    }

    /// The branch that `HEAD` has to be set to; `None` where `HEAD` names it already or was not queried.
    pub fn differs(&self) -> Option<&RefName> {
        let is_named = |wanted: &&RefName| matches!(&self.now, TargetHead::Names(now) if now == *wanted);
        self.wanted.as_ref().filter(|wanted| self.now != TargetHead::NotQueried && !is_named(wanted))
    }

    /// Sets `HEAD` to this branch with the next push.
    pub fn set_with_next_push(&self, branch: &RefName) {
        self.heads.set_with_next_push(branch);
    }

    /// Sets the target's `HEAD` to the wanted branch, unless `HEAD` names it already or the branch is missing.
    pub fn follow(
        &self,
        branch: WantedBranch,
        target: &Target<'_>,
        settlement: &mut Settlement<'_>,
    ) -> Result<Followed, MirrorError> {
        let Some(wanted) = self.differs() else { return Ok(Followed::Settled) };
        if self.now == TargetHead::Unknown && !self.heads.can_set() {
            return Ok(Followed::Settled);
        }
        let exists = match branch {
            WantedBranch::Present => true,
            WantedBranch::Created => !settlement.unconfirmed().contains(wanted.as_bstr()),
            WantedBranch::Missing => false,
        };
        if !exists {
            return Ok(Followed::NotYet);
        }
        Ok(if self.set(wanted, target, settlement.outcome())? { Followed::Set } else { Followed::Settled })
    }

    /// Sets the target's `HEAD` to a branch that exists. Returns false, with a remark, where the target offers no way.
    pub fn set(&self, branch: &RefName, target: &Target<'_>, outcome: &mut MirrorOutcome) -> Result<bool, MirrorError> {
        target.check_fence()?;
        let why_not = match self.heads.set_head(branch)? {
            HeadSet::Done => {
                outcome.head = Some(branch.to_string());
                return Ok(true);
            }
            HeadSet::NoApi => "the target has no API to set it".to_owned(),
            HeadSet::Denied(reason) => format!("its API refuses: {reason}"),
        };
        outcome.remark(&format!("the target's HEAD should name {branch}, but {why_not}"));
        Ok(false)
    }

    /// Settles the deletion of the branch that `HEAD` still names: the branch stays.
    pub fn keep_current_branch(&self, edit: &Edit<'_>, settlement: &mut Settlement<'_>) {
        let reason = match &self.wanted {
            Some(wanted) if wanted.as_bstr() != edit.name.as_ref() => {
                format!("the target's HEAD names it: make it name {wanted}, then the next pass deletes it")
            }
            _ => "the target's HEAD names it, and the source's HEAD names no existing branch".into(),
        };
        settlement.leave(edit.name.as_ref(), reason);
    }

    /// The branch for the checkpoint: `None` while the target's `HEAD` still has to follow.
    pub fn branch_if(self, settled: bool) -> Option<RefName> {
        self.wanted.filter(|_| settled)
    }
}

/// Queries `HEAD` and the refs that the plan deletes. Removes deletions of symbolic refs from the plan.
fn query(target: &dyn Server, plan: &mut Plan<'_>) -> TargetHead {
    let mut asked: Vec<&[u8]> = vec![b"HEAD"];
    if plan.deletions.len() > MAX_ASKED {
        asked.push(b"refs/")
    } else {
        asked.extend(plan.deletions.iter().map(|edit| edit.name.as_bytes()))
    }
    let listed = UploadPack::open(target).and_then(|mut upload| upload.list(&asked));
    match listed {
        Ok(refs) => {
            plan.skip_symbolic(&refs.symbolic);
            match refs.head {
                Some(RefValue::Symbolic(branch)) => TargetHead::Names(branch),
                Some(RefValue::Object(_)) | None => TargetHead::Unknown,
            }
        }
        Err(error) => {
            tracing::info!(%error, "cannot query the target's HEAD");
            TargetHead::Unknown
        }
    }
}
