//! The outbox: every commit leaves a row in it, in the same transaction. The publisher announces the change and deletes
//! the row if the head is still the one that it read. So each change is announced at least once, whichever process dies
//! in between. The revision of the row proves nothing: it starts at 1 again with the next commit.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use gitferry_base::Kind;
use gitferry_base::counter::Counter;
use gitferry_engine::announce::{Event, Sink};
use gitferry_engine::ledger::head::{Head, HeadItem, RepositoryId};
use gitferry_engine::ledger::heads::{parse_head, read_heads};
use gitferry_engine::ledger::log::{ChangeRow, read_newest};
use gitferry_engine::ledger::{LedgerError, keys};
use gitferry_engine::region::Region;
use gitferry_store::table::{Condition, MAX_TRANSACTION_ITEMS, Query, Table, TableError, Write};

/// Age above which changes are not announced one by one, apart from the newest, if none of their repository was
/// announced yet: switching events on does not announce years of changes. Changes since the last announcement are
/// announced at any age.
pub const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
/// Most changes of a repository that are announced before the progress is noted.
pub const MAX_CHANGES_AT_ONCE: usize = 100;
/// Repositories that a publisher announces at a time.
const AT_A_TIME: usize = 8;
/// Period between two reads of the outbox for changes that no wake announced.
pub const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Longest time that a publisher takes for the last commits once it stops.
pub const LAST_WITHIN: Duration = Duration::from_secs(3);
/// Most wakes that wait for the publisher; more are left to its sweep.
const MAX_WAKES: usize = 10_000;

/// A row of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Id of the repository.
    pub id: RepositoryId,
    /// Newest change of the repository when the row was written.
    pub seq: u64,
}

/// Reads the whole outbox, all shards at a time.
pub async fn read_outbox(table: &dyn Table) -> Result<Vec<OutboxRow>, TableError> {
    let shards = (0..keys::SHARDS).map(|shard| read_shard(table, shard));
    Ok(futures::future::try_join_all(shards).await?.concat())
}

async fn read_shard(table: &dyn Table, shard: u8) -> Result<Vec<OutboxRow>, TableError> {
    let mut query = Query::prefix(keys::outbox_partition(shard), "");
    let mut rows = Vec::new();
    loop {
        let page = table.query(&query).await?;
        query.after = page.next;
        for row in page.rows {
            // A row that cannot be read still names its repository, which is announced, and fails alone.
            let (key, seq) = match row {
                Ok(item) => (item.key, number(&item.document)),
                Err(bad) => {
                    tracing::error!(error = %bad, "a row of the outbox cannot be read");
                    (bad.key, 0)
                }
            };
            match key.sk.parse() {
                Ok(id) => rows.push(OutboxRow { id, seq }),
                Err(_) => tracing::warn!(%key, "this row of the outbox names no repository"),
            }
        }
        if query.after.is_none() {
            return Ok(rows);
        }
    }
}

fn number(document: &Value) -> u64 {
    document.get("seq").and_then(Value::as_u64).unwrap_or(0)
}

/// Reason why changes were not announced. Their row stays in the outbox.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The region failed.
    #[error("the outbox of {region}: {error}")]
    Region {
        /// Name of the region.
        region: String,
        /// Error of the region.
        error: LedgerError,
    },
    /// The receiver did not take the events.
    #[error("{to} did not take the events of {region}: {reason}")]
    NotTaken {
        /// Name of the region.
        region: String,
        /// Receiver of the events.
        to: String,
        /// Reason of the receiver.
        reason: String,
        /// The kind of the error, which says what the caller can do.
        kind: Kind,
    },
}

impl OutboxError {
    /// The kind of the error, which says what the caller can do.
    pub fn kind(&self) -> Kind {
        match self {
            OutboxError::Region { error, .. } => error.kind(),
            OutboxError::NotTaken { kind, .. } => *kind,
        }
    }
}

/// Changes of one repository that have to be announced.
#[derive(Debug)]
pub struct Unannounced<'a> {
    /// Region in which the changes are visible.
    pub region: &'a Region,
    /// Head of the repository.
    pub item: &'a HeadItem,
    /// The changes, oldest first.
    pub changes: &'a [ChangeRow],
}

