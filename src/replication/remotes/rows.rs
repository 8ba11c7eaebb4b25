//! What a link with a remote keeps of each repository in its table: a checkpoint and statistics.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checkpoint::{Checkpoint, Hint};
use super::endpoint::Endpoint;
use super::error::RemotesError;
use super::pass::RemoteLink;
use super::policy::RefPolicy;
use super::report::Carried;
use crate::deliver::LinkRow;
use gitferry_engine::ledger::keys;
use gitferry_git::client::{ClientError, Server as _};
use gitferry_store::table::{Condition, TableError, Write};

/// How long a source has to say that there is no such repository before it is taken for gone: it says the same to a
/// token that has lost its rights.
pub const GONE_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// The row of a repository on a link with a remote.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RemoteRow {
    /// Statistics.
    #[serde(flatten)]
    pub statistics: LinkRow,
    /// What the last complete pass left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// Whether a pass has pushed since, and none has been complete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub under_way: bool,
    /// Since when the source says that there is no such repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<Timestamp>,
}

impl RemoteRow {
    /// What cannot be read is no checkpoint: the pass looks at everything again.
    fn of(document: &Value) -> RemoteRow {
        RemoteRow::deserialize(document).unwrap_or_default()
    }

    /// Whether the target already has what an event announces, or the link does not carry it.
    pub fn knows(&self, hint: &Hint, policy: &RefPolicy) -> bool {
        !self.under_way && self.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.knows(hint, policy))
    }

    /// Whether it says of any ref which value the target has.
    pub fn vouches(&self) -> bool {
        !self.under_way && self.checkpoint.as_ref().is_some_and(|checkpoint| !checkpoint.recent.is_empty())
    }

    /// Takes in a failure. With `absent`, the source says that there is no such repository; what may pass by itself
    /// says nothing of that.
    fn fail(&mut self, error: &RemotesError, absent: bool, now: Timestamp) {
        self.statistics.last_error = Some(error.to_string());
        self.statistics.failed = Some(now);
        match absent {
            true => self.gone_since = self.gone_since.or(Some(now)),
            false if error.kind().is_retryable() => {}
            false => self.gone_since = None,
        }
    }

    /// Whether the repository is gone by now.
    fn is_gone(&self, now: Timestamp) -> bool {
        self.gone_since.is_some_and(|since| now.duration_since(since) >= GONE_AFTER)
    }
}

