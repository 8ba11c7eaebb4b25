//! Changes that only name LFS objects: objects that came after their pointers.

use super::LfsStore;
use crate::ledger::LedgerError;
use crate::ledger::change::{LfsObject, MAX_LFS_OBJECTS};
use crate::ledger::head::{HeadItem, RepositoryId};
use crate::ledger::heads::read_head;
use crate::region::commit::Subject;
use crate::region::{RegionError, Result};
use gitferry_git::lfs::LfsOid;

/// Attempts of a change that names objects against concurrent writers.
const MAX_NAMING_ATTEMPTS: u32 = 128;
/// Actor of changes that name the objects of an interrupted upload.
const MAINTENANCE: &str = "gitferry maintain";

impl LfsStore<'_> {
    /// Commits changes that only name objects that came after their pointers. Returns the head afterwards; `None` if
    /// there was nothing to name.
    pub async fn name(self, id: RepositoryId, objects: &[LfsObject], actor: &str) -> Result<Option<HeadItem>> {
        // A request may have named an object twice.
        let mut objects = objects.to_vec();
        objects.sort_unstable_by_key(|object| object.oid);
        objects.dedup_by_key(|object| object.oid);
        let mut head = None;
        for objects in objects.chunks(MAX_LFS_OBJECTS) {
            head = Some(self.name_once(id, objects, actor).await?);
            self.forget_missing(id, objects).await?;
        }
        Ok(head)
    }

    /// Names the objects that came after their pointers and whose upload ended before a change named them. Returns
    /// their number; with `dry`, nothing is changed. A replica waits for its source.
    pub async fn name_late(self, id: RepositoryId, dry: bool) -> Result<u64> {
        let oids: Vec<LfsOid> = self.awaited(id).await?.iter().map(|pointer| pointer.oid).collect();
        let late: Vec<LfsObject> = self.objects(id, &oids).await?.into_iter().flatten().collect();
        if late.is_empty() {
            return Ok(0);
        }
        let writable = read_head(self.region.table(), id)
            .await?
            .is_some_and(|item| self.region.committer().check_writable(&item).is_ok());
        if !writable {
            return Ok(0);
        }
        if !dry {
            self.name(id, &late, MAINTENANCE).await?;
        }
        Ok(late.len() as u64)
    }

    async fn name_once(self, id: RepositoryId, objects: &[LfsObject], actor: &str) -> Result<HeadItem> {
        for _ in 0..MAX_NAMING_ATTEMPTS {
            let item = read_head(self.region.table(), id).await?;
            let gone = || RegionError::NoRepository { name: id.to_string(), region: self.region.name().to_owned() };
            let item = item.ok_or_else(gone)?;
            self.region.committer().check_writable(&item)?;
            let mut proposal = self.region.committer().proposal(actor);
            proposal.lfs = objects.to_vec();
            match self.region.committer().commit(&Subject::Existing(Box::new(item)), proposal).await {
                Err(RegionError::Ledger(LedgerError::Lost { .. })) => {}
                result => return result,
            }
        }
        Err(RegionError::Moved { repository: id.to_string() })
    }
}
