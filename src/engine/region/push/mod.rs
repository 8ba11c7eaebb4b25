//! Pushes: objects and ref commands from a client become one change, or nothing.
//!
//! A push has three steps. [`mod@judge`] receives the pack, checks it, proves connectivity and asks the hook; it blocks and
//! changes nothing. [`decide`](decide::decide) determines the outcome for each ref in one exact state. [`Region::push`]
//! makes the pack durable and commits, deciding again each time another writer comes first. [`Serving`] runs all three
//! behind Git's protocol.

mod decide;
mod judge;
mod lfs;
mod serve;
mod state;
mod unborn;

use std::time::Duration;

use gix::bstr::ByteSlice;

use super::commit::Proposal;
use super::lfs::MAX_LFS_BYTES;
use super::manifest::LivePack;
use super::new_pack::NewPack;
use super::{Region, RegionError, Result};
use crate::ledger::LedgerError;
use crate::ledger::change::{LfsObject, RefEdit};
use crate::ledger::head::HeadItem;
use gitferry_git::own_refs::{is_link_ref, is_own};
use gitferry_git::pack::ArrivalLimits;
use gitferry_git::receive_pack::{Outcome, PreReceive, PushRequest, Report};
use gitferry_git::refs::RefValue;
use gitferry_git::{fsck, local::RefPatterns};

pub use decide::{Decision, Fact, decide};
pub use judge::{Judged, MAX_SEPARATE_WALKS, PushProgress, judge};
pub use lfs::{MAX_REPORTED_LFS, Missing};
pub use serve::{MAX_DRAINED_BYTES, Serving};
pub use state::{CommitPermit, FreshStates, PushState, PushStates, without};
pub use unborn::Unborn;

/// Attempts of a push against concurrent writers; in each round at least one of them wins.
pub const MAX_PUSH_ATTEMPTS: u32 = 128;
/// Longest wait between two attempts.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// Largest accepted pack in bytes, unless a policy sets another limit.
pub const MAX_PUSH_BYTES: u64 = 16 << 30;
/// Largest accepted object in bytes, unless a policy sets another limit.
pub const MAX_OBJECT_BYTES: u64 = 4 << 30;

/// Operations that are forbidden on some refs.
#[derive(Clone, Debug)]
pub struct Protection {
    /// Protected refs.
    pub refs: RefPatterns,
    /// Forbids updates that are not fast-forwards.
    pub no_force: bool,
    /// Forbids deletions.
    pub no_delete: bool,
    /// Forbids every change.
    pub no_push: bool,
}

/// Rules of a repository for pushes.
#[derive(Clone, Debug)]
pub struct PushPolicy {
    /// Size limits of the pack and its objects.
    pub limits: ArrivalLimits,
    /// Rules of the object check; `None` skips it.
    pub rules: Option<fsck::Rules>,
    /// Protected refs. Several protections may apply to a ref.
    pub protections: Vec<Protection>,
    /// Refs that clients neither see nor change; `None` for none.
    pub hidden: Option<RefPatterns>,
    /// Treatment of pointers to missing LFS objects.
    pub lfs: Missing,
    /// Largest accepted LFS object, in bytes.
    pub lfs_object_bytes: u64,
    /// Hook that accepts or declines the push.
    pub hook: Option<std::sync::Arc<dyn PreReceive>>,
    /// True for pushes of links, which see and write the refs that links keep below `refs/gitferry/`.
    pub mirror: bool,
    /// Sets HEAD along with the push, which Git's protocol cannot express: the branch of the old HEAD may be deleted
    /// then.
    pub with_head: Option<WithHead>,
}

/// HEAD that comes with a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WithHead {
    /// HEAD after the push; `None` leaves HEAD as it is.
    pub head: Option<RefValue>,
}

impl Default for PushPolicy {
    fn default() -> Self {
        PushPolicy {
            limits: ArrivalLimits { pack_bytes: MAX_PUSH_BYTES, object_bytes: MAX_OBJECT_BYTES },
            rules: Some(fsck::Rules::default()),
            protections: Vec::new(),
            hidden: None,
            lfs: Missing::default(),
            lfs_object_bytes: MAX_LFS_BYTES,
            hook: None,
            mirror: false,
            with_head: None,
        }
    }
}

/// Outcome of a push.
#[derive(Debug)]
pub struct Pushed {
    /// Report for the client.
    pub report: Report,
    /// Head after the push, if anything changed; pass it to [`Region::maintain_snapshot`].
    pub item: Option<HeadItem>,
}

