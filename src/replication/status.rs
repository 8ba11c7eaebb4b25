//! Status of a link, computed from the durable state of both sides, not from the memory of a worker.

use jiff::Timestamp;
use serde::{Deserialize as _, Serialize};

use super::error::{InRegion as _, ReplicationError};
use super::link::Link;
use super::pairs::{Broken, Pair, Pairs};
use super::plan::{Standing, standing};
use super::statistics::LinkRow;
use gitferry_base::Kind;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::head::{Frontier, RepositoryId, State};
use gitferry_engine::ledger::keys;
use gitferry_engine::ledger::log::{ChangeFacts, read_chain};
use gitferry_engine::region::consolidate::PackAside;
use gitferry_store::table::{Query, TableError};

/// Status of one repository on a link.
#[derive(Clone, Debug, Serialize)]
pub struct RepositoryStatus {
    /// Name of the repository, or its id if no name is known.
    pub repository: String,
    /// Id of the repository.
    pub id: String,
    /// `equal`, `behind`, `ahead` (of a source that is a replica itself), `fork`, `damaged`, or `unknown` if a store
    /// could not be read.
    pub standing: &'static str,
    /// State at the source: active, frozen or deleted; `None` if the source cannot be read.
    pub state: Option<State>,
    /// Frontier of the source; `None` if the source cannot be read.
    pub source: Option<FrontierText>,
    /// Frontier of the target; `None` if the target lacks the repository or cannot be read.
    pub target: Option<FrontierText>,
    /// Changes that the target lacks.
    pub pending_changes: u64,
    /// Bytes of packs, indexes and LFS objects in the pending changes.
    pub pending_bytes: u64,
    /// Age in seconds of the oldest pending change; 0 if none is pending.
    pub lag_seconds: f64,
    /// Time of the link's last delivery.
    pub delivered: Option<Timestamp>,
    /// True if another repository still holds the name at the target; the replica is reachable by id.
    pub waits_for_name: bool,
    /// Last error, if the target has not caught up since.
    pub last_error: Option<String>,
}

/// A frontier as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct FrontierText {
    /// Epoch.
    pub epoch: u64,
    /// Seq of the last change.
    pub seq: u64,
    /// Hash of the last change in hexadecimal.
    pub hash: String,
}

impl RepositoryStatus {
    /// Status from the two heads alone, with standing `equal`.
    fn of(pair: &Pair) -> Self {
        let source = &pair.source.head;
        let target = pair.target.as_ref().map(|item| &item.head);
        RepositoryStatus {
            repository: source.name.clone(),
            id: pair.source.id.to_string(),
            standing: "equal",
            state: Some(source.state),
            source: Some(source.frontier.into()),
            target: target.map(|head| head.frontier.into()),
            pending_changes: 0,
            pending_bytes: 0,
            lag_seconds: 0.0,
            delivered: None,
            waits_for_name: pair.waits_for_name(),
            last_error: None,
        }
    }

    fn broken(broken: Broken) -> Self {
        let mut status = RepositoryStatus {
            repository: broken.repository,
            id: broken.id,
            standing: "equal",
            state: None,
            source: None,
            target: None,
            pending_changes: 0,
            pending_bytes: 0,
            lag_seconds: 0.0,
            delivered: None,
            waits_for_name: false,
            last_error: None,
        };
        status.fail(&broken.error);
        status
    }

    fn fail(&mut self, error: &ReplicationError) {
        self.standing = if error.kind() == Kind::Corrupt { "damaged" } else { "unknown" };
        self.last_error = Some(error.to_string());
    }

    /// Records a pack that consolidation found damaged and skips. Only the first one of a repository is named.
    fn note_damaged_pack(&mut self, aside: &PackAside, region: &str) {
        if self.standing == "damaged" {
            return;
        }
        self.standing = "damaged";
        self.last_error = Some(format!(
            "pack {} in {region} is damaged: {}; `gitferry repair {} --region {region} --from OTHER` copies it from \
             another region",
            aside.pack, aside.reason, self.repository
        ));
    }

    /// Returns true if a delivery cannot fix the repository: two histories, damage, or a name that another repository
    /// of the target holds.
    pub fn is_different(&self) -> bool {
        matches!(self.standing, "fork" | "damaged") || self.waits_for_name
    }

    /// Returns true if the last delivery failed, or the repository could not be read.
    pub fn has_failed(&self) -> bool {
        self.last_error.is_some()
    }
}

impl From<Frontier> for FrontierText {
    fn from(frontier: Frontier) -> Self {
        FrontierText { epoch: frontier.epoch, seq: frontier.seq, hash: frontier.hash.to_string() }
    }
}

