//! Consolidating: small packs become larger ones, so that no manifest fills up however many changes bring
//! packs. Objects are copied as they are compressed, none is dropped.
//!
//! It is a matter of one region alone: the ledger names the packs that came, the manifest those that are
//! here now. One process at a time consolidates a repository (a lease, for economy alone). Its result is one
//! conditional write of the manifest; the head is not touched, so that pushes and consolidation do not defeat each
//! other: where the manifest has changed meanwhile, the result is applied to the newer one.

mod aside;
mod choose;
mod merge;
mod replaced;

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::manifest::{LivePack, Manifest};
use super::{Region, RegionError, Result};
use crate::ledger::advance::read_head;
use crate::ledger::head::{Head, HeadItem, RepositoryId};
use crate::ledger::keys;
use crate::ledger::refs::wants_snapshot;
use gitferry_base::Kind;
use gitferry_base::fault::crash_point;
use gitferry_store::table::lease::Waiter;
use gitferry_store::table::{Condition, TableError, Write};

pub use aside::PackAside;
pub use choose::{CONSOLIDATE_ABOVE, choose};

/// Most rounds of one run.
const MAX_ROUNDS: usize = 64;
/// How often a result is applied to a newer manifest: each time, another writer has succeeded.
const MAX_ADOPT_ATTEMPTS: u32 = 1_000;
/// How many of these attempts may fail because the table does not answer.
const MAX_UNANSWERED: u32 = 5;
/// The longest wait between two such attempts.
const MAX_ADOPT_WAIT: Duration = Duration::from_millis(50);
/// Writers that bring packs wait for consolidation while a manifest lists more than this many.
pub const CROWDED_ABOVE: usize = 500;
/// How long a writer waits for room in a manifest.
const MAX_ROOM_WAIT: Duration = Duration::from_secs(60);

/// A writer with more packs than this waits for its turn to consolidate: nothing else may come and do it.
const PATIENT_BELOW: u64 = CONSOLIDATE_ABOVE as u64 + 20;
/// The longest such wait: longer than the lease of a process that has died stays.
const MAX_TURN_WAIT: Duration = Duration::from_secs(12);

/// The result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consolidated {
    /// Packs that became fewer.
    pub merged: u64,
    /// Packs that the manifest lists afterwards.
    pub packs: u64,
    /// Another process is at work on the repository.
    pub busy: bool,
    /// A snapshot of the refs was due and could not be taken.
    pub snapshot_failed: bool,
}

impl Consolidated {
    /// Something is still to be done and cannot be at the moment.
    pub fn is_stalled(&self) -> bool {
        self.snapshot_failed || (self.merged == 0 && self.packs > CONSOLIDATE_ABOVE as u64)
    }
}

/// Work that one process at a time does for a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chore {
    Snapshot,
    Consolidation,
}

impl Chore {
    fn is_due(self, head: &Head, packs: usize) -> bool {
        match self {
            Chore::Snapshot => wants_snapshot(head),
            Chore::Consolidation => packs > CONSOLIDATE_ABOVE,
        }
    }
}

/// The result of one round.
enum Round {
    Merged(u64),
    /// Damaged packs were found and set aside: choose again.
    SetAside,
    Nothing,
}

