//! How a link stands: computed from what is durable on both sides, not from what a worker remembers.

use jiff::Timestamp;
use serde::{Deserialize as _, Serialize};

use super::deliver::{Link, LinkRow};
use super::error::{InRegion as _, ReplicationError};
use super::pairs::{Broken, Pair, Pairs};
use super::plan::{Standing, standing};
use gitferry_base::Kind;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::head::{Frontier, RepositoryId, State};
use gitferry_engine::ledger::keys;
use gitferry_engine::ledger::log::{ChangeFacts, read_chain};
use gitferry_engine::region::consolidate::PackAside;
use gitferry_store::table::{Query, TableError};

/// How one repository stands on a link.
#[derive(Clone, Debug, Serialize)]
pub struct RepositoryStatus {
    /// Its name.
    pub repository: String,
    /// Its id.
    pub id: String,
    /// `equal`, `behind`, `ahead` (of a source that is a replica itself), `fork`, `damaged`, or `unknown` where a
    /// store failed while it was read.
    pub standing: &'static str,
    /// Whether it is active, frozen or deleted at the source; `None` where that cannot be read.
    pub state: Option<State>,
    /// The source's state; `None` where that cannot be read.
    pub source: Option<FrontierText>,
    /// The target's state.
    pub target: Option<FrontierText>,
    /// Changes that the target lacks.
    pub pending_changes: u64,
    /// Bytes of packs, indexes and LFS objects that came with them.
    pub pending_bytes: u64,
    /// Age of the oldest change that the target lacks, in seconds; 0 when it lacks none.
    pub lag_seconds: f64,
    /// When the link last delivered it.
    pub delivered: Option<Timestamp>,
    /// Another repository still holds its name at the target; it is reachable by id.
    pub waits_for_name: bool,
    /// What failed last, if the target is not up to date since.
    pub last_error: Option<String>,
}

/// A frontier for scripts.
#[derive(Clone, Debug, Serialize)]
pub struct FrontierText {
    /// The epoch.
    pub epoch: u64,
    /// The number of the last change.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

impl RepositoryStatus {
    /// A pair, as far as its heads tell.
    fn of(pair: &Pair) -> Self {
        let (source, target) = (&pair.source.head, pair.target.as_ref().map(|item| &item.head));
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

    /// Notes a pack that consolidation has found damaged and passes over. The first one is named.
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

    /// Something is wrong that a delivery does not mend: two histories, damage, or a name that is held by another
    /// repository of the target.
    pub fn is_different(&self) -> bool {
        matches!(self.standing, "fork" | "damaged") || self.waits_for_name
    }

    /// The last delivery failed, or the repository could not be looked at.
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
    /// How each repository of the link stands. One that cannot be read is an entry with its error.
    pub async fn status(&self) -> Result<Vec<RepositoryStatus>, ReplicationError> {
        let Pairs { sound, broken } = self.pairs(&[]).await?;
        let mut all: Vec<RepositoryStatus> = broken.into_iter().map(RepositoryStatus::broken).collect();
        for pair in sound {
            let mut status = RepositoryStatus::of(&pair);
            if let Err(error) = self.look_closer(&mut status, &pair).await {
                status.fail(&error);
            }
            all.push(status);
        }
        for region in [&self.source, &self.target] {
            for aside in region.packs_aside().await.in_region(region)? {
                let id = aside.repository.to_string();
                if let Some(status) = all.iter_mut().find(|status| status.id == id) {
                    status.note_damaged_pack(&aside, &region.name);
                }
            }
        }
        all.sort_by(|a, b| a.repository.cmp(&b.repository));
        Ok(all)
    }

    /// Counts the damaged packs that consolidation passes over in both regions. One query of each where there are none.
    pub async fn packs_aside(&self) -> Result<u64, ReplicationError> {
        let mut packs = 0;
        for region in [&self.source, &self.target] {
            packs += region.packs_aside().await.in_region(region)?.len() as u64;
        }
        Ok(packs)
    }

    /// When the oldest change of a repository was committed that the target lacks; `None` when it lacks none.
    pub async fn behind_since(&self, id: RepositoryId) -> Result<Option<Timestamp>, ReplicationError> {
        let pairs = self.pairs_of(&[id]).await?;
        let Some(pair) = pairs.sound.first().filter(|pair| !pair.is_equal()) else { return Ok(None) };
        let held = pair.target.as_ref().map_or(0, |item| item.head.frontier.seq);
        let query = Query::prefix(keys::repository(id), &keys::change_prefix(held + 1));
        let page = self.source.table.query(&query).await.in_region(&self.source)?;
        let facts = page.readable().filter_map(|item| ChangeFacts::deserialize(&item.document).ok());
        Ok(facts.map(|facts| facts.time).min())
    }

    async fn look_closer(&self, status: &mut RepositoryStatus, pair: &Pair) -> Result<(), ReplicationError> {
        let row = match self.target.table.get(&keys::link(&self.name, pair.source.id)).await {
            // It holds statistics alone.
            Err(error @ (TableError::Corrupt { .. } | TableError::Newer { .. })) => {
                tracing::error!(%error, link = self.name, "statistics are passed over");
                None
            }
            row => row.in_region(&self.target)?,
        };
        let row: LinkRow = row.and_then(|row| serde_json::from_value(row.document).ok()).unwrap_or_default();
        status.delivered = row.delivered;
        match standing(&pair.source.head, pair.target.as_ref().map(|item| &item.head)) {
            Standing::Equal => {
                if let Some(target) = &pair.target
                    && let Some(reason) = self.rival(target).await?
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

    async fn add_pending(
        &self,
        status: &mut RepositoryStatus,
        pair: &Pair,
        from: Frontier,
    ) -> Result<(), ReplicationError> {
        match read_chain(&*self.source.table, pair.source.id, from, pair.source.head.frontier).await {
            Ok(rows) => {
                status.standing = "behind";
                status.pending_changes = rows.len() as u64;
                status.pending_bytes =
                    rows.iter().map(|row| row.facts.pack_bytes.saturating_add(row.facts.lfs_bytes)).sum();
                let oldest = rows.first().map(|row| row.facts.time);
                let now = self.source.clock.now();
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