impl Region {
    /// Commits a push that has been judged in `state`.
    ///
    /// The commit goes to the repository of `state` and to no other, even if its name denotes another repository when
    /// the push is decided again.
    ///
    /// # Errors
    /// The push failed as a whole and left nothing behind, unless [`RegionError::proves_nothing_happened`] is false:
    /// then the change may have become visible.
    pub async fn push(
        &self,
        states: &dyn PushStates,
        state: PushState,
        policy: &PushPolicy,
        request: &PushRequest,
        judged: Judged,
        actor: &str,
    ) -> Result<Pushed> {
        let mut judged = judged;
        let lfs = self.judge_lfs(state.item.id, policy, &request.commands, &mut judged).await?;
        let Judged { facts, pack, unpack, messages, .. } = judged;
        let mut packs = Packs::Spooled(pack.map(Box::new));
        let mut push =
            Attempt { region: self, policy, request, facts: &facts, lfs: &lfs.held, actor, state, named: false };
        let mut waits = 1;
        // Uploads run concurrently, commits one by one.
        let mut ready = push.put(&mut packs).await;
        let permit = match &ready {
            Ok(()) => states.commit_permit(push.state.item.id).await,
            Err(_) => None,
        };
        if permit.is_some() {
            ready = push.refresh(states).await;
        }
        let result = loop {
            if let Err(error) = ready {
                break Err(error);
            }
            match push.once(&mut packs).await {
                Err(RegionError::Ledger(LedgerError::Lost { .. }) | RegionError::Moved { .. })
                    if waits < MAX_PUSH_ATTEMPTS =>
                {
                    self.back_off(waits, MAX_WAIT).await;
                    waits += 1;
                    ready = push.refresh(states).await;
                }
                result => break result,
            }
        };
        drop(permit);
        let name = &push.state.item.head.name;
        let result = match result {
            Err(RegionError::Ledger(LedgerError::Lost { .. })) => Err(RegionError::Moved { repository: name.clone() }),
            result => result,
        };
        match (&result, packs) {
            (Err(error), Packs::Durable(live)) => self.drop_packs(&live, error).await,
            (Ok((_, None)), Packs::Durable(live)) => self.drop_unnamed(&live).await,
            _ => {}
        }
        let (decision, item) = result?;
        if push.named
            && let Err(error) = self.forget_missing(push.state.item.id, &lfs.noted).await
        {
            tracing::warn!(
                %error, repository = %push.state.item.id,
                "could not remove the notes of LFS objects that have come; the next sweep names the objects again"
            );
        }
        let refs = request.commands.iter().zip(decision.outcomes);
        let refs = refs.map(|(command, result)| Outcome { name: command.name.clone(), result }).collect();
        let messages = messages.into_iter().chain(decision.messages).collect();
        Ok(Pushed { report: Report { unpack, refs, messages }, item })
    }

    /// Waits for a random time up to 2 ms × `attempt`, at most `longest`, so that writers that lost together come back
    /// apart.
    pub(super) async fn back_off(&self, attempt: u32, longest: Duration) {
        let longest = Duration::from_millis(2).saturating_mul(attempt).min(longest);
        let random = u32::from(self.clock.new_id().as_bytes()[15]) + 1;
        tokio::time::sleep(longest * random / 256).await;
    }
}

/// The pack of a push, before or after its upload.
enum Packs {
    Spooled(Option<Box<NewPack>>),
    Durable(Vec<LivePack>),
}

struct Attempt<'a> {
    region: &'a Region,
    policy: &'a PushPolicy,
    request: &'a PushRequest,
    facts: &'a [Fact],
    lfs: &'a [LfsObject],
    actor: &'a str,
    state: PushState,
    /// True once a commit has named the LFS objects.
    named: bool,
}

impl Attempt<'_> {
    /// Takes the newest state of the same repository.
    async fn refresh(&mut self, states: &dyn PushStates) -> Result<()> {
        let state = states.state().await?;
        if state.item.id != self.state.item.id {
            let HeadItem { id, head, .. } = &self.state.item;
            return Err(RegionError::Replaced { name: head.name.clone(), region: self.region.name.clone(), id: *id });
        }
        self.state = state;
        Ok(())
    }

    fn decide(&self) -> Decision {
        decide(&self.request.commands, self.facts, &self.state, self.policy, self.request.capabilities.atomic)
    }

    /// Makes the pack durable if a ref is to be written that may need it.
    async fn put(&self, packs: &mut Packs) -> Result<()> {
        let region = self.region;
        let state = &self.state;
        region.check_writable(&state.item)?;
        let brings = self.decide().edits.iter().any(|edit| edit.new.is_some());
        if let (true, Packs::Spooled(pack)) = (brings, &mut *packs) {
            // Only packs in the manifest deduplicate: others may be about to be deleted.
            let new = pack.take().filter(|pack| state.manifest.find(&pack.checked.id).is_none());
            *packs =
                Packs::Durable(region.put_packs(state.item.id, new.into_iter().map(|pack| *pack).collect()).await?);
            gitferry_base::fault::crash_point("push-put-packs");
        }
        Ok(())
    }

    async fn once(&mut self, packs: &mut Packs) -> Result<(Decision, Option<HeadItem>)> {
        let region = self.region;
        region.check_writable(&self.state.item)?;
        let mut decision = self.decide();
        if decision.edits.is_empty() && decision.head.is_none() {
            return Ok((decision, None));
        }
        let brings = decision.edits.iter().any(|edit| edit.new.is_some());
        self.put(packs).await?;
        let mut proposal: Proposal = region.proposal(self.actor);
        if let Packs::Durable(live) = packs {
            proposal.packs = live.clone();
        }
        if brings {
            proposal.lfs = self.lfs.to_vec();
        }
        proposal.head = decision.head.take();
        for RefEdit { old, new, .. } in &decision.edits {
            proposal.refs_added += i64::from(old.is_none()) - i64::from(new.is_none());
        }
        for edit in &decision.edits {
            proposal.edits.push(edit).map_err(|error| LedgerError::corrupt(error.to_string()))?;
        }
        let item = region.commit(&self.state.subject(), proposal).await?;
        self.named = brings;
        Ok((decision, Some(item)))
    }
}

/// Returns true if clients may not see a ref. Links (`mirror`) see the refs that links keep.
pub fn is_hidden(name: &[u8], hidden: Option<&RefPatterns>, mirror: bool) -> bool {
    is_reserved(name, mirror) || hidden.is_some_and(|hidden| hidden.matches(name.as_bstr()))
}

/// Returns true if clients may not write a ref because it is gitferry's own.
fn is_reserved(name: &[u8], mirror: bool) -> bool {
    is_own(name) && !(mirror && is_link_ref(name))
}
