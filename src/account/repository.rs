//! [`AccountRepository`]: the repository with the documents of a region's account.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use gix::ObjectId;
use gix::hash::Kind as Format;

use super::author::Author;
use super::documents::Documents;
use super::edit::Edit;
use super::error::{AccountError, CommitError};
use super::read::{read_commit, read_documents, tip};
use super::states::States;
use gitferry_engine::announce::{Event, Sink};
use gitferry_engine::ledger::head::{HeadItem, RepositoryId};
use gitferry_engine::region::push::PushState;
use gitferry_engine::region::reserved::ACCOUNT;
use gitferry_engine::region::{Region, RegionError, blocking};
use gitferry_git::receive_pack::is_ancestor;

/// The account's repository in a region. Clones share what they have read.
///
/// It stays bound to the id that it was opened with: a repository that takes over the name is another account, which only
/// a new value reads.
#[derive(Clone, Debug)]
pub struct AccountRepository {
    pub(crate) states: Arc<States>,
    /// Newest documents that were read.
    known: Arc<Mutex<Option<Documents>>>,
    /// Held by the one change that this process makes at a time.
    pub(crate) writing: Arc<tokio::sync::Mutex<()>>,
    announce: Option<Arc<dyn Sink>>,
}

impl AccountRepository {
    /// Opens the account's repository of a region. Reading never creates one.
    ///
    /// # Errors
    /// [`AccountError::Absent`] if the region has no account.
    pub async fn open(region: &Region) -> Result<Self, AccountError> {
        let found = Self::find(region).await?;
        found.ok_or_else(|| AccountError::Absent { region: region.name().to_owned() })
    }

    /// Opens the account's repository of a region; `None` if the region has no account.
    pub(crate) async fn find(region: &Region) -> Result<Option<Self>, AccountError> {
        let item = region.repositories().find(ACCOUNT).await?;
        Ok(item.map(|item| Self::of(States::of(region.clone(), item.id))))
    }

    /// Creates the account's repository with its first documents, in one change.
    ///
    /// A region creates an account although another region has one: a link between the two then reports that both hold
    /// the name. Callers create the account in one region only.
    ///
    /// # Errors
    /// [`AccountError::Exists`] if the region has an account.
    pub async fn create(region: &Region, author: &Author, first: Edit) -> Result<Self, CommitError<Infallible>> {
        if Self::find(region).await?.is_some() {
            return Err(AccountError::Exists { region: region.name().to_owned() }.into());
        }
        let unborn = region.receiver().unborn(ACCOUNT, Format::Sha1).await.map_err(AccountError::from)?;
        let account = Self::of(States::to_create(region.clone(), unborn));
        account.commit(author, |_| Ok(first.clone())).await?;
        Ok(Self::of(States::of(region.clone(), account.id())))
    }

    fn of(states: States) -> Self {
        AccountRepository { states: Arc::new(states), known: Arc::default(), writing: Arc::default(), announce: None }
    }

    /// Announces each change that this value commits to `sink`, as a host announces pushes: links deliver the change and
    /// a [`Follower`](super::Follower) reads it without waiting for its interval.
    #[must_use]
    pub fn announcing(self, sink: Arc<dyn Sink>) -> Self {
        AccountRepository { announce: Some(sink), ..self }
    }

    /// Returns the id of the repository.
    pub fn id(&self) -> RepositoryId {
        self.states.id()
    }

    /// Returns the region of the repository.
    pub fn region(&self) -> &Region {
        self.states.region()
    }

    /// Reads the newest documents. Costs one read of the head if nothing has changed, and otherwise what has changed
    /// since this value, or a clone of it, read the documents last.
    ///
    /// # Errors
    /// [`AccountError::Gone`] if the repository is missing, [`AccountError::Diverged`] if its state does not follow from
    /// the last one, [`AccountError::Damaged`] with the path and the pack of what is damaged. An account that cannot be
    /// read is never an empty one.
    pub async fn read(&self) -> Result<Documents, AccountError> {
        let state = self.states.newest().await?;
        self.documents_in(&state).await
    }

    /// Makes the documents equal to those of an earlier commit, as a new change.
    ///
    /// # Errors
    /// [`AccountError::NoCommit`] if the commit is not in the history of the account. Others as for [`Self::commit`].
    pub async fn restore(&self, author: &Author, commit: ObjectId) -> Result<Documents, CommitError<Infallible>> {
        let older = self.documents_of(commit).await?;
        let message = format!("Restore the documents of commit {commit}");
        self.commit(author, |now| {
            // Towards the older state: the changes from now on to then.
            let changes = older.changes_since(now).into_iter();
            let documents =
                changes.map(|change| (change.path, change.document.map(|document| document.bytes().clone())));
            Ok(Edit { documents: documents.collect::<Vec<(String, Option<Bytes>)>>(), message: message.clone() })
        })
        .await
    }

    /// Reads the documents of a commit in the history of the account.
    async fn documents_of(&self, commit: ObjectId) -> Result<Documents, AccountError> {
        let state = self.states.newest().await?;
        let region = self.region().name().to_owned();
        let known = self.known();
        blocking(move || {
            let packs = &*state.view.packs;
            let is_held = packs.contains(&commit) && commit.kind() == packs.format();
            let reachable = match tip(&state) {
                Some(tip) if is_held => is_ancestor(&commit, &tip, [packs]).map_err(RegionError::from)?,
                _ => false,
            };
            if !reachable {
                return Err(AccountError::NoCommit { region, commit });
            }
            read_commit(&region, &state, commit, known.as_ref())
        })
        .await
    }

    /// Reads the documents of a state that is the newest one or was a moment ago.
    pub(crate) async fn documents_in(&self, state: &PushState) -> Result<Documents, AccountError> {
        if state.item.revision == 0 {
            return Ok(Documents::before_the_first_change(state.view.format));
        }
        let known = self.known();
        if let Some(known) = known.as_ref().filter(|known| known.frontier() == state.item.head.frontier) {
            return Ok(known.clone());
        }
        let region = self.region().name().to_owned();
        let state = state.clone();
        let documents = blocking(move || read_documents(&region, &state, known.as_ref())).await?;
        self.learn(&documents);
        Ok(documents)
    }

    fn known(&self) -> Option<Documents> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers documents that were read or committed, unless newer ones are known.
    pub(crate) fn learn(&self, documents: &Documents) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|known| known.frontier().seq <= documents.frontier().seq) {
            *known = Some(documents.clone());
        }
    }

    /// Announces a change that was committed here, and keeps the repository in shape. Best effort.
    pub(crate) async fn committed(&self, item: HeadItem, packs: usize) {
        if let Some(sink) = &self.announce {
            let region = self.region().name().to_owned();
            sink.publish(Event { region, repository: item.id, seq: item.head.frontier.seq });
        }
        let item = self.region().snapshots().maintain(item).await;
        self.region().consolidator().maintain_packs(item.id, packs).await;
    }
}
