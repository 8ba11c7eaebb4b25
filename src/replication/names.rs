//! Names that move from one repository to another. A replica whose name another repository of the target still holds is
//! unnamed until the delivery that frees the name hands it over.
//!
//! Two concurrent deliveries cannot miss each other: the delivery that frees a name looks for the waiting replica after
//! its commit, and the delivery of the waiting replica claims the name once more after its own.

use super::error::{InRegion as _, ReplicationError};
use super::link::Link;
use super::pairs::waits_for_name;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::advance::{Advance, advance_head};
use gitferry_engine::ledger::head::{Head, HeadItem, Role};
use gitferry_engine::ledger::heads::read_head;

impl Link {
    /// Names a replica that waits for its name, if the name is free. Returns true if the replica got the name.
    pub async fn claim_name(&self, item: HeadItem) -> Result<bool, ReplicationError> {
        if !waits_for_name(&item.head) {
            return Ok(false);
        }
        let after = Head { named: true, ..item.head.clone() };
        let step = Advance { id: item.id, before: Some(item), after, manifest: None, with: Vec::new() };
        match advance_head(self.target.table(), step).await {
            Ok(_) => Ok(true),
            Err(LedgerError::NameTaken { .. } | LedgerError::Lost { .. }) => Ok(false),
            Err(error) => Err(error).in_region(&self.target),
        }
    }

    /// Settles names after a delivery: claims the name that the replica waits for, and hands the name that the delivery
    /// freed to the replica of the repository that holds it in the source. After a failure, the next sweep does so: a
    /// sweep visits every waiting replica.
    pub(super) async fn settle_names(&self, before: Option<&Head>, now: HeadItem) {
        let freed = before.filter(|head| head.named && (!now.head.named || now.head.name != head.name));
        let now_name = now.head.name.clone();
        let settling = async {
            if let Some(freed) = freed {
                self.hand_over(&freed.name).await?;
            }
            if self.claim_name(now.clone()).await? { Ok(None) } else { self.name_conflict(&now).await }
        };
        match settling.await {
            Ok(None) => {}
            Ok(Some(reason)) => tracing::error!(link = self.name, "{}: {reason}", now_name),
            Err(error) => {
                tracing::warn!(%error, link = self.name, "the name could not be handed over; the next sweep tries again");
            }
        }
    }

    /// Describes the conflict of a replica whose name a primary of the target holds, as both regions of the link
    /// created a repository of that name, and the command that resolves it. Returns `None` if the name is free, or if a
    /// replica holds it until its own source is renamed or deleted.
    pub(super) async fn name_conflict(&self, replica: &HeadItem) -> Result<Option<String>, ReplicationError> {
        if !waits_for_name(&replica.head) {
            return Ok(None);
        }
        let name = &replica.head.name;
        let holder = self.target.repositories().find(name).await.in_region(&self.target)?;
        let Some(holder) = holder.filter(|item| item.id != replica.id && item.head.role == Role::Primary) else {
            return Ok(None);
        };
        // Links in both directions report the same repository, the one that was created later: ids sort by time.
        let (first, later) = if replica.id < holder.id { (replica, &holder) } else { (&holder, replica) };
        let one = &first.head.epoch.region;
        let other = &later.head.epoch.region;
        Ok(Some(format!(
            "{one} and {other} both created a repository {name}: {} and, later, {}; neither is replicated under this \
             name; rename one of them: `gitferry repo rename {} {name}-2 --region {other}`",
            first.id, later.id, later.id
        )))
    }

    async fn hand_over(&self, name: &str) -> Result<(), ReplicationError> {
        let Some(heir) = self.source.repositories().find(name).await.in_region(&self.source)? else { return Ok(()) };
        let replica = read_head(self.target.table(), heir.id).await.in_region(&self.target)?;
        match replica.filter(|item| item.head.name == name) {
            Some(item) => self.claim_name(item).await.map(drop),
            None => Ok(()),
        }
    }
}
