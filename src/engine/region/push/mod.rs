//! A push: what came from a client becomes one change, or nothing.
//!
//! Three steps. [`judge`] takes the pack in, checks it, proves that nothing is missing, and asks the hook;
//! it is blocking and changes nothing. [`decide`](decide::decide) says for each ref what becomes of it in one
//! exact state. [`Region::push`] makes the pack durable and commits, deciding again as often as somebody else
//! comes first. [`Serving`] is all of that behind Git's protocol.

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
use gitferry_git::own_refs::{is_of_links, is_own};
use gitferry_git::pack::ArrivalLimits;
use gitferry_git::receive_pack::{Outcome, PreReceive, PushRequest, Report};
use gitferry_git::refs::RefValue;
use gitferry_git::{fsck, local::RefPatterns};

pub use decide::{Decision, Fact, decide};
pub use judge::{Judged, MAX_SEPARATE_WALKS, PushProgress, judge};
pub use lfs::{MAX_TOLD_LFS, Missing};
pub use serve::{MAX_DRAINED_BYTES, Serving};
pub use state::{FreshStates, PushState, PushStates, Turn, without};
pub use unborn::Unborn;

/// How often a push that lost against others is decided again: each time at least one of them has won.
pub const MAX_PUSH_ATTEMPTS: u32 = 128;
/// The longest wait between two attempts.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// Largest pack that is accepted, unless a policy says otherwise.
pub const MAX_PUSH_BYTES: u64 = 16 << 30;
/// Largest object that is accepted, unless a policy says otherwise.
pub const MAX_OBJECT_BYTES: u64 = 4 << 30;

/// What must not happen to some refs.
#[derive(Clone, Debug)]
pub struct Protection {
    /// Which refs.
    pub refs: RefPatterns,
    /// No updates but fast-forwards.
    pub no_force: bool,
    /// No deletions.
    pub no_delete: bool,
    /// Nothing at all.
    pub no_push: bool,
}

/// What a repository accepts.
#[derive(Clone, Debug)]
pub struct PushPolicy {
    /// What is too large.
    pub limits: ArrivalLimits,
    /// By which objects are checked; `None` for not at all.
    pub rules: Option<fsck::Rules>,
    /// What must not happen to which refs. A ref may be under several.
    pub protections: Vec<Protection>,
    /// Refs that clients neither see nor change; `None` for none.
    pub hidden: Option<RefPatterns>,
    /// What becomes of pointers to LFS objects that are not here.
    pub lfs: Missing,
    /// Largest LFS object that is accepted, in bytes.
    pub lfs_object_bytes: u64,
    /// Who else is asked.
    pub hook: Option<std::sync::Arc<dyn PreReceive>>,
    /// Whether links push here: they see and write what links keep below `refs/gitferry/`.
    pub mirror: bool,
    /// Set where HEAD comes with the push, as Git's protocol cannot say: the branch that it names may be deleted then.
    pub with_head: Option<WithHead>,
}

/// HEAD, as it comes with a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WithHead {
    /// HEAD after the push; as it is when left out.
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

/// What a push came to.
#[derive(Debug)]
pub struct Pushed {
    /// What the client is told.
    pub report: Report,
    /// The head after it, if it changed anything. [`Region::maintain_snapshot`] is the caller's to call.
    pub item: Option<HeadItem>,
}

impl Region {
    /// Commits a push that has been judged in `state`.
    ///
    /// It goes to the repository of `state` and to no other, whatever its name means when it is decided again.
    ///
    /// # Errors
    /// The push as a whole failed, and nothing of it is left, unless the error does not prove that
    /// ([`RegionError::proves_nothing_happened`]): its change may have become visible all the same.
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
        // The upload goes side by side with those of others, the commit one by one.
        let mut ready = push.put(&mut packs).await;
        let turn = match &ready {
            Ok(()) => states.turn(push.state.item.id).await,
            Err(_) => None,
        };
        if turn.is_some() {
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
                    self.wait_a_little(waits, MAX_WAIT).await;
                    waits += 1;
                    ready = push.refresh(states).await;
                }
                result => break result,
            }
        };
        drop(turn);
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
            tracing::warn!(%error, repository = %push.state.item.id, "notes of LFS objects that have come stay");
        }
        let refs = request.commands.iter().zip(decision.outcomes);
        let refs = refs.map(|(command, result)| Outcome { name: command.name.clone(), result }).collect();
        let messages = messages.into_iter().chain(decision.messages).collect();
        Ok(Pushed { report: Report { unpack, refs, messages }, item })
    }

    /// Lets others go first: writers that lost at the same time come back at different ones, after `longest` at most.
    pub(super) async fn wait_a_little(&self, attempt: u32, longest: Duration) {
        let longest = Duration::from_millis(2).saturating_mul(attempt).min(longest);
        let random = u32::from(self.clock.new_id().as_bytes()[15]) + 1;
        tokio::time::sleep(longest * random / 256).await;
    }
}

/// The pack of a push.
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
    /// Its change names the LFS objects.
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

    /// Makes the pack durable, where a ref is to be written for which it may be needed.
    async fn put(&self, packs: &mut Packs) -> Result<()> {
        let (region, state) = (self.region, &self.state);
        region.check_writable(&state.item)?;
        let brings = self.decide().edits.iter().any(|edit| edit.new.is_some());
        if let (true, Packs::Spooled(pack)) = (brings, &mut *packs) {
            // Only live entries deduplicate: they are not about to be deleted.
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

/// Whether those who push may not see a ref; links (`mirror`) see what links keep.
pub fn is_hidden(name: &[u8], hidden: Option<&RefPatterns>, mirror: bool) -> bool {
    is_reserved(name, mirror) || hidden.is_some_and(|hidden| hidden.matches(name.as_bstr()))
}

/// Whether those who push may not write a ref because it is gitferry's own.
fn is_reserved(name: &[u8], mirror: bool) -> bool {
    is_own(name) && !(mirror && is_of_links(name))
}
