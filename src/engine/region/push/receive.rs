//! The last step of a push: the pack is made durable and committed.

use std::time::Duration;

use super::decide::{Decision, Fact, decide};
use super::judged::Judged;
use super::lfs::judge_lfs;
use super::policy::PushPolicy;
use super::rejection::Rejection;
use super::state::{PushState, PushStates};
use crate::ledger::LedgerError;
use crate::ledger::change::{LfsObject, RefEdit};
use crate::ledger::head::HeadItem;
use crate::region::commit::{Proposal, back_off};
use crate::region::manifest::LivePack;
use crate::region::new_pack::NewPack;
use crate::region::{Region, RegionError, Result};
use gitferry_git::receive_pack::{Outcome, PushRequest, Report};

/// Attempts of a push against concurrent writers; in each round at least one of them wins.
pub const MAX_PUSH_ATTEMPTS: u32 = 128;
/// Longest wait between two attempts.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// Outcome of a push.
#[derive(Debug)]
pub struct Pushed {
    /// Report for the client.
    pub report: Report,
    /// Cause of the first refusal; `None` if every command was accepted.
    pub rejection: Option<Rejection>,
    /// Head after the push, if anything changed; pass it to
    /// [`Snapshots::maintain`](crate::region::snapshots::Snapshots::maintain).
    pub item: Option<HeadItem>,
}

/// Commits pushes into a region.
#[derive(Clone, Copy, Debug)]
pub struct Receiver<'a> {
    pub(super) region: &'a Region,
}

impl Region {
    /// Returns the receiver of pushes into this region.
    pub fn receiver(&self) -> Receiver<'_> {
        Receiver { region: self }
    }
}

impl Receiver<'_> {
    /// Commits a push that has been judged in `state`.
    ///
    /// The commit goes to the repository of `state` and to no other, even if its name denotes another repository when
    /// the push is decided again.
    ///
    /// # Errors
    /// The push failed as a whole and left nothing behind, unless [`RegionError::proves_nothing_happened`] is false:
    /// then the change may have become visible.
    pub async fn push(
        self,
        states: &dyn PushStates,
        state: PushState,
        policy: &PushPolicy,
        request: &PushRequest,
        judged: Judged,
        actor: &str,
    ) -> Result<Pushed> {
        let mut judged = judged;
        let lfs = judge_lfs(self.region.lfs(), state.item.id, policy, &request.commands, &mut judged).await?;
        let Judged { facts, pack, unpack, messages, reserved, .. } = judged;
        let mut packs = PushPack::Spooled(pack.map(Box::new));
        let mut push =
            Attempt { region: self.region, policy, request, facts: &facts, lfs: &lfs.held, actor, state, named: false };
        let result = push.run(states, &mut packs).await;
        match (&result, packs) {
            (Err(error), PushPack::Durable(live)) => self.region.uploads().drop_packs(&live, error).await,
            (Ok((_, None)), PushPack::Durable(live)) => self.region.uploads().drop_unnamed(&live).await,
            _ => {}
        }
        let (decision, item) = result?;
        if let (Some(reserved), Some(_)) = (reserved, &item) {
            reserved.keep();
        }
        if push.named
            && let Err(error) = self.region.lfs().forget_missing(push.state.item.id, &lfs.noted).await
        {
            tracing::warn!(
                %error, repository = %push.state.item.id,
                "could not remove the notes of LFS objects that have come; the next sweep names the objects again"
            );
        }
        Ok(pushed(request, unpack, messages, decision, item))
    }
}

/// Reports a decision to the client.
fn pushed(
    request: &PushRequest,
    unpack: std::result::Result<(), String>,
    messages: Vec<String>,
    decision: Decision,
    item: Option<HeadItem>,
) -> Pushed {
    let refused = decision.outcomes.iter().find_map(|outcome| Some(outcome.as_ref().err()?.rejection));
    let rejection = refused.or_else(|| unpack.is_err().then_some(Rejection::Pack));
    let refs = request.commands.iter().zip(decision.outcomes).map(|(command, outcome)| Outcome {
        name: command.name.clone(),
        result: outcome.map_err(|refused| refused.reason),
    });
    let refs = refs.collect();
    let messages = messages.into_iter().chain(decision.messages).collect();
    Pushed { report: Report { unpack, refs, messages }, rejection, item }
}

/// The pack of a push, before or after its upload.
enum PushPack {
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
    /// Makes the pack durable and commits, deciding again each time another writer comes first.
    async fn run(&mut self, states: &dyn PushStates, packs: &mut PushPack) -> Result<(Decision, Option<HeadItem>)> {
        // Uploads run concurrently, commits one by one.
        self.put(packs).await?;
        let permit = states.commit_permit(self.state.item.id).await;
        if permit.is_some() {
            self.refresh(states).await?;
        }
        let mut attempts = 1;
        loop {
            match self.once(packs).await {
                Err(RegionError::Ledger(LedgerError::Lost { .. }) | RegionError::Moved { .. })
                    if attempts < MAX_PUSH_ATTEMPTS =>
                {
                    back_off(self.region.clock(), attempts, MAX_WAIT).await;
                    attempts += 1;
                    self.refresh(states).await?;
                }
                Err(RegionError::Ledger(LedgerError::Lost { .. })) => {
                    return Err(RegionError::Moved { repository: self.state.item.head.name.clone() });
                }
                result => return result,
            }
        }
    }

    /// Takes the newest state of the same repository.
    async fn refresh(&mut self, states: &dyn PushStates) -> Result<()> {
        let state = states.state().await?;
        if state.item.id != self.state.item.id {
            let HeadItem { id, head, .. } = &self.state.item;
            return Err(RegionError::Replaced {
                name: head.name.clone(),
                region: self.region.name().to_owned(),
                id: *id,
            });
        }
        self.state = state;
        Ok(())
    }

    fn decide(&self) -> Decision {
        decide(&self.request.commands, self.facts, &self.state, self.policy, self.request.capabilities.atomic)
    }

    /// Makes the pack durable if a ref is to be written that may need it.
    async fn put(&self, packs: &mut PushPack) -> Result<()> {
        let region = self.region;
        let state = &self.state;
        region.committer().check_writable(&state.item)?;
        let brings = self.decide().edits.iter().any(|edit| edit.new.is_some());
        if let (true, PushPack::Spooled(pack)) = (brings, &mut *packs) {
            // Only packs in the manifest deduplicate: others may be about to be deleted.
            let new = pack.take().filter(|pack| state.manifest.find(&pack.checked.id).is_none());
            *packs = PushPack::Durable(
                region.uploads().put(state.item.id, new.into_iter().map(|pack| *pack).collect()).await?,
            );
            gitferry_base::fault::crash_point("push-put-packs");
        }
        Ok(())
    }

    async fn once(&mut self, packs: &mut PushPack) -> Result<(Decision, Option<HeadItem>)> {
        let region = self.region;
        region.committer().check_writable(&self.state.item)?;
        let mut decision = self.decide();
        if decision.edits.is_empty() && decision.head.is_none() {
            return Ok((decision, None));
        }
        let brings = decision.edits.iter().any(|edit| edit.new.is_some());
        self.put(packs).await?;
        let mut proposal: Proposal = region.committer().proposal(self.actor);
        if let PushPack::Durable(live) = packs {
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
        let item = region.committer().commit(&self.state.subject(), proposal).await?;
        self.named = brings;
        Ok((decision, Some(item)))
    }
}
