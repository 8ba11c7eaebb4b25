//! Table rows of a link with a remote: a checkpoint and statistics per repository.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checkpoint::{Checkpoint, Hint};
use super::error::MirrorError;
use super::policy::RefPolicy;
use super::report::MirrorOutcome;
use crate::ReplicationError;
use crate::statistics::LinkRow;
use gitferry_base::clock::Clock;
use gitferry_engine::ledger::keys;
use gitferry_store::table::{Condition, Query, Table, TableError, Write};

/// Time for which a source has to answer "not found" before a repository counts as gone. Servers answer the same to a
/// token that has lost its permissions.
pub const GONE_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Row of a repository on a link with a remote.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RemoteRow {
    /// Statistics of deliveries.
    #[serde(flatten)]
    pub statistics: LinkRow,
    /// Checkpoint of the last complete pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// True if a pass has pushed since the checkpoint, and no pass has completed since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub under_way: bool,
    /// Time of the source's first "not found" in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<Timestamp>,
    /// Damage of the stored row, which counts as empty then: the next pass starts from the refs alone.
    #[serde(skip)]
    pub damage: Option<String>,
}

impl RemoteRow {
    /// Reads a row. A damaged row counts as empty, with [`RemoteRow::damage`].
    fn of(document: &Value) -> RemoteRow {
        RemoteRow::deserialize(document).unwrap_or_else(|error| {
            tracing::error!(%error, "a repository's row on a link is damaged and ignored: the next pass writes it anew");
            RemoteRow { damage: Some(error.to_string()), ..RemoteRow::default() }
        })
    }

    /// Returns true if the target already has the value that an event reports, or the policy does not mirror the ref.
    pub fn knows(&self, hint: &Hint, policy: &RefPolicy) -> bool {
        !self.under_way && self.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.knows(hint, policy))
    }

    /// Returns true if the row confirms recent values of refs.
    pub fn has_recent_refs(&self) -> bool {
        !self.under_way && self.checkpoint.as_ref().is_some_and(|checkpoint| !checkpoint.recent.is_empty())
    }

    /// Records a failure. `absent` is true if the source answers "not found". Transient failures say nothing about the
    /// repository's existence, and leave `gone_since` as it is.
    fn fail(&mut self, error: &MirrorError, absent: bool, now: Timestamp) {
        self.statistics.last_error = Some(error.to_string());
        self.statistics.failed = Some(now);
        if absent {
            self.gone_since = self.gone_since.or(Some(now));
        } else if !error.kind().is_retryable() {
            self.gone_since = None;
        }
    }

    /// Returns true if the repository counts as gone.
    fn is_gone(&self, now: Timestamp) -> bool {
        self.gone_since.is_some_and(|since| now.duration_since(since) >= GONE_AFTER)
    }
}

/// Rows of one link. A link may be without a table: then every pass starts from the refs alone.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    link: String,
    table: Option<Arc<dyn Table>>,
    clock: Arc<dyn Clock>,
    /// Region or link to which the table belongs, for errors.
    owner: String,
}

impl Rows {
    /// Rows of `link` in a table that belongs to `owner`, a region or the link itself.
    pub fn new(link: &str, owner: String, table: Option<Arc<dyn Table>>, clock: Arc<dyn Clock>) -> Self {
        Rows { link: link.into(), table, clock, owner }
    }

    pub fn table(&self) -> Option<&Arc<dyn Table>> {
        self.table.as_ref()
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Replaces the clock.
    pub fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = clock;
    }

    /// Name of the link.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// An error of the link's table, with the region or link to which the table belongs.
    pub fn failed(&self, error: TableError) -> ReplicationError {
        ReplicationError::Region { region: self.owner.clone(), error: error.into() }
    }

