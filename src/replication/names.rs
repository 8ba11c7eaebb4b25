//! Names that change hands: a replica whose name another repository of the target still holds waits for it, and gets
//! it with the delivery that frees it.
//!
//! Two repositories that are delivered at the same time cannot miss each other: the one that frees a name looks for
//! the one that waits after its commit, and the one that waits asks once more after its own.

use super::deliver::Link;
use super::error::{InRegion as _, ReplicationError};
use super::pairs::waits_for_name;
use crate::ledger::LedgerError;
use crate::ledger::advance::{Advance, advance_head, read_head};
use crate::ledger::head::{Head, HeadItem};

impl Link {
    /// Gives a replica that waits for its name the name, if that is free now. Returns `true` if it did.
    pub async fn claim_name(&self, item: HeadItem) -> Result<bool, ReplicationError> {
        if !waits_for_name(&item.head) {
            return Ok(false);
        }
        let after = Head { named: true, ..item.head.clone() };
        let step = Advance { id: item.id, before: Some(item), after, manifest: None, with: Vec::new() };
        match advance_head(&*self.target.table, step).await {
            Ok(_) => Ok(true),
            Err(LedgerError::NameTaken { .. } | LedgerError::Lost { .. }) => Ok(false),
            Err(error) => Err(error).in_region(&self.target),
        }
    }

    /// Settles names after a delivery: the replica asks for the name that it waits for, and the name that it let go
    /// of goes to the replica of the repository that holds it in the source. A failure is left to the next sweep,
    /// which looks at every replica that waits.
    pub(super) async fn settle_names(&self, before: Option<&Head>, now: HeadItem) {
        let freed = before.filter(|head| head.named && (!now.head.named || now.head.name != head.name));
        let settling = async {
            if let Some(freed) = freed {
                self.hand_over(&freed.name).await?;
            }
            self.claim_name(now).await
        };
        if let Err(error) = settling.await {
            tracing::warn!(%error, link = self.name, "a name could not be handed over; the next sweep does");
        }
    }

    async fn hand_over(&self, name: &str) -> Result<(), ReplicationError> {
        let Some(heir) = self.source.find(name).await.in_region(&self.source)? else { return Ok(()) };
        let replica = read_head(&*self.target.table, heir.id).await.in_region(&self.target)?;
        match replica.filter(|item| item.head.name == name) {
            Some(item) => self.claim_name(item).await.map(drop),
            None => Ok(()),
        }
    }
}
