//! The target's `HEAD` and its symbolic refs, which receive-pack neither advertises nor changes.

use std::collections::HashSet;

use gix::bstr::{BString, ByteSlice};

use super::error::MirrorError;
use super::pass::MirrorPass;
use super::plan::{Edit, Plan};
use super::report::NoteKind;
use gitferry_git::client::UploadPack;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_remote::HeadSet;

/// Most deletions whose refs are listed by name, to find symbolic ones. With more, all refs are listed.
const MAX_ASKED: usize = 256;

/// Value of the target's `HEAD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TargetHead {
    /// Not queried: the value does not matter, or could not be changed.
    NotQueried,
    /// Detached, or not reported by the target.
    Unknown,
    /// Symbolic ref to this branch.
    Names(RefName),
}

impl TargetHead {
    /// The branch, where it is known.
    pub fn branch(&self) -> Option<&RefName> {
        match self {
            TargetHead::Names(branch) => Some(branch),
            TargetHead::NotQueried | TargetHead::Unknown => None,
        }
    }

    /// Returns true if the target was queried.
    pub fn was_queried(&self) -> bool {
        *self != TargetHead::NotQueried
    }
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

impl MirrorPass<'_, '_> {
    /// Queries the target's `HEAD` over a connection of its own, where its value matters: when refs are deleted, on a
    /// first copy, or when the source's `HEAD` may have changed and the target's can be set. Removes deletions of
    /// symbolic refs from the plan, since receive-pack would delete the refs that they point to.
    pub(super) fn query_target_head(&mut self, plan: &mut Plan<'_>, wanted: Option<&RefName>) -> TargetHead {
        let settled = self.task.checkpoint.is_some_and(|last| last.head == wanted.map(RefName::to_string));
        let follows = wanted.is_some() && !settled && self.task.heads.can_set();
        let is_first = self.target_objects.is_empty() && !plan.is_empty();
        if plan.deletions.is_empty() && !follows && !is_first {
            return TargetHead::NotQueried;
        }
        let mut asked: Vec<&[u8]> = vec![b"HEAD"];
        if plan.deletions.len() > MAX_ASKED {
            asked.push(b"refs/")
        } else {
            asked.extend(plan.deletions.iter().map(|edit| edit.name.as_bytes()))
        }
        let listed = UploadPack::open(self.target).and_then(|mut upload| upload.list(&asked));
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

    /// Sets the target's `HEAD` to a branch, unless `HEAD` names it already or the branch is missing.
    pub(super) fn follow_head(
        &mut self,
        wanted: Option<&RefName>,
        target_head: &TargetHead,
        gone: &HashSet<BString>,
    ) -> Result<Followed, MirrorError> {
        let Some(wanted) = wanted else { return Ok(Followed::Settled) };
        match target_head {
            TargetHead::NotQueried => return Ok(Followed::Settled),
            TargetHead::Names(now) if now == wanted => return Ok(Followed::Settled),
            TargetHead::Unknown if !self.task.heads.can_set() => return Ok(Followed::Settled),
            TargetHead::Unknown | TargetHead::Names(_) => {}
        }
        if !self.has_branch(wanted, gone) {
            return Ok(Followed::NotYet);
        }
        Ok(if self.move_head(wanted)? { Followed::Set } else { Followed::Settled })
    }

    /// Returns true if a branch exists at the target by now.
    fn has_branch(&self, branch: &RefName, gone: &HashSet<BString>) -> bool {
        let was_there = self.target_refs.refs.find(branch.as_bstr()).is_some() && !gone.contains(branch.as_bstr());
        was_there || self.head_branch_created
    }

    pub(super) fn move_head(&mut self, branch: &RefName) -> Result<bool, MirrorError> {
        self.task.before_push()?;
        let why_not = match self.task.heads.set_head(branch)? {
            HeadSet::Done => {
                self.outcome.head = Some(branch.to_string());
                return Ok(true);
            }
            HeadSet::NoApi => "the target has no API to set it".to_owned(),
            HeadSet::Denied(reason) => format!("its API refuses: {reason}"),
        };
        self.outcome.remark(&format!("the target's HEAD should name {branch}, but {why_not}"));
        Ok(false)
    }

    pub(super) fn keep_current_branch(&mut self, edit: &Edit<'_>, wanted: Option<&RefName>) {
        let reason = match wanted {
            Some(wanted) if wanted.as_bstr() != edit.name.as_ref() => {
                format!("the target's HEAD names it: make it name {wanted}, then the next pass deletes it")
            }
            _ => "the target's HEAD names it, and the source's HEAD names no existing branch".into(),
        };
        self.outcome.notes.add(edit.name.as_ref(), NoteKind::Pending, reason);
        self.unconfirmed.push(edit.name.clone().into_owned());
    }
}
