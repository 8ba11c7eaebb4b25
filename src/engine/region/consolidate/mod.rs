//! Consolidation: merges small packs into larger ones, so that no manifest fills up however many changes bring packs.
//! Objects are copied in compressed form; none is dropped.
//!
//! Consolidation is local to one region: the ledger names the packs that came, the manifest those that are here now.
//! One process at a time consolidates a repository (a lease, for economy only). The result is one conditional write of
//! the manifest. The head is not touched, so pushes and consolidation do not defeat each other: if the manifest has
//! changed meanwhile, the result is applied to the newer one.

mod aside;
mod choose;
mod merge;
mod replaced;

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::commit::back_off;
use super::manifest::{LivePack, Manifest};
use super::{Region, RegionError, Result};
use crate::ledger::head::{Head, HeadItem, RepositoryId};
use crate::ledger::heads::read_head;
use crate::ledger::keys;
use crate::ledger::refs::wants_snapshot;
use gitferry_base::Kind;
use gitferry_base::fault::crash_point;
use gitferry_store::table::lease::Waiter;
use gitferry_store::table::{Condition, TableError, Write};

pub use aside::{PackAside, PacksAside};
pub use choose::{CONSOLIDATE_ABOVE, choose};
use merge::Merger;
pub use replaced::ReplacedPacks;

/// Most rounds of one run.
const MAX_ROUNDS: usize = 64;
/// Attempts to apply a result to a newer manifest; each failure means that another writer succeeded.
const MAX_ADOPT_ATTEMPTS: u32 = 1_000;
/// Attempts among these that may fail because the table does not answer.
const MAX_UNANSWERED: u32 = 5;
/// Longest wait between two such attempts.
const MAX_ADOPT_WAIT: Duration = Duration::from_millis(50);
/// Number of packs in a manifest above which writers that bring packs wait for consolidation.
pub const CROWDED_ABOVE: usize = 500;
/// Longest wait of a writer for room in a manifest.
const MAX_ROOM_WAIT: Duration = Duration::from_secs(60);

/// Number of packs above which a writer waits for the consolidation lease: no other process may come to do the work.
const WAIT_FOR_LEASE_ABOVE: u64 = CONSOLIDATE_ABOVE as u64 + 20;
/// Longest wait for the lease; exceeds the time for which the lease of a dead process lasts.
const MAX_LEASE_WAIT: Duration = Duration::from_secs(12);

/// Outcome of consolidating one repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consolidated {
    /// Packs that were merged into fewer.
    pub merged: u64,
    /// Packs in the manifest afterwards.
    pub packs: u64,
    /// True if another process holds the lease of the repository.
    pub busy: bool,
    /// True if a snapshot of the refs was due and failed.
    pub snapshot_failed: bool,
}

impl Consolidated {
    /// Returns true if work remains that cannot be done now.
    pub fn is_stalled(&self) -> bool {
        self.snapshot_failed || (self.merged == 0 && self.packs > CONSOLIDATE_ABOVE as u64)
    }
}

/// Maintenance that one process at a time does for a repository.
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

/// Outcome of one round.
enum Round {
    Merged(u64),
    /// Damaged packs were found and set aside: choose again.
    SetAside,
    Nothing,
}

/// Merges packs and takes due snapshots, one process at a time for each repository.
#[derive(Clone, Copy, Debug)]
pub struct Consolidator<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the consolidator of this region.
    pub fn consolidator(&self) -> Consolidator<'_> {
        Consolidator { region: self }
    }
}

