//! Statistics of a link about one repository: a row in the target's table, written with each delivery.

use serde::{Deserialize, Serialize};

use super::error::ReplicationError;
use super::link::Link;
use gitferry_base::Kind;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::keys;
use gitferry_store::table::{Condition, TableError, Write};

/// Statistics of a link about one repository; best effort.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LinkRow {
    /// Time of the last delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<jiff::Timestamp>,
    /// Lag of the last delivery in milliseconds.
    #[serde(default)]
    pub lag_ms: i64,
    /// Bytes of the last delivery.
    #[serde(default)]
    pub bytes: u64,
    /// Changes of the last delivery.
    #[serde(default)]
    pub changes: u64,
    /// Error of the last attempt, if it failed after the last delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Time of that failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<jiff::Timestamp>,
}

impl Link {
    /// Records a failure in the link's statistics; best effort. A damaged row stays as it is, and the log names it: the
    /// next delivery writes the row anew.
    pub async fn note_failure(&self, id: RepositoryId, error: &ReplicationError) {
        let mut row = match self.statistics(id).await {
            Ok(row) => row.unwrap_or_default(),
            Err(damage) if damage.kind() == Kind::Corrupt => {
                tracing::error!(error = %damage, link = self.name, "a failed delivery is not recorded in the statistics");
                return;
            }
            Err(error) => return tracing::debug!(%error, link = self.name, "the statistics cannot be read"),
        };
        row.last_error = Some(error.to_string());
        row.failed = Some(self.target.clock().now());
        if let Ok(document) = serde_json::to_value(row) {
            let write = Write::put(keys::link(&self.name, id), Condition::Any, document);
            if let Err(error) = self.target.table().transact(vec![write]).await {
                tracing::debug!(%error, "the failure could not be recorded in the link's statistics");
            }
        }
    }

    /// Reads the statistics of a repository; `None` before its first delivery.
    ///
    /// # Errors
    /// [`TableError::Corrupt`] if the row is damaged. The row holds only statistics: its damage fails no delivery.
    pub(super) async fn statistics(&self, id: RepositoryId) -> Result<Option<LinkRow>, TableError> {
        let key = keys::link(&self.name, id);
        let Some(item) = self.target.table().get(&key).await? else { return Ok(None) };
        let row = LinkRow::deserialize(&item.document).map_err(|error| TableError::Corrupt {
            table: self.target.table().name().to_owned(),
            reason: format!("the row {key} holds no statistics of a link: {error}"),
        })?;
        Ok(Some(row))
    }
}