/// Announces committed changes. The same changes may come again, and are announced again.
#[async_trait]
pub trait Announcer: fmt::Debug + Send + Sync {
    /// Announces changes. Success means that the receiver is responsible for them.
    async fn announce(&self, what: Unannounced<'_>) -> Result<(), OutboxError>;
}

/// Counters of a publisher.
#[derive(Debug, Default)]
pub struct PublisherCounters {
    /// Changes announced.
    pub announced: Counter,
    /// Changes that were too old to be announced.
    pub expired: Counter,
    /// Attempts that failed.
    pub failed: Counter,
}

/// Publisher of the outbox of one region.
#[derive(Debug)]
pub struct Publisher {
    region: Region,
    announcer: Arc<dyn Announcer>,
    /// Counters since the start.
    pub counters: Arc<PublisherCounters>,
}

/// Wakes a publisher for a repository that has just changed.
#[derive(Clone, Debug)]
pub struct Waker {
    region: String,
    sender: mpsc::Sender<RepositoryId>,
}

impl Sink for Waker {
    fn publish(&self, event: Event) {
        if event.region == self.region {
            let _ = self.sender.try_send(event.repository);
        }
    }
}

impl Publisher {
    /// Makes a publisher for a region.
    pub fn new(region: Region, announcer: Arc<dyn Announcer>) -> Self {
        Publisher { region, announcer, counters: Arc::default() }
    }

    /// Makes a sink that wakes [`Publisher::run`], and the receiver for it.
    pub fn waker(region: &str) -> (Waker, mpsc::Receiver<RepositoryId>) {
        let (sender, receiver) = mpsc::channel(MAX_WAKES);
        (Waker { region: region.into(), sender }, receiver)
    }

    /// Publishes until `stop` turns true, and then once more, for at most [`LAST_WITHIN`]. The next publisher finds the
    /// rest.
    pub async fn run(
        self,
        mut woken: mpsc::Receiver<RepositoryId>,
        sweep_every: Duration,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut sweep = tokio::time::interval(sweep_every);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut has_waker = true;
        let publishing = async {
            loop {
                let mut ids = Vec::new();
                tokio::select! {
                    count = woken.recv_many(&mut ids, MAX_WAKES), if has_waker => {
                        has_waker = count > 0;
                        let ids: BTreeSet<RepositoryId> = ids.into_iter().collect();
                        self.publish_all(ids).await;
                    }
                    _ = sweep.tick() => if let Err(error) = self.publish_outbox().await {
                        tracing::warn!(%error, "the outbox cannot be read; the next sweep tries again");
                    },
                }
            }
        };
        tokio::select! {
            () = publishing => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        match tokio::time::timeout(LAST_WITHIN, self.publish_outbox()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the outbox cannot be read; the next publisher finds what is in it")
            }
            Err(_) => tracing::info!("not all of the outbox was announced in time; the next publisher finds the rest"),
        }
    }

    /// Announces the whole outbox. Changes that cannot be announced stay there, and are counted.
    pub async fn publish_outbox(&self) -> Result<(), TableError> {
        let rows = read_outbox(self.region.table()).await?;
        self.publish_all(rows.into_iter().map(|row| row.id)).await;
        Ok(())
    }

    /// Announces the changes of some repositories. Changes that cannot be announced stay there, and are counted.
    pub async fn publish_all(&self, ids: impl IntoIterator<Item = RepositoryId>) {
        let ids: Vec<RepositoryId> = ids.into_iter().collect();
        stream::iter(ids)
            .for_each_concurrent(AT_A_TIME, |id| async move {
                if let Err(error) = self.publish(id).await {
                    self.counters.failed.add(1);
                    tracing::warn!(%error, %id, "could not announce changes; they stay in the outbox");
                }
            })
            .await;
    }

    /// Announces all changes of a repository.
    pub async fn publish(&self, id: RepositoryId) -> Result<(), OutboxError> {
        while self.publish_some(id).await.map_err(|error| self.in_region(error))?? {}
        Ok(())
    }

    fn in_region(&self, error: LedgerError) -> OutboxError {
        OutboxError::Region { region: self.region.name().to_owned(), error }
    }

