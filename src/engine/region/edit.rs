//! Making, renaming and deleting repositories: changes like any other.

use gix::bstr::ByteSlice as _;

use super::commit::{MAX_COMMIT_ATTEMPTS, Proposal, Subject};
use super::{Region, RegionError, Result, blocking};
use crate::ledger::LedgerError;
use crate::ledger::head::{HeadItem, RepositoryId, State};
use gitferry_git::refname::check_repository_name;
use gitferry_git::refs::{RefName, RefValue};

/// Below this are branches.
const BRANCHES: &[u8] = b"refs/heads/";
/// Most branches that an error names.
const MAX_NAMED_BRANCHES: usize = 10;

impl Region {
    /// A repository to be made, under a fresh id.
    pub fn new_subject(&self, name: &str, format: gix::hash::Kind) -> Result<Subject> {
        check_repository_name(name)?;
        Ok(Subject::New { id: RepositoryId(self.clock.new_id()), name: name.into(), format })
    }

    /// Makes an empty repository.
    pub async fn create(&self, name: &str, format: gix::hash::Kind, actor: &str) -> Result<HeadItem> {
        let subject = self.new_subject(name, format)?;
        if self.find(name).await?.is_some() {
            return Err(RegionError::NameTaken { name: name.into(), region: self.name.clone() });
        }
        self.commit(&subject, self.proposal(actor)).await
    }

    /// Gives a repository another name.
    pub async fn rename(&self, name: &str, new: &str, actor: &str) -> Result<HeadItem> {
        check_repository_name(new)?;
        self.edit(name, actor, |proposal| proposal.name = Some(new.into())).await
    }

    /// Leaves a tombstone, kept for the retention period, and releases the name.
    pub async fn delete(&self, name: &str, actor: &str) -> Result<HeadItem> {
        self.edit(name, actor, |proposal| proposal.state = Some(State::Deleted)).await
    }

    /// Lets HEAD name another branch, or an object.
    pub async fn set_head(&self, name: &str, head: &RefValue, actor: &str) -> Result<HeadItem> {
        self.edit(name, actor, |proposal| proposal.head = Some(head.clone())).await
    }

    /// Lets HEAD name a branch that is there: what a clone checks out. With `unborn`, the branch need not be there yet.
    ///
    /// # Errors
    /// [`RegionError::Refused`] when there is no such branch.
    pub async fn set_default_branch(
        &self,
        name: &str,
        branch: &RefName,
        unborn: bool,
        actor: &str,
    ) -> Result<HeadItem> {
        let head = RefValue::Symbolic(branch.clone());
        let needs = Some(branch).filter(|_| !unborn);
        self.edit_if(name, actor, needs, |proposal| proposal.head = Some(head.clone())).await
    }

    /// Refuses a branch that a repository does not have, and names some that it has.
    pub async fn check_branch(&self, item: &HeadItem, branch: &RefName) -> Result<()> {
        let (refs, wanted) = (self.refs(item).await?, branch.clone());
        let looking = move || -> Result<Option<Vec<String>>> {
            let (mut found, mut others) = (false, Vec::new());
            // To the end, where the hashes have proven it.
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
        let Some(others) = blocking(looking).await? else { return Ok(()) };
        let has = match others.is_empty() {
            true => "it has no branches".to_owned(),
            false => format!("it has {}", others.join(", ")),
        };
        let reason = format!("there is no {branch} in {}; {has}", self.name);
        Err(RegionError::Refused { repository: item.head.name.clone(), reason })
    }

    /// A proposal that changes nothing yet.
    pub fn proposal(&self, actor: &str) -> Proposal {
        Proposal {
            actor: actor.into(),
            name: None,
            state: None,
            head: None,
            edits: self.edit_spool(),
            refs_added: 0,
            packs: Vec::new(),
            lfs: Vec::new(),
        }
    }

    /// Commits a small change, decided again on the new state as often as somebody else comes first.
    async fn edit(&self, name: &str, actor: &str, change: impl Fn(&mut Proposal)) -> Result<HeadItem> {
        self.edit_if(name, actor, None, change).await
    }

    /// The same for a change that `needs` a branch: each state is checked before the change is made to it.
    async fn edit_if(
        &self,
        name: &str,
        actor: &str,
        needs: Option<&RefName>,
        change: impl Fn(&mut Proposal),
    ) -> Result<HeadItem> {
        let mut item = self.get(name).await?;
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let id = item.id;
            self.check_writable(&item)?;
            if let Some(branch) = needs {
                self.check_branch(&item, branch).await?;
            }
            let mut proposal = self.proposal(actor);
            change(&mut proposal);
            if proposal.name.as_ref() == Some(&item.head.name) || proposal.head.as_ref() == Some(&item.head.head) {
                return Ok(item);
            }
            match self.commit(&Subject::Existing(Box::new(item)), proposal).await {
                Err(RegionError::Ledger(LedgerError::Lost { .. })) => item = self.same(name, id).await?,
                result => return result,
            }
        }
        Err(RegionError::Moved { repository: name.into() })
    }
}