    /// Names of all repositories with a row.
    pub async fn names(&self) -> Result<Vec<String>, TableError> {
        let mut names = Vec::new();
        let Some(table) = &self.table else { return Ok(names) };
        let mut query = Query::prefix(keys::link_partition(&self.link), keys::REMOTE_LINK_PREFIX);
        loop {
            let page = table.query(&query).await?;
            let found = page.keys().filter_map(|key| key.sk.strip_prefix(keys::REMOTE_LINK_PREFIX));
            names.extend(found.map(str::to_owned));
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(names),
            }
        }
    }

    /// Returns true if the target has the values of all these events, by the last checkpoint. Asks neither server.
    /// Returns false while a pass holds the lease: that pass may have listed refs before the event, and may push older
    /// values.
    pub async fn knows<'h>(
        &self,
        name: &str,
        policy: &RefPolicy,
        hints: impl IntoIterator<Item = &'h Hint> + Send,
    ) -> Result<bool, TableError> {
        let Some(table) = &self.table else { return Ok(false) };
        let wanted = [keys::remote_link(&self.link, name), keys::remote_lease(&self.link, name)];
        let found = table.get_many(&wanted).await?;
        let [Some(row), None] = found.as_slice() else { return Ok(false) };
        let row = RemoteRow::of(&row.document);
        Ok(hints.into_iter().all(|hint| row.knows(hint, policy)))
    }

    /// Reads the row of a repository, with the condition for replacing it.
    pub async fn read(&self, name: &str) -> Result<(RemoteRow, Condition), TableError> {
        let Some(table) = &self.table else { return Ok((RemoteRow::default(), Condition::Any)) };
        Ok(match table.get(&keys::remote_link(&self.link, name)).await? {
            None => (RemoteRow::default(), Condition::Absent),
            Some(item) => (RemoteRow::of(&item.document), Condition::Revision(item.revision)),
        })
    }

    /// Records a complete pass. If another pass has written the row since, the row is left alone; a lost row only costs
    /// the next pass work.
    pub async fn note_delivery(
        &self,
        name: &str,
        (mut row, condition): (RemoteRow, Condition),
        checkpoint: Option<Checkpoint>,
        outcome: &MirrorOutcome,
    ) {
        let changed = outcome.has_changed();
        if checkpoint.is_none() && !changed && !row.under_way && row.statistics.last_error.is_none() {
            return;
        }
        row.checkpoint = checkpoint.or(row.checkpoint);
        row.under_way = false;
        row.statistics.last_error = None;
        row.statistics.failed = None;
        row.gone_since = None;
        if changed {
            row.statistics.delivered = Some(self.clock.now());
            row.statistics.bytes = outcome.bytes + outcome.lfs_bytes;
            row.statistics.changes = outcome.edits();
        }
        self.put(name, condition, &row).await;
    }

    /// Records a failure; `absent` is true if the source answers "not found". Returns true if the repository is gone:
    /// the source has answered "not found" for [`GONE_AFTER`], or about a repository that was never mirrored. The row of
    /// a repository that the configuration does not name (`in_full`) is deleted then, so that only an event brings it
    /// back.
    pub async fn note_failure(&self, name: &str, error: &MirrorError, absent: bool, in_full: bool) -> bool {
        let (mut row, condition) = match self.read(name).await {
            Ok(read) => read,
            Err(unread) => {
                tracing::debug!(error = %unread, repository = name, "cannot record the failure of the pass");
                return false;
            }
        };
        let now = self.clock.now();
        // A mistyped name gets no row.
        if absent && condition == Condition::Absent && !in_full {
            return true;
        }
        row.fail(error, absent, now);
        let gone = absent && row.is_gone(now);
        if gone && !in_full {
            self.forget(name).await
        } else {
            self.put(name, condition, &row).await
        }
        gone
    }

    async fn forget(&self, name: &str) {
        let Some(table) = &self.table else { return };
        tracing::warn!(
            link = self.link,
            repository = name,
            "the source has answered \"not found\" for {GONE_AFTER:#}: the repository is gone, or these credentials may \
             not see it; passes skip it until an event names it, and its copy stays"
        );
        let write = Write::delete(keys::remote_link(&self.link, name), Condition::Any);
        if let Err(error) = table.transact(vec![write]).await {
            tracing::debug!(%error, repository = name, "cannot delete the row of a repository that is gone");
        }
    }

    async fn put(&self, name: &str, condition: Condition, row: &RemoteRow) {
        if let Err(error) = self.replace(name, condition, row).await {
            tracing::debug!(%error, repository = name, "cannot write the result of the pass");
        }
    }

    /// Writes the row, if there is a table.
    pub async fn replace(&self, name: &str, condition: Condition, row: &RemoteRow) -> Result<(), MirrorError> {
        let Some(table) = &self.table else { return Ok(()) };
        let document = serde_json::to_value(row).map_err(|error| MirrorError::Internal(error.to_string()))?;
        let write = Write::put(keys::remote_link(&self.link, name), condition, document);
        Ok(table.transact(vec![write]).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gitferry_git::client::ClientError;

    #[test]
    fn a_repository_is_gone_when_the_source_has_said_so_for_a_day() {
        let error = |server: &str| MirrorError::from(ClientError::NotFound { server: server.into() });
        let hour = SignedDuration::from_hours(1);
        let (mut row, mut now) = (RemoteRow::default(), Timestamp::UNIX_EPOCH);
        let mut fail = |error: &MirrorError, absent: bool, hours: i32| {
            now += hour * hours;
            row.fail(error, absent, now);
            row.is_gone(now)
        };
        assert!(!fail(&error("source"), true, 0));
        assert!(!fail(&error("source"), true, 23));
        // Nothing can be said while it does not answer; and the target is another matter.
        assert!(fail(&MirrorError::LeaseLost, false, 2));
        assert!(fail(&error("source"), true, 0));
        assert!(!fail(&error("target"), false, 1));
        assert!(!fail(&error("source"), true, 30));
        assert!(!fail(&error("source"), true, 23));
        assert!(fail(&error("source"), true, 1));
    }
}