impl RemoteLink {
    /// Whether the target has all that events say of refs of a repository, by what the last pass left: neither server
    /// is asked. What is under way may have looked before this happened, and bring back what was there in between.
    pub async fn knows<'h>(
        &self,
        name: &str,
        hints: impl IntoIterator<Item = &'h Hint> + Send,
    ) -> Result<bool, TableError> {
        let Some(table) = &self.table else { return Ok(false) };
        let wanted = [keys::remote_link(&self.name, name), keys::remote_lease(&self.name, name)];
        let found = table.get_many(&wanted).await?;
        let [Some(row), None] = found.as_slice() else { return Ok(false) };
        let row = RemoteRow::of(&row.document);
        Ok(hints.into_iter().all(|hint| row.knows(hint, &self.policy)))
    }

    /// The row of a repository, and the condition on which it may be replaced.
    pub(super) async fn row(&self, name: &str) -> Result<(RemoteRow, Condition), TableError> {
        let Some(table) = &self.table else { return Ok((RemoteRow::default(), Condition::Any)) };
        Ok(match table.get(&keys::remote_link(&self.name, name)).await? {
            None => (RemoteRow::default(), Condition::Absent),
            Some(item) => (RemoteRow::of(&item.document), Condition::Revision(item.revision)),
        })
    }

    /// Notes what a complete pass left. Whoever finds that another pass was faster leaves the row to that one; without
    /// a row the next pass only has more to look at.
    pub(super) async fn note_delivery(
        &self,
        name: &str,
        mut row: RemoteRow,
        condition: Condition,
        checkpoint: Option<Checkpoint>,
        carried: &Carried,
    ) {
        let changed = carried.has_changed();
        if checkpoint.is_none() && !changed && !row.under_way && row.statistics.last_error.is_none() {
            return;
        }
        (row.checkpoint, row.under_way) = (checkpoint.or(row.checkpoint), false);
        (row.statistics.last_error, row.statistics.failed, row.gone_since) = (None, None, None);
        if changed {
            row.statistics.delivered = Some(self.clock.now());
            (row.statistics.bytes, row.statistics.changes) = (carried.bytes + carried.lfs_bytes, carried.edits());
        }
        self.put_row(name, condition, &row).await;
    }

    /// Notes a failure. Whether the repository is gone by what is known: the source has said so for long, or has said
    /// so of one that was never carried. One that only this row told of is then not looked for again unless an event
    /// names it.
    pub(super) async fn note_failure(&self, name: &str, error: &RemotesError) -> bool {
        let Ok((mut row, condition)) = self.row(name).await else { return false };
        let (absent, now) = (self.is_absent(name, error), self.clock.now());
        // A name that somebody has mistyped is not to be looked for.
        if absent && condition == Condition::Absent && !self.names_in_full(name) {
            return true;
        }
        row.fail(error, absent, now);
        let gone = absent && row.is_gone(now);
        match gone && !self.names_in_full(name) {
            true => self.forget(name).await,
            false => self.put_row(name, condition, &row).await,
        }
        gone
    }

    /// Whether the source says that there is no such repository. The target may say the same of its own.
    fn is_absent(&self, name: &str, error: &RemotesError) -> bool {
        match (error, &self.source) {
            (RemotesError::Client(ClientError::NotFound { server }), Endpoint::Remote(source)) => {
                source.repository(name).is_ok_and(|repository| repository.url() == server)
            }
            _ => false,
        }
    }

    async fn forget(&self, name: &str) {
        let Some(table) = &self.table else { return };
        tracing::warn!(
            link = self.name,
            repository = name,
            "the source has said for {GONE_AFTER:#} that there is no such repository, or that these credentials may not \
             see it: it is forgotten until an event names it; its copy stays"
        );
        let write = Write::delete(keys::remote_link(&self.name, name), Condition::Any);
        if let Err(error) = table.transact(vec![write]).await {
            tracing::debug!(%error, repository = name, "could not forget a repository");
        }
    }

    async fn put_row(&self, name: &str, condition: Condition, row: &RemoteRow) {
        if let Err(error) = self.replace_row(name, condition, row).await {
            tracing::debug!(%error, repository = name, "could not note what the pass left");
        }
    }

    /// Writes the row, if there is a table.
    pub(super) async fn replace_row(
        &self,
        name: &str,
        condition: Condition,
        row: &RemoteRow,
    ) -> Result<(), RemotesError> {
        let Some(table) = &self.table else { return Ok(()) };
        let document = serde_json::to_value(row).map_err(|error| RemotesError::Internal(error.to_string()))?;
        let write = Write::put(keys::remote_link(&self.name, name), condition, document);
        Ok(table.transact(vec![write]).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_gone_when_the_source_has_said_so_for_a_day() {
        let error = |server: &str| RemotesError::from(ClientError::NotFound { server: server.into() });
        let hour = SignedDuration::from_hours(1);
        let (mut row, mut now) = (RemoteRow::default(), Timestamp::UNIX_EPOCH);
        let mut fail = |error: &RemotesError, absent: bool, hours: i32| {
            now += hour * hours;
            row.fail(error, absent, now);
            row.is_gone(now)
        };
        assert!(!fail(&error("source"), true, 0));
        assert!(!fail(&error("source"), true, 23));
        // Nothing can be said while it does not answer; and the target is another matter.
        assert!(fail(&RemotesError::Over, false, 2));
        assert!(fail(&error("source"), true, 0));
        assert!(!fail(&error("target"), false, 1));
        assert!(!fail(&error("source"), true, 30));
        assert!(!fail(&error("source"), true, 23));
        assert!(fail(&error("source"), true, 1));
    }
}
