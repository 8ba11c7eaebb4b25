//! How each repository of a link with a remote stands: both sides are looked at, nothing is remembered.

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::Serialize;

use super::explain::{Depth, Explained, Path};
use super::pass::RemoteLink;
use super::report::Outcome;
use crate::ReplicationError;
use crate::pass::DEFAULT_JOBS;

/// How one repository stands on a link with a remote.
#[derive(Clone, Debug, Serialize)]
pub struct RemoteStatus {
    /// Its name.
    pub repository: String,
    /// `equal`, `behind`, `diverged` (the target has what the source does not) or `unreachable`.
    pub standing: &'static str,
    /// Refs that are as they are at the source.
    pub equal: u64,
    /// Refs that the next pass would change.
    pub pending_refs: u64,
    /// Refs that it would not.
    pub skipped: u64,
    /// When the link last delivered it.
    pub delivered: Option<Timestamp>,
    /// Why a side cannot be looked at, or else what failed last.
    pub last_error: Option<String>,
}

impl RemoteLink {
    /// How each repository on the link stands, as far as they can be listed.
    pub async fn status(&self) -> Result<Vec<RemoteStatus>, ReplicationError> {
        let names = self.names_of(&[]).await?;
        let looked = stream::iter(&names).map(|name| self.repository_status(name)).buffered(DEFAULT_JOBS);
        Ok(looked.collect().await)
    }

    async fn repository_status(&self, name: &str) -> RemoteStatus {
        let row = self.row(name).await.map(|(row, _)| row.statistics).unwrap_or_default();
        let mut status = RemoteStatus {
            repository: name.into(),
            standing: "unreachable",
            equal: 0,
            pending_refs: 0,
            skipped: 0,
            delivered: row.delivered,
            last_error: row.last_error,
        };
        match self.explain(name, Depth::Refs).await {
            Ok(explained) => status.add(&explained),
            // Whose error it is, the row says.
            Err(ReplicationError::Remotes { error, .. }) => status.last_error = Some(error.to_string()),
            Err(error) => status.last_error = Some(error.to_string()),
        }
        status
    }
}

impl RemoteStatus {
    fn add(&mut self, explained: &Explained) {
        self.equal = explained.equal;
        self.pending_refs = explained.create + explained.update + explained.force + explained.delete;
        self.skipped = explained.skip.refs.len() as u64 + explained.skip.more;
        let diverged = explained.preserve + explained.force > 0 || explained.skip.has(Outcome::Diverged);
        self.standing = match () {
            () if explained.path == Path::Refused || diverged => "diverged",
            () if self.pending_refs > 0 || explained.looks_for_lfs => "behind",
            () => "equal",
        };
        match self.standing {
            "equal" => self.last_error = None,
            _ if explained.path == Path::Refused => self.last_error = Some(explained.why.clone()),
            _ => {}
        }
    }
}
