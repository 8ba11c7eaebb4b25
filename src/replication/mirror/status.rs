//! Status of each repository of a link with a remote, from a fresh listing of both sides.

use jiff::Timestamp;
use serde::Serialize;

use super::explain::{Explained, Path};
use super::report::NoteKind;
use super::rows::RemoteRow;
use crate::ReplicationError;
use crate::statistics::LinkRow;
use gitferry_store::table::TableError;

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
    /// Reason why a side cannot be listed or the link's row cannot be read, or else the error of the last pass.
    pub last_error: Option<String>,
}

impl RemoteStatus {
    /// Status without an answer of either side, which counts as unreachable.
    fn unreachable(name: &str) -> Self {
        RemoteStatus {
            repository: name.into(),
            standing: "unreachable",
            equal: 0,
            pending_refs: 0,
            skipped: 0,
            delivered: None,
            last_error: None,
        }
    }

    /// Status of a repository whose row cannot be read: nothing is known of the link's last pass.
    pub(super) fn unreadable(name: &str, error: &TableError) -> Self {
        let last_error = format!("the link's row of this repository cannot be read: {error}");
        RemoteStatus { last_error: Some(last_error), ..RemoteStatus::unreachable(name) }
    }

    /// Status from the row of the last pass, and the prediction of the next one. The damage of a row is an error even
    /// where both sides are equal: without the row, the last delivery is unknown.
    pub(super) fn of(name: &str, row: RemoteRow, explained: Result<Explained, ReplicationError>) -> Self {
        let RemoteRow { statistics: LinkRow { delivered, last_error, .. }, damage, .. } = row;
        let mut status = RemoteStatus { delivered, last_error, ..RemoteStatus::unreachable(name) };
        match explained {
            Ok(explained) => status.add(&explained),
            // The repository is a field of its own, so the error need not name it.
            Err(ReplicationError::Mirror { error, .. }) => status.last_error = Some(error.to_string()),
            Err(error) => status.last_error = Some(error.to_string()),
        }
        if let Some(damage) = damage {
            let damage = format!(
                "the link's row of this repository is damaged, so that its last delivery is unknown ({damage}); \
                 the next pass writes the row anew"
            );
            status.last_error = Some(status.last_error.map_or(damage.clone(), |error| format!("{error}; {damage}")));
        }
        status
    }

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
