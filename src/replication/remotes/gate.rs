//! What a pass asks before each push.

use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::error::RemotesError;
use super::pass::RemoteLink;
use super::relay::Task;
use super::rows::RemoteRow;
use gitferry_store::table::{Condition, TableError};

/// What a pass asks before each push. Blocking.
pub trait Gate: Sync {
    /// An error where it must not push.
    fn before_push(&self) -> Result<(), RemotesError>;
}

impl Task<'_> {
    /// Asked before each push.
    pub(super) fn before_push(&self) -> Result<(), RemotesError> {
        self.gate.map_or(Ok(()), Gate::before_push)
    }
}

/// Sees to it that the row of a repository vouches for no ref that is about to move: whoever dies before it tells what
/// it left leaves a row that knows nothing. And a pass whose turn is over pushes no more.
pub(super) struct LinkGate {
    link: RemoteLink,
    name: String,
    runtime: Handle,
    /// Cancelled when the pass must not push any more.
    over: CancellationToken,
    /// The row as it is now, and the condition on which it may be replaced.
    row: Mutex<(RemoteRow, Condition)>,
}

impl LinkGate {
    /// Before the pushes of a pass that has read this row.
    pub fn new(link: &RemoteLink, name: &str, row: (RemoteRow, Condition), over: &CancellationToken) -> LinkGate {
        let (link, runtime, over) = (link.clone(), Handle::current(), over.clone());
        LinkGate { link, name: name.into(), runtime, over, row: Mutex::new(row) }
    }

    /// The row when the pass is done.
    pub fn into_row(self) -> (RemoteRow, Condition) {
        self.row.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that refs are about to move, where the row still vouches for some.
    fn note_under_way(&self) -> Result<(), RemotesError> {
        let mut noted = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        let (row, condition) = &*noted;
        let (true, Condition::Revision(revision)) = (row.vouches(), *condition) else { return Ok(()) };
        let row = RemoteRow { under_way: true, ..row.clone() };
        match self.runtime.block_on(self.link.replace_row(&self.name, *condition, &row)) {
            Ok(()) => *noted = (row, Condition::Revision(revision + 1)),
            // What this pass has looked at is no longer the newest.
            Err(RemotesError::Table(TableError::ConditionFailed { .. })) => return Err(RemotesError::UnderWay),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Gate for LinkGate {
    fn before_push(&self) -> Result<(), RemotesError> {
        self.note_under_way()?;
        // A thread that waits goes on although nobody waits for it, even when its process was frozen for hours.
        match self.over.is_cancelled() {
            true => Err(RemotesError::Over),
            false => Ok(()),
        }
    }
}
