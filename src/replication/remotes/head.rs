//! The target's `HEAD`, and symbolic refs there. A push is told of neither, and cannot change either.

use std::collections::HashSet;

use gix::bstr::{BString, ByteSlice};

use super::error::RemotesError;
use super::plan::{Edit, Plan};
use super::relay::Relay;
use super::report::Outcome;
use gitferry_git::client::UploadPack;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_remote::HeadSet;

/// Most refs to be deleted that are asked for by name; with more, all are listed.
const MAX_ASKED: usize = 256;

/// What the target's `HEAD` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TargetHead {
    /// It was not looked at: it is settled, or nothing could be done about it.
    NotLookedAt,
    /// The target does not tell.
    Unknown,
    /// This branch.
    Names(RefName),
}

impl TargetHead {
    /// The branch, where it is known.
    pub fn branch(&self) -> Option<&RefName> {
        match self {
            TargetHead::Names(branch) => Some(branch),
            TargetHead::NotLookedAt | TargetHead::Unknown => None,
        }
    }

    /// Whether it was looked at.
    pub fn was_looked_at(&self) -> bool {
        *self != TargetHead::NotLookedAt
    }
}

/// How far the target's `HEAD` has followed the source's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// It was made to name the branch.
    Set,
    /// It names the branch already, or nothing can be done about it.
    Settled,
    /// The branch is not there yet.
    NotYet,
}

impl Relay<'_, '_> {
    /// Looks at the target's `HEAD` where that matters: when refs are deleted, on a first copy, or when the source's may
    /// have moved and there is a way to follow. That takes a conversation of its own. To delete a symbolic ref would delete
    /// what it names: those are left alone.
    pub(super) fn look_at_target(&mut self, plan: &mut Plan<'_>, wanted: Option<&RefName>) -> TargetHead {
        let settled = self.task.checkpoint.is_some_and(|last| last.head == wanted.map(RefName::to_string));
        let follows = wanted.is_some() && !settled && self.task.heads.can_set();
        let is_first = self.held.is_empty() && !plan.is_empty();
        if plan.deletions.is_empty() && !follows && !is_first {
            return TargetHead::NotLookedAt;
        }
        let mut asked: Vec<&[u8]> = vec![b"HEAD"];
        match plan.deletions.len() > MAX_ASKED {
            true => asked.push(b"refs/"),
            false => asked.extend(plan.deletions.iter().map(|edit| edit.name.as_bytes())),
        }
        let listed = UploadPack::open(self.target).and_then(|mut upload| upload.list(&asked));
        match listed {
            Ok(refs) => {
                plan.leave_symbolic(&refs.symbolic);
                match refs.head {
                    Some(RefValue::Symbolic(branch)) => TargetHead::Names(branch),
                    Some(RefValue::Object(_)) | None => TargetHead::Unknown,
                }
            }
            Err(error) => {
                tracing::info!(%error, "cannot tell what the target's HEAD names");
                TargetHead::Unknown
            }
        }
    }

    /// Makes the target's `HEAD` name a branch, if it does not and the branch is there.
    pub(super) fn follow_head(
        &mut self,
        wanted: Option<&RefName>,
        target_head: &TargetHead,
        gone: &HashSet<BString>,
    ) -> Result<Followed, RemotesError> {
        let Some(wanted) = wanted else { return Ok(Followed::Settled) };
        match target_head {
            TargetHead::NotLookedAt => return Ok(Followed::Settled),
            TargetHead::Names(now) if now == wanted => return Ok(Followed::Settled),
            TargetHead::Unknown if !self.task.heads.can_set() => return Ok(Followed::Settled),
            TargetHead::Unknown | TargetHead::Names(_) => {}
        }
        if !self.has_branch(wanted, gone) {
            return Ok(Followed::NotYet);
        }
        Ok(if self.move_head(wanted)? { Followed::Set } else { Followed::Settled })
    }

    /// Whether a branch is at the target by now.
    fn has_branch(&self, branch: &RefName, gone: &HashSet<BString>) -> bool {
        let was_there = self.there.refs.find(branch.as_bstr()).is_some() && !gone.contains(branch.as_bstr());
        was_there || self.made_head
    }

    pub(super) fn move_head(&mut self, branch: &RefName) -> Result<bool, RemotesError> {
        self.task.before_push()?;
        let why_not = match self.task.heads.set_head(branch)? {
            HeadSet::Done => {
                self.carried.head = Some(branch.to_string());
                return Ok(true);
            }
            HeadSet::NoApi => "there is no API by which gitferry could say so".to_owned(),
            HeadSet::Denied(reason) => format!("its API does not let gitferry say so: {reason}"),
        };
        self.carried.remark(&format!("the target's HEAD should name {branch}, and {why_not}"));
        Ok(false)
    }

    pub(super) fn leave_current(&mut self, edit: &Edit<'_>, wanted: Option<&RefName>) {
        let reason = match wanted {
            Some(wanted) if wanted.as_bstr() != edit.name.as_ref() => {
                format!("the target's HEAD names it: make it name {wanted}, then the next pass deletes it")
            }
            _ => "the target's HEAD names it, and the source's HEAD names no branch that there is".into(),
        };
        self.carried.notes.add(edit.name.as_ref(), Outcome::Pending, reason);
        self.unconfirmed.push(edit.name.clone().into_owned());
    }
}
