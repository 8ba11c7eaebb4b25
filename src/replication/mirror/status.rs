//! Status of each repository of a link with a remote, from a fresh listing of both sides.

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::Serialize;

use super::explain::{Depth, Explained, Path};
use super::link::RemoteLink;
use super::report::NoteKind;
use crate::ReplicationError;
use crate::pass::DEFAULT_JOBS;

/// Status of one repository on a link with a remote.
#[derive(Clone, Debug, Serialize)]
pub struct RemoteStatus {
    /// Name of the repository.
    pub repository: String,
    /// `equal`, `behind`, `diverged` (the target has commits that the source does not have) or `unreachable`.
    pub standing: &'static str,
    /// Refs that are equal on both sides.
    pub equal: u64,
    /// Refs that the next pass would change.
    pub pending_refs: u64,
    /// Refs that the next pass would leave as they are.
    pub skipped: u64,
    /// Time of the link's last delivery.
    pub delivered: Option<Timestamp>,
    /// Reason why a side cannot be listed, or else the error of the last pass.
    pub last_error: Option<String>,
}

impl RemoteLink {
    /// Status of each repository on the link, as far as its repositories can be listed.
    pub async fn status(&self) -> Result<Vec<RemoteStatus>, ReplicationError> {
        let names = self.names_of(&[]).await?;
        let all = stream::iter(&names).map(|name| self.repository_status(name)).buffered(DEFAULT_JOBS);
        Ok(all.collect().await)
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
            // The repository is a field of its own, so the error need not name it.
            Err(ReplicationError::Mirror { error, .. }) => status.last_error = Some(error.to_string()),
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
        let diverged = explained.preserve + explained.force > 0 || explained.skip.has(NoteKind::Diverged);
        self.standing = if explained.path == Path::Refused || diverged {
            "diverged"
        } else if self.pending_refs > 0 || explained.looks_for_lfs {
            "behind"
        } else {
            "equal"
        };
        match self.standing {
            "equal" => self.last_error = None,
            _ if explained.path == Path::Refused => self.last_error = Some(explained.why.clone()),
            _ => {}
        }
    }
}