    /// Announces up to [`MAX_CHANGES_AT_ONCE`] changes. Returns true if there may be more.
    async fn publish_some(&self, id: RepositoryId) -> Result<Result<bool, OutboxError>, LedgerError> {
        let table = self.region.table();
        let rows = table.get_many(&[keys::outbox(id), keys::head(id), keys::announced(id)]).await?;
        let [Some(_), Some(head), announced] = rows.as_slice() else { return Ok(Ok(false)) };
        let item = HeadItem { id, head: parse_head(id, &head.document)?, revision: head.revision };
        let done = announced.as_ref().map(|row| number(&row.document));
        let (changes, last) = self.unannounced(id, &item.head, done).await?;
        if !changes.is_empty() {
            let what = Unannounced { region: &self.region, item: &item, changes: &changes };
            if let Err(error) = self.announcer.announce(what).await {
                return Ok(Err(error));
            }
            self.counters.announced.add(changes.len() as u64);
        }
        gitferry_base::fault::crash_point("outbox-announced");
        let note = Write::put(keys::announced(id), Condition::Any, json!({ "seq": last }));
        if last < item.head.frontier.seq {
            table.transact(vec![note]).await?;
            return Ok(Ok(true));
        }
        match table.transact([vec![note.clone()], take_away(&item)].concat()).await {
            Ok(()) => Ok(Ok(false)),
            // The head has moved: there may be a newer change.
            Err(TableError::ConditionFailed { .. }) => {
                table.transact(vec![note]).await?;
                Ok(Ok(true))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the oldest changes above number `done`, and the number of the last change that is dealt with once they are
    /// announced. If none was announced yet, only changes that are not too old.
    async fn unannounced(
        &self,
        id: RepositoryId,
        head: &Head,
        done: Option<u64>,
    ) -> Result<(Vec<ChangeRow>, u64), LedgerError> {
        let (table, to) = (self.region.table(), head.frontier);
        let floor = done.unwrap_or(0).max(head.floor);
        let mut changes = match done {
            Some(_) => read_newest(table, id, floor, to, Timestamp::MIN).await?,
            None => {
                let oldest = self.region.clock().now().checked_sub(MAX_AGE).unwrap_or(Timestamp::MIN);
                let changes = read_newest(table, id, floor, to, oldest).await?;
                if changes.is_empty() && to.seq > floor {
                    read_newest(table, id, to.seq - 1, to, Timestamp::MIN).await?
                } else {
                    changes
                }
            }
        };
        let expired = head.frontier.seq.saturating_sub(floor).saturating_sub(changes.len() as u64);
        self.counters.expired.add(expired);
        changes.truncate(MAX_CHANGES_AT_ONCE);
        let last = changes.last().map_or(head.frontier.seq, |row| row.facts.seq);
        Ok((changes, last))
    }
}

/// The writes that delete a repository's row, on condition that no commit came since its head was read.
fn take_away(item: &HeadItem) -> Vec<Write> {
    let unmoved = Write::check(keys::head(item.id), Condition::Revision(item.revision));
    vec![Write::delete(keys::outbox(item.id), Condition::Any), unmoved]
}

/// Passes the outbox on to a worker in the same process: rows that a killed host or another command left.
#[derive(Debug)]
pub struct Relay {
    region: Region,
    to: Arc<dyn Sink>,
}

impl Relay {
    /// Makes a relay of a region's outbox.
    pub fn new(region: Region, to: Arc<dyn Sink>) -> Self {
        Relay { region, to }
    }

    /// Passes rows on until `stop` turns true.
    pub async fn run(self, every: Duration, mut stop: watch::Receiver<bool>) {
        let mut sweep = tokio::time::interval(every);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let relaying = async {
            loop {
                sweep.tick().await;
                if let Err(error) = self.pass_on().await {
                    tracing::warn!(%error, region = self.region.name(), "the outbox was not passed on; the next round tries again");
                }
            }
        };
        tokio::select! {
            () = relaying => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Passes on all rows of the outbox.
    pub async fn pass_on(&self) -> Result<(), TableError> {
        let table = self.region.table();
        let rows = read_outbox(table).await?;
        for rows in rows.chunks(MAX_TRANSACTION_ITEMS / 2) {
            let ids: Vec<RepositoryId> = rows.iter().map(|row| row.id).collect();
            // Read after the rows: a head that has not moved has no change that is not passed on here.
            let heads = read_heads(table, &ids).await?.into_iter();
            // A damaged head stays in the outbox; its other readers report it.
            let heads: Vec<HeadItem> = heads.filter_map(|head| head.ok().flatten()).collect();
            for item in &heads {
                let (region, seq) = (self.region.name().to_owned(), item.head.frontier.seq);
                self.to.publish(Event { region, repository: item.id, seq });
            }
            if heads.is_empty() {
                continue;
            }
            match table.transact(heads.iter().flat_map(take_away).collect()).await {
                // One of them has moved by now: all are passed on once more.
                Ok(()) | Err(TableError::ConditionFailed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