impl Consolidator<'_> {
    /// Consolidates a repository with many packs, for writers that have just brought one. Best effort: hosts and
    /// maintenance try again.
    pub async fn maintain_packs(self, id: RepositoryId, packs: usize) {
        if packs <= CONSOLIDATE_ABOVE {
            return;
        }
        let mut waiter = self.waiter(id);
        let deadline = Instant::now() + MAX_LEASE_WAIT;
        loop {
            match self.consolidate_with(id, &mut waiter).await {
                // Another process holds the lease, or has died and its lease is yet to expire.
                Ok(done) if done.busy && done.packs > WAIT_FOR_LEASE_ABOVE && Instant::now() < deadline => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, repository = %id, region = self.region.name(), "could not consolidate packs");
                    return;
                }
            }
        }
    }

    /// Consolidates a repository until it has few packs, unless another process holds the lease.
    pub async fn consolidate(self, id: RepositoryId) -> Result<Consolidated> {
        self.consolidate_with(id, &mut self.waiter(id)).await
    }

    /// Maintains every repository of the region that needs it, one after the other: consolidates packs, takes snapshots
    /// of refs that are due, and rechecks packs that were set aside. A repository that fails is skipped with a warning.
    /// Returns the number of merged packs.
    pub async fn consolidate_all(self) -> Result<u64> {
        let mut merged = 0;
        for id in self.region.repositories().list().await? {
            match self.maintain_with(id, &mut self.waiter(id)).await {
                Ok(done) => merged += done.merged,
                Err(error) => {
                    tracing::warn!(%error, repository = %id, region = self.region.name(), "could not consolidate packs");
                }
            }
        }
        let mut aside: Vec<RepositoryId> =
            self.region.packs_aside().all().await?.into_iter().map(|row| row.repository).collect();
        aside.dedup();
        for id in aside {
            let rechecked = async {
                let manifest = match read_head(self.region.table(), id).await? {
                    Some(item) => self.region.reader().manifest(&item).await?.0,
                    None => Manifest::default(),
                };
                self.region.packs_aside().recheck(id, &manifest, false).await
            };
            if let Err(error) = rechecked.await {
                tracing::warn!(%error, repository = %id, region = self.region.name(), "could not read damaged packs again");
            }
        }
        Ok(merged)
    }

    /// Returns the number of packs that the next round of consolidation would merge in the whole region. A repository
    /// that cannot be read is skipped with a warning.
    pub async fn would_consolidate(self) -> Result<u64> {
        let aside: HashSet<String> = self.region.packs_aside().all().await?.into_iter().map(|row| row.key).collect();
        let mut packs = 0;
        for item in self.region.repositories().heads().await?.items {
            match self.region.reader().manifest(&item).await {
                Ok((manifest, _)) => packs += choose(&manifest.packs, &aside).len() as u64,
                Err(error) => {
                    tracing::warn!(
                        %error, repository = item.head.name, region = self.region.name(),
                        "could not count the packs of a repository"
                    );
                }
            }
        }
        Ok(packs)
    }

    /// Returns a waiter for the consolidation lease of a repository. Keep it over several attempts, so that it notices
    /// a dead holder.
    pub fn waiter(self, id: RepositoryId) -> Waiter {
        Waiter::new(self.region.shared_table(), self.region.shared_clock(), keys::consolidation_lease(id))
    }

    /// Consolidates a repository like [`Self::consolidate`], with a waiter that is kept over several attempts.
    pub async fn consolidate_with(self, id: RepositoryId, waiter: &mut Waiter) -> Result<Consolidated> {
        self.work_with(id, waiter, &[Chore::Consolidation]).await
    }

    /// Takes a due snapshot and consolidates, with a waiter that is kept over several attempts.
    pub async fn maintain_with(self, id: RepositoryId, waiter: &mut Waiter) -> Result<Consolidated> {
        self.work_with(id, waiter, &[Chore::Snapshot, Chore::Consolidation]).await
    }

    async fn work_with(self, id: RepositoryId, waiter: &mut Waiter, chores: &[Chore]) -> Result<Consolidated> {
        let Some(item) = read_head(self.region.table(), id).await? else { return Ok(Consolidated::default()) };
        let packs = self.region.reader().manifest(&item).await?.0.packs.len();
        let mut done = Consolidated { packs: packs as u64, ..Consolidated::default() };
        if !chores.iter().any(|chore| chore.is_due(&item.head, packs)) {
            return Ok(done);
        }
        let Some(lease) = waiter.try_take().await? else { return Ok(Consolidated { busy: true, ..done }) };
        let lost = lease.lost().clone();
        let result = tokio::select! {
            result = self.work(item, chores, &mut done) => result,
            () = lost.cancelled() => Ok(()),
        };
        lease.release().await;
        result.map(|()| done)
    }

    async fn work(self, item: HeadItem, chores: &[Chore], done: &mut Consolidated) -> Result<()> {
        let mut item = item;
        for chore in chores {
            match chore {
                Chore::Snapshot => {
                    item = self.region.snapshots().maintain(item).await;
                    done.snapshot_failed = wants_snapshot(&item.head);
                }
                Chore::Consolidation if done.packs > CONSOLIDATE_ABOVE as u64 => self.rounds(&item, done).await?,
                Chore::Consolidation => {}
            }
        }
        Ok(())
    }

    async fn rounds(self, item: &HeadItem, done: &mut Consolidated) -> Result<()> {
        for _ in 0..MAX_ROUNDS {
            let (manifest, _) = self.region.reader().manifest(item).await?;
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

    async fn round(self, item: &HeadItem, manifest: &Manifest) -> Result<Round> {
        let aside = self.region.packs_aside().recheck(item.id, manifest, false).await?;
        let aside: HashSet<String> = aside.into_iter().map(|row| row.key).collect();
        let chosen = choose(&manifest.packs, &aside);
        if chosen.is_empty() {
            return Ok(Round::Nothing);
        }
        let merger = Merger::new(self.region);
        let examined = merger.examine(&chosen).await?;
        self.region.packs_aside().set(item.id, &examined.damaged).await?;
        let chosen = examined.sound;
        if chosen.len() < 2 {
            return Ok(Round::SetAside);
        }
        let pack = match merger.merge(&chosen, item.head.format).await {
            Ok(pack) => pack,
            // The bytes match the manifest, but the packs cannot be merged: they were bad before they were recorded.
            Err(error) if error.kind() == Kind::Corrupt => {
                let mut damaged = merger.check_each(&chosen, item.head.format).await?;
                if damaged.is_empty() {
                    let reason = format!("it could not be merged with others: {error}");
                    damaged = chosen.into_iter().map(|pack| (pack, reason.clone())).collect();
                }
                self.region.packs_aside().set(item.id, &damaged).await?;
                return Ok(Round::SetAside);
            }
            Err(error) => return Err(error),
        };
        crash_point("consolidate-merged");
        let merged = self.region.uploads().put(item.id, vec![pack]).await?;
        crash_point("consolidate-put");
        let Some(merged) = merged.into_iter().next() else { unreachable!("each pack that was put has an entry") };
        let adopted = self.adopt(item, &chosen, &merged).await?;
        Ok(if adopted { Round::Merged(chosen.len() as u64) } else { Round::Nothing })
    }

    /// Replaces `chosen` by the merged pack in the current manifest. Returns false if some of them are no longer listed
    /// because another process has consolidated.
    async fn adopt(self, item: &HeadItem, chosen: &[LivePack], merged: &LivePack) -> Result<bool> {
        let inputs: HashSet<&str> = chosen.iter().map(|pack| pack.key.as_str()).collect();
        let mut unanswered = 0;
        for attempt in 1..=MAX_ADOPT_ATTEMPTS {
            let held = self.region.claims().held_packs(item.id, Some(item), &item.head.name).await?;
            let manifest = &held.manifest;
            let revision = held.revision;
            if manifest.packs.iter().any(|pack| pack.key == merged.key) {
                // An attempt whose answer was lost has succeeded.
                return Ok(true);
            }
            let Some(next) = manifest.replacing(&inputs, merged) else {
                // An attempt without an answer may have succeeded, and the merged pack may have been merged again
                // since.
                if unanswered == 0 {
                    self.region.uploads().drop_unnamed(std::slice::from_ref(merged)).await;
                }
                return Ok(false);
            };
            crash_point("consolidate-before-manifest");
            let mut writes =
                vec![self.region.claims().admit_uploads(&held, &item.head.name, std::slice::from_ref(merged)).await?];
            writes.extend(adopting(item.id, &next, revision, chosen)?);
            match self.region.table().transact(writes).await {
                Ok(()) => {
                    crash_point("consolidate-after-manifest");
                    return Ok(true);
                }
                Err(TableError::ConditionFailed { .. }) => back_off(self.region.clock(), attempt, MAX_ADOPT_WAIT).await,
                Err(TableError::Unavailable { .. }) if unanswered < MAX_UNANSWERED => {
                    unanswered += 1;
                    back_off(self.region.clock(), MAX_ADOPT_ATTEMPTS, MAX_ADOPT_WAIT).await;
                }
                // The merged pack stays; a sweep removes it unless the manifest names it.
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegionError::Moved { repository: item.head.name.clone() })
    }

    /// Waits for room in a crowded manifest, consolidating if possible: for writers that cannot proceed otherwise.
    ///
    /// # Errors
    /// [`RegionError::Full`] if there is no room after 60 seconds.
    pub async fn make_room(self, item: &HeadItem) -> Result<()> {
        let mut waiter = self.waiter(item.id);
        let deadline = Instant::now() + MAX_ROOM_WAIT;
        loop {
            let done = self.consolidate_with(item.id, &mut waiter).await?;
            if done.packs <= CROWDED_ABOVE as u64 {
                return Ok(());
            }
            if Instant::now() >= deadline || (!done.busy && done.merged == 0) {
                return Err(RegionError::Full { repository: item.head.name.clone(), packs: done.packs });
            }
        }
    }
}

/// Returns the writes of the next manifest and of one row for each replaced pack. Replaced packs stay readable for the
/// region's recovery window.
fn adopting(id: RepositoryId, next: &Manifest, revision: u64, chosen: &[LivePack]) -> Result<Vec<Write>> {
    assert!(
        chosen.iter().all(|gone| next.packs.iter().all(|pack| pack.key != gone.key)),
        "a pack of repository {id} that is to be deleted is no longer listed"
    );
    let document = serde_json::to_value(next).map_err(std::io::Error::from)?;
    let mut writes = vec![Write::put(keys::manifest(id), Condition::Revision(revision), document)];
    writes.extend(
        chosen.iter().map(|pack| Write::put(keys::retired(id, &pack.key), Condition::Any, json!({ "key": pack.key }))),
    );
    Ok(writes)
}
