//! Creating, renaming, describing and deleting repositories: ordinary changes without packs.

use gix::bstr::ByteSlice as _;

use super::commit::{MAX_COMMIT_ATTEMPTS, Proposal, Subject};
use super::repositories::Repositories;
use super::reserved::refuse_account;
use super::{RegionError, Result, blocking};
use crate::ledger::LedgerError;
use crate::ledger::head::{Head, HeadItem, State};
use crate::ledger::metadata::MetadataEdit;
use gitferry_git::refname::check_repository_name;
use gitferry_git::refs::{RefName, RefValue};

/// Prefix of branch names.
const BRANCHES: &[u8] = b"refs/heads/";
/// Most branches that an error names.
const MAX_NAMED_BRANCHES: usize = 10;

/// Metadata and encryption with which a repository is created.
#[derive(Clone, Debug, Default)]
pub struct Creation {
    /// Description and tags.
    pub metadata: MetadataEdit,
    /// KMS key of the repository in its region.
    pub kms_key: Option<String>,
}

impl Repositories<'_> {
    /// Creates an empty repository.
    pub async fn create(self, name: &str, format: gix::hash::Kind, actor: &str) -> Result<HeadItem> {
        self.create_with(name, format, Creation::default(), actor).await
    }

    /// Creates an empty repository with metadata and a KMS key.
    pub async fn create_with(
        self,
        name: &str,
        format: gix::hash::Kind,
        with: Creation,
        actor: &str,
    ) -> Result<HeadItem> {
        refuse_account(name)?;
        let subject = self.region.committer().new_subject(name, format)?;
        if self.find(name).await?.is_some() {
            return Err(RegionError::NameTaken { name: name.into(), region: self.region.name().to_owned() });
        }
        if let Some(key) = &with.kms_key {
            // Before the repository exists: a crash leaves a row of no repository, and never one without its key.
            self.region.encryption().set_key_of(subject.id(), name, Some(key)).await?;
        }
        let mut proposal = self.region.committer().proposal(actor);
        proposal.metadata = with.metadata;
        self.region.committer().commit(&subject, proposal).await
    }

    /// Renames a repository.
    pub async fn rename(self, name: &str, new: &str, actor: &str) -> Result<HeadItem> {
        check_repository_name(new)?;
        refuse_account(new)?;
        self.edit(name, actor, |proposal| proposal.name = Some(new.into())).await
    }

    /// Edits the description and the tags.
    ///
    /// # Errors
    /// [`RegionError::Refused`] if the result would exceed a limit.
    pub async fn edit_metadata(self, name: &str, edit: &MetadataEdit, actor: &str) -> Result<HeadItem> {
        self.edit(name, actor, |proposal| proposal.metadata = edit.clone()).await
    }

    /// Deletes a repository: leaves a tombstone for the retention period and releases the name.
    pub async fn delete(self, name: &str, actor: &str) -> Result<HeadItem> {
        self.edit(name, actor, |proposal| proposal.state = Some(State::Deleted)).await
    }

    /// Points HEAD at a branch or an object.
    pub async fn set_head(self, name: &str, head: &RefValue, actor: &str) -> Result<HeadItem> {
        self.edit(name, actor, |proposal| proposal.head = Some(head.clone())).await
    }

    /// Points HEAD at a branch, the default of clones. The branch must exist unless `unborn` is set.
    ///
    /// # Errors
    /// [`RegionError::Refused`] if the branch does not exist.
    pub async fn set_default_branch(self, name: &str, branch: &RefName, unborn: bool, actor: &str) -> Result<HeadItem> {
        let head = RefValue::Symbolic(branch.clone());
        let needs = Some(branch).filter(|_| !unborn);
        self.edit_if(name, actor, needs, |proposal| proposal.head = Some(head.clone())).await
    }

    /// Refuses a branch that the repository does not have; the error names some that exist.
    pub async fn check_branch(self, item: &HeadItem, branch: &RefName) -> Result<()> {
        let refs = self.region.reader().refs(item).await?;
        let wanted = branch.clone();
        let checking = move || -> Result<Option<Vec<String>>> {
            let mut found = false;
            let mut others = Vec::new();
            // Read to the end: only then is the stream proven by its hashes.
            for entry in refs.open()? {
                let (name, _) = entry?;
                found |= name == wanted;
                if others.len() < MAX_NAMED_BRANCHES
                    && let Some(short) = name.as_bstr().strip_prefix(BRANCHES)
                {
                    others.push(short.as_bstr().to_string());
                }
            }
            Ok((!found).then_some(others))
        };
        let Some(others) = blocking(checking).await? else { return Ok(()) };
        let has =
            if others.is_empty() { "it has no branches".to_owned() } else { format!("it has {}", others.join(", ")) };
        let reason = format!("there is no {branch} in {}; {has}", self.region.name());
        Err(RegionError::Refused { repository: item.head.name.clone(), reason })
    }

    /// Commits a small change, deciding again on the new state each time another writer comes first.
    async fn edit(self, name: &str, actor: &str, change: impl Fn(&mut Proposal)) -> Result<HeadItem> {
        self.edit_if(name, actor, None, change).await
    }

    /// Commits like [`Self::edit`], after a check in each state that the branch in `needs` exists.
    async fn edit_if(
        self,
        name: &str,
        actor: &str,
        needs: Option<&RefName>,
        change: impl Fn(&mut Proposal),
    ) -> Result<HeadItem> {
        let mut item = self.get(name).await?;
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let id = item.id;
            refuse_account(&item.head.name)?;
            self.region.committer().check_writable(&item)?;
            if let Some(branch) = needs {
                self.check_branch(&item, branch).await?;
            }
            let mut proposal = self.region.committer().proposal(actor);
            change(&mut proposal);
            proposal.metadata = proposal.metadata.on(&item.head.metadata);
            if is_idle(&proposal, &item.head) {
                return Ok(item);
            }
            match self.region.committer().commit(&Subject::Existing(Box::new(item)), proposal).await {
                Err(RegionError::Ledger(LedgerError::Lost { .. })) => item = self.same(name, id).await?,
                result => return result,
            }
        }
        Err(RegionError::Moved { repository: name.into() })
    }
}

/// Returns true if a small change would leave the head as it is.
fn is_idle(proposal: &Proposal, head: &Head) -> bool {
    let same_name = proposal.name.as_ref().is_none_or(|name| *name == head.name);
    let same_head = proposal.head.as_ref().is_none_or(|new| *new == head.head);
    same_name && same_head && proposal.state.is_none() && proposal.metadata.is_empty()
}