impl Link {
    /// Returns the status of each repository of the link. A repository that cannot be read has an entry with its error.
    pub async fn status(&self) -> Result<Vec<RepositoryStatus>, ReplicationError> {
        let Pairs { sound, broken } = self.pairs(&[]).await?;
        let mut all: Vec<RepositoryStatus> = broken.into_iter().map(RepositoryStatus::broken).collect();
        for pair in sound {
            let mut status = RepositoryStatus::of(&pair);
            if let Err(error) = self.add_standing(&mut status, &pair).await {
                status.fail(&error);
            }
            all.push(status);
        }
        for region in [&self.source, &self.target] {
            for aside in region.packs_aside().all().await.in_region(region)? {
                let id = aside.repository.to_string();
                if let Some(status) = all.iter_mut().find(|status| status.id == id) {
                    status.note_damaged_pack(&aside, region.name());
                }
            }
        }
        all.sort_by(|a, b| a.repository.cmp(&b.repository));
        Ok(all)
    }

    /// Counts the damaged packs of both regions that consolidation skips. One query for each region without any.
    pub async fn packs_aside(&self) -> Result<u64, ReplicationError> {
        let mut packs = 0;
        for region in [&self.source, &self.target] {
            packs += region.packs_aside().all().await.in_region(region)?.len() as u64;
        }
        Ok(packs)
    }

    /// Returns the commit time of the oldest change of a repository that the target lacks; `None` if it lacks none.
    pub async fn behind_since(&self, id: RepositoryId) -> Result<Option<Timestamp>, ReplicationError> {
        let pairs = self.pairs_of(&[id]).await?;
        let Some(pair) = pairs.sound.first().filter(|pair| !pair.is_equal()) else { return Ok(None) };
        let held = pair.target.as_ref().map_or(0, |item| item.head.frontier.seq);
        let query = Query::prefix(keys::repository(id), &keys::change_prefix(held + 1));
        let page = self.source.table().query(&query).await.in_region(&self.source)?;
        let facts = page.readable().filter_map(|item| ChangeFacts::deserialize(&item.document).ok());
        Ok(facts.map(|facts| facts.time).min())
    }

    /// Adds the standing, and the statistics of the last delivery.
    async fn add_standing(&self, status: &mut RepositoryStatus, pair: &Pair) -> Result<(), ReplicationError> {
        let row = match self.statistics(pair.source.id).await {
            // The row holds only statistics: a damaged one fails nothing.
            Err(error @ (TableError::Corrupt { .. } | TableError::Newer { .. })) => {
                tracing::error!(%error, link = self.name, "the row with the link's statistics is damaged and ignored");
                LinkRow::default()
            }
            row => row.in_region(&self.target)?.unwrap_or_default(),
        };
        status.delivered = row.delivered;
        match standing(&pair.source.head, pair.target.as_ref().map(|item| &item.head)) {
            Standing::Equal => {
                if let Some(target) = &pair.target
                    && let Some(reason) = self.name_conflict(target).await?
                {
                    status.standing = "fork";
                    status.last_error = Some(reason);
                }
            }
            Standing::Ahead => {
                let fork = self.fork_ahead(&pair.source, pair.target.as_ref()).await?;
                status.standing = if fork.is_some() { "fork" } else { "ahead" };
                status.last_error = fork;
            }
            Standing::Diverged(reason) => {
                status.standing = "fork";
                status.last_error = Some(reason);
            }
            Standing::Behind(from) => {
                status.last_error = row.last_error;
                self.add_pending(status, pair, from).await?;
            }
        }
        Ok(())
    }

    /// Adds the pending changes of a target that is behind, or the fork or damage that reading them finds.
    async fn add_pending(
        &self,
        status: &mut RepositoryStatus,
        pair: &Pair,
        from: Frontier,
    ) -> Result<(), ReplicationError> {
        match read_chain(self.source.table(), pair.source.id, from, pair.source.head.frontier).await {
            Ok(rows) => {
                status.standing = "behind";
                status.pending_changes = rows.len() as u64;
                status.pending_bytes =
                    rows.iter().map(|row| row.facts.pack_bytes.saturating_add(row.facts.lfs_bytes)).sum();
                let oldest = rows.first().map(|row| row.facts.time);
                let now = self.source.clock().now();
                status.lag_seconds = oldest.map_or(0.0, |time| now.duration_since(time).as_secs_f64()).max(0.0);
            }
            Err(LedgerError::Fork { at, .. }) => {
                status.standing = "fork";
                status.last_error = Some(format!("the target is at {at}, which the source has never been"));
            }
            Err(LedgerError::Corrupt(reason)) => {
                status.standing = "damaged";
                status.last_error = Some(reason);
            }
            Err(error) => return Err(error).in_region(&self.source),
        }
        Ok(())
    }
}
