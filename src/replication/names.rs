//! Names that change hands: a replica whose name another repository of the target still holds waits for it, and gets
//! it with the delivery that frees it.
//!
//! Two repositories that are delivered at the same time cannot miss each other: the one that frees a name looks for
//! the one that waits after its commit, and the one that waits asks once more after its own.

use super::deliver::Link;
use super::error::{InRegion as _, ReplicationError};
use super::pairs::waits_for_name;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::advance::{Advance, advance_head, read_head};
use gitferry_engine::ledger::head::{Head, HeadItem, Role};

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
        let now_name = now.head.name.clone();
        let settling = async {
            if let Some(freed) = freed {
                self.hand_over(&freed.name).await?;
            }
            match self.claim_name(now.clone()).await? {
                true => Ok(None),
                false => self.rival(&now).await,
            }
        };
        match settling.await {
            Ok(None) => {}
            Ok(Some(reason)) => tracing::error!(link = self.name, "{}: {reason}", now_name),
            Err(error) => {
                tracing::warn!(%error, link = self.name, "a name could not be handed over; the next sweep does");
            }
        }
    }

    /// In words, that both regions of the link made a repository of one name, and the command that ends it: for a replica
    /// whose name a primary of the target holds. `None` where the name is free, or a replica holds it until its own
    /// source lets go.
    pub(super) async fn rival(&self, replica: &HeadItem) -> Result<Option<String>, ReplicationError> {
        if !waits_for_name(&replica.head) {
            return Ok(None);
        }
        let name = &replica.head.name;
        let holder = self.target.find(name).await.in_region(&self.target)?;
        let Some(holder) = holder.filter(|item| item.id != replica.id && item.head.role == Role::Primary) else {
            return Ok(None);
        };
        // Both directions name the same one: the one that was made later.
        let (first, later) = if replica.id < holder.id { (replica, &holder) } else { (&holder, replica) };
        let (one, other) = (&first.head.epoch.region, &later.head.epoch.region);
        Ok(Some(format!(
            "{one} and {other} both made a repository {name}: {} and, later, {}. Neither goes to the other region under \
             this name. Give one of them another name: `gitferry repo rename {} {name}-2 --region {other}`",
            first.id, later.id, later.id
        )))
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
