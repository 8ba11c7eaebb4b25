//! What a link with a remote keeps of each repository in its table: a checkpoint and statistics.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checkpoint::{Checkpoint, Hint};
use super::error::RemotesError;
use super::pass::RemoteLink;
use super::policy::RefPolicy;
use super::report::Carried;
use crate::Kind;
use crate::ledger::keys;
use crate::replication::deliver::LinkRow;
use crate::table::{Condition, TableError, Write};

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
}

impl RemoteLink {
    /// Whether the target has all that events say of refs of a repository, by what the last pass left: neither server
    /// is asked. What is under way may have looked before this happened, and bring back what was there in between.
    pub(crate) async fn knows<'h>(
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
        (row.statistics.last_error, row.statistics.failed) = (None, None);
        if changed {
            row.statistics.delivered = Some(self.clock.now());
            (row.statistics.bytes, row.statistics.changes) = (carried.bytes + carried.lfs_bytes, carried.edits());
        }
        self.put_row(name, condition, &row).await;
    }

    /// A repository that is gone, and that only this row told of, is not looked for again unless an event names it.
    pub(super) async fn note_failure(&self, name: &str, error: &RemotesError) {
        let Ok((mut row, condition)) = self.row(name).await else { return };
        if error.kind() == Kind::NotFound
            && self.source.region().is_none()
            && !self.names.iter().any(|known| known == name)
        {
            return self.forget(name).await;
        }
        row.statistics.last_error = Some(error.to_string());
        row.statistics.failed = Some(self.clock.now());
        self.put_row(name, condition, &row).await;
    }

    async fn forget(&self, name: &str) {
        let Some(table) = &self.table else { return };
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
