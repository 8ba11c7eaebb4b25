//! How a link stands: computed from what is durable on both sides, not from what a worker remembers.

use jiff::Timestamp;
use serde::{Deserialize as _, Serialize};

use super::deliver::{Link, LinkRow};
use super::error::{InRegion as _, ReplicationError};
use super::pass::Pair;
use super::plan::{Standing, standing};
use crate::ledger::LedgerError;
use crate::ledger::head::{Frontier, RepositoryId, State};
use crate::ledger::keys;
use crate::ledger::log::{ChangeFacts, read_chain};
use crate::table::Query;

/// How one repository stands on a link.
#[derive(Clone, Debug, Serialize)]
pub struct RepositoryStatus {
    /// Its name.
    pub repository: String,
    /// Its id.
    pub id: String,
    /// `equal`, `behind`, `ahead` (of a source that is a replica itself), `fork` or `damaged`.
    pub standing: &'static str,
    /// Whether it is active, frozen or deleted at the source.
    pub state: State,
    /// The source's state.
    pub source: FrontierText,
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

impl From<Frontier> for FrontierText {
    fn from(frontier: Frontier) -> Self {
        FrontierText { epoch: frontier.epoch, seq: frontier.seq, hash: frontier.hash.to_string() }
    }
}

impl Link {
    /// How each repository of the link stands.
    pub async fn status(&self) -> Result<Vec<RepositoryStatus>, ReplicationError> {
        let mut all = Vec::new();
        for pair in self.pairs(&[]).await? {
            all.push(self.repository_status(pair).await?);
        }
        all.sort_by(|a, b| a.repository.cmp(&b.repository));
        Ok(all)
    }

    /// When the oldest change of a repository was committed that the target lacks; `None` when it lacks none.
    pub async fn behind_since(&self, id: RepositoryId) -> Result<Option<Timestamp>, ReplicationError> {
        let pairs = self.pairs_of(&[id]).await?;
        let Some(pair) = pairs.first().filter(|pair| !pair.is_equal()) else { return Ok(None) };
        let held = pair.target.as_ref().map_or(0, |item| item.head.frontier.seq);
        let query = Query::prefix(keys::repository(id), &keys::change_prefix(held + 1));
        let page = self.source.table.query(&query).await.in_region(&self.source)?;
        let facts = page.items.iter().filter_map(|item| ChangeFacts::deserialize(&item.document).ok());
        Ok(facts.map(|facts| facts.time).min())
    }

    async fn repository_status(&self, pair: Pair) -> Result<RepositoryStatus, ReplicationError> {
        let id = pair.source.id;
        let row = self.target.table.get(&keys::link(&self.name, id)).await.in_region(&self.target)?;
        let row: LinkRow = row.and_then(|row| serde_json::from_value(row.document).ok()).unwrap_or_default();
        let source = &pair.source.head;
        let target = pair.target.as_ref().map(|item| &item.head);
        let mut status = RepositoryStatus {
            repository: source.name.clone(),
            id: id.to_string(),
            standing: "equal",
            state: source.state,
            source: source.frontier.into(),
            target: target.map(|head| head.frontier.into()),
            pending_changes: 0,
            pending_bytes: 0,
            lag_seconds: 0.0,
            delivered: row.delivered,
            waits_for_name: target.is_some_and(|head| !head.named && head.state != State::Deleted),
            last_error: row.last_error,
        };
        match standing(source, target) {
            Standing::Equal => status.last_error = None,
            Standing::Ahead => {
                let fork = self.fork_ahead(&pair.source, pair.target.as_ref()).await?;
                status.standing = if fork.is_some() { "fork" } else { "ahead" };
                status.last_error = fork;
            }
            Standing::Diverged(reason) => {
                status.standing = "fork";
                status.last_error = Some(reason);
            }
            Standing::Behind(from) => self.add_pending(&mut status, &pair, from).await?,
        }
        Ok(status)
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