impl Region {
    /// [`Region::consolidate`] where a repository has many packs, for writers that have just brought one. Best effort:
    /// nothing depends on its success, hosts and upkeep try again.
    pub async fn maintain_packs(&self, id: RepositoryId, packs: usize) {
        if packs <= CONSOLIDATE_ABOVE {
            return;
        }
        let mut turn = self.consolidation_turn(id);
        let deadline = Instant::now() + MAX_TURN_WAIT;
        loop {
            match self.consolidate_in_turn(id, &mut turn).await {
                // Another process is at work; or it has died, and its lease has yet to expire.
                Ok(done) if done.busy && done.packs > PATIENT_BELOW && Instant::now() < deadline => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, repository = %id, region = self.name, "could not consolidate packs");
                    return;
                }
            }
        }
    }

    /// Consolidates a repository until it has few packs, unless another process is doing that.
    pub async fn consolidate(&self, id: RepositoryId) -> Result<Consolidated> {
        self.consolidate_in_turn(id, &mut self.consolidation_turn(id)).await
    }

    /// Maintains every repository of the region that needs it, one after the other: consolidates those with many packs,
    /// takes the snapshots of refs that are due, and reads packs again that were set aside. A repository that fails is
    /// passed over with a warning.
    pub async fn consolidate_all(&self) -> Result<u64> {
        let mut merged = 0;
        for id in self.list().await? {
            match self.maintain_in_turn(id, &mut self.consolidation_turn(id)).await {
                Ok(done) => merged += done.merged,
                Err(error) => {
                    tracing::warn!(%error, repository = %id, region = self.name, "could not consolidate packs");
                }
            }
        }
        let mut aside: Vec<RepositoryId> = self.packs_aside().await?.into_iter().map(|row| row.repository).collect();
        aside.dedup();
        for id in aside {
            let rechecked = async {
                let manifest = match read_head(&*self.table, id).await? {
                    Some(item) => self.manifest(&item).await?.0,
                    None => Manifest::default(),
                };
                self.recheck_aside(id, &manifest, false).await
            };
            if let Err(error) = rechecked.await {
                tracing::warn!(%error, repository = %id, region = self.name, "could not read damaged packs again");
            }
        }
        Ok(merged)
    }

    /// How many packs the next round of consolidation would merge, over all repositories of the region. A repository
    /// that cannot be read is passed over with a warning.
    pub async fn would_consolidate(&self) -> Result<u64> {
        let aside: HashSet<String> = self.packs_aside().await?.into_iter().map(|row| row.key).collect();
        let mut packs = 0;
        for item in self.heads().await?.items {
            match self.manifest(&item).await {
                Ok((manifest, _)) => packs += choose(&manifest.packs, &aside).len() as u64,
                Err(error) => {
                    tracing::warn!(%error, repository = item.head.name, region = self.name, "its packs are not counted");
                }
            }
        }
        Ok(packs)
    }

    /// The queue for consolidating a repository; keep it over several attempts, to notice that a holder has died.
    pub fn consolidation_turn(&self, id: RepositoryId) -> Waiter {
        Waiter::new(&self.table, &self.clock, keys::consolidation_lease(id))
    }

    /// [`Region::consolidate`] with a place in the queue that is kept.
    pub async fn consolidate_in_turn(&self, id: RepositoryId, turn: &mut Waiter) -> Result<Consolidated> {
        self.work_in_turn(id, turn, &[Chore::Consolidation]).await
    }

    /// Does all that is due in a repository, with a place in the queue that is kept.
    pub async fn maintain_in_turn(&self, id: RepositoryId, turn: &mut Waiter) -> Result<Consolidated> {
        self.work_in_turn(id, turn, &[Chore::Snapshot, Chore::Consolidation]).await
    }

    async fn work_in_turn(&self, id: RepositoryId, turn: &mut Waiter, chores: &[Chore]) -> Result<Consolidated> {
        let Some(item) = read_head(&*self.table, id).await? else { return Ok(Consolidated::default()) };
        let packs = self.manifest(&item).await?.0.packs.len();
        let mut done = Consolidated { packs: packs as u64, ..Consolidated::default() };
        if !chores.iter().any(|chore| chore.is_due(&item.head, packs)) {
            return Ok(done);
        }
        let Some(lease) = turn.try_take().await? else { return Ok(Consolidated { busy: true, ..done }) };
        let lost = lease.lost().clone();
        let result = tokio::select! {
            result = self.work(item, chores, &mut done) => result,
            () = lost.cancelled() => Ok(()),
        };
        lease.release().await;
        result.map(|()| done)
    }

    async fn work(&self, item: HeadItem, chores: &[Chore], done: &mut Consolidated) -> Result<()> {
        let mut item = item;
        for chore in chores {
            match chore {
                Chore::Snapshot => {
                    item = self.maintain_snapshot(item).await;
                    done.snapshot_failed = wants_snapshot(&item.head);
                }
                Chore::Consolidation if done.packs > CONSOLIDATE_ABOVE as u64 => self.rounds(&item, done).await?,
                Chore::Consolidation => {}
            }
        }
        Ok(())
    }

    async fn rounds(&self, item: &HeadItem, done: &mut Consolidated) -> Result<()> {
        for _ in 0..MAX_ROUNDS {
            let (manifest, _) = self.manifest(item).await?;
            done.packs = manifest.packs.len() as u64;
            match self.round(item, &manifest).await? {
                Round::Merged(packs) => {
                    done.merged += packs;
                    done.packs = (done.packs + 1).saturating_sub(packs);
                }
                Round::SetAside => {}
                Round::Nothing => break,
            }
        }
        Ok(())
    }

    async fn round(&self, item: &HeadItem, manifest: &Manifest) -> Result<Round> {
        let aside = self.recheck_aside(item.id, manifest, false).await?;
        let aside: HashSet<String> = aside.into_iter().map(|row| row.key).collect();
        let chosen = choose(&manifest.packs, &aside);
        if chosen.is_empty() {
            return Ok(Round::Nothing);
        }
        let examined = self.examine(&chosen).await?;
        self.set_aside(item.id, &examined.damaged).await?;
        let chosen = examined.sound;
        if chosen.len() < 2 {
            return Ok(Round::SetAside);
        }
        let pack = match self.merge(&chosen, item.head.format).await {
            Ok(pack) => pack,
            // Their bytes are those that came, but no pack can be made of them: bad before they were recorded.
            Err(error) if error.kind() == Kind::Corrupt => {
                let mut damaged = self.check_each(&chosen, item.head.format).await?;
                if damaged.is_empty() {
                    let reason = format!("it could not be merged with others: {error}");
                    damaged = chosen.into_iter().map(|pack| (pack, reason.clone())).collect();
                }
                self.set_aside(item.id, &damaged).await?;
                return Ok(Round::SetAside);
            }
            Err(error) => return Err(error),
        };
        crash_point("consolidate-merged");
        let merged = self.put_packs(item.id, vec![pack]).await?;
        crash_point("consolidate-put");
        let Some(merged) = merged.into_iter().next() else { return Ok(Round::Nothing) };
        match self.adopt(item, &chosen, &merged).await? {
            true => Ok(Round::Merged(chosen.len() as u64)),
            false => Ok(Round::Nothing),
        }
    }

    /// Puts the merged pack in the place of those that it was made of, in the manifest as it is then. `false` where some
    /// of them are no longer there: another process has consolidated.
    async fn adopt(&self, item: &HeadItem, chosen: &[LivePack], merged: &LivePack) -> Result<bool> {
        let inputs: HashSet<&str> = chosen.iter().map(|pack| pack.key.as_str()).collect();
        let mut unanswered = 0;
        for attempt in 1..=MAX_ADOPT_ATTEMPTS {
            let held = self.held_packs(item.id, Some(item), &item.head.name).await?;
            let (manifest, revision) = (&held.manifest, held.revision);
            if manifest.packs.iter().any(|pack| pack.key == merged.key) {
                // An attempt whose answer was lost has succeeded.
                return Ok(true);
            }
            let Some(next) = manifest.replacing(&inputs, merged) else {
                // An attempt without an answer may have succeeded, and the merged pack may have been merged since.
                if unanswered == 0 {
                    self.drop_unnamed(std::slice::from_ref(merged)).await;
                }
                return Ok(false);
            };
            crash_point("consolidate-before-manifest");
            let mut writes = vec![self.admit_uploads(&held, &item.head.name, std::slice::from_ref(merged)).await?];
            writes.extend(adopting(item.id, &next, revision, chosen)?);
            match self.table.transact(writes).await {
                Ok(()) => {
                    crash_point("consolidate-after-manifest");
                    return Ok(true);
                }
                Err(TableError::ConditionFailed { .. }) => self.wait_a_little(attempt, MAX_ADOPT_WAIT).await,
                Err(TableError::Unavailable { .. }) if unanswered < MAX_UNANSWERED => {
                    unanswered += 1;
                    self.wait_a_little(MAX_ADOPT_ATTEMPTS, MAX_ADOPT_WAIT).await;
                }
                // The merged pack stays: the sweep removes it unless the manifest names it.
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegionError::Moved { repository: item.head.name.clone() })
    }

    /// Waits until a manifest that is full has room, and makes it: for writers that cannot go on without.
    ///
    /// # Errors
    /// [`RegionError::Full`] when there is none after a minute.
    pub async fn make_room(&self, item: &HeadItem) -> Result<()> {
        let mut turn = self.consolidation_turn(item.id);
        let deadline = Instant::now() + MAX_ROOM_WAIT;
        loop {
            let done = self.consolidate_in_turn(item.id, &mut turn).await?;
            if done.packs <= CROWDED_ABOVE as u64 {
                return Ok(());
            }
            if Instant::now() >= deadline || (!done.busy && done.merged == 0) {
                return Err(RegionError::Full { repository: item.head.name.clone(), packs: done.packs });
            }
        }
    }
}

/// Writes the next manifest and a row for each pack that it no longer lists: those stay readable for the region's
/// recovery window.
fn adopting(id: RepositoryId, next: &Manifest, revision: u64, chosen: &[LivePack]) -> Result<Vec<Write>> {
    let document = serde_json::to_value(next).map_err(std::io::Error::from)?;
    let mut writes = vec![Write::put(keys::manifest(id), Condition::Revision(revision), document)];
    writes.extend(
        chosen.iter().map(|pack| Write::put(keys::retired(id, &pack.key), Condition::Any, json!({ "key": pack.key }))),
    );
    Ok(writes)
}
