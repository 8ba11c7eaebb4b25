//! Changes of an account's documents: one commit, proven and made visible like a push, exactly once or not at all.
//!
//! Other writers may come first; the edit is then asked again on their state. An answer may be lost; the same commit is
//! then written again until a read or a write settles the outcome. Each write is conditional on the revision of the head
//! and on the commit before, so at most one of them is made, however late it arrives.

use std::fs::File;
use std::io::BufReader;
use std::time::Duration;

use gix::hash::Kind as Format;

use super::author::{Author, Signature};
use super::documents::Documents;
use super::edit::{Edit, NewCommit};
use super::error::{AccountError, CommitError};
use super::read::{BRANCH, tip};
use super::repository::AccountRepository;
use gitferry_base::clock::Clock;
use gitferry_base::retry::Attempts;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::head::{Frontier, HeadItem};
use gitferry_engine::region::consolidate::CROWDED_ABOVE;
use gitferry_engine::region::push::{Missing, PushPolicy, PushProgress, PushState, Pushed, Rejection, judge};
use gitferry_engine::region::reserved::ACCOUNT;
use gitferry_engine::region::{RegionError, blocking};
use gitferry_git::pack::PackWriter;
use gitferry_git::receive_pack::{Command, PushRequest};

/// Attempts of one change against other writers; in each round one of them wins.
pub const MAX_COMMIT_ATTEMPTS: u32 = 64;
/// Longest wait between two attempts.
const MAX_WAIT: Duration = Duration::from_millis(200);

/// Result of writing a commit once.
enum Written {
    /// The commit is visible.
    Visible(Box<HeadItem>),
    /// Another writer came first, and the commit cannot become visible.
    Lost,
    /// The commit may be visible or become so.
    InDoubt { at: Option<Frontier>, cause: RegionError },
}

/// A commit that may have been made.
struct Doubt {
    commit: NewCommit,
    /// States of the ledger to which the writes lead.
    at: Vec<Frontier>,
}

/// Decision on a state.
enum Decided {
    Commit(NewCommit),
    /// The edit leaves the documents as they are.
    Unchanged(Documents),
}

/// Outcome of a doubtful commit, as far as one state shows it.
enum Settled {
    /// The commit is in the ledger, since this state.
    Visible(Frontier),
    /// Other changes have taken the places of the writes in the ledger: the commit is not made.
    Lost,
    /// The writes may still arrive.
    Open,
}

impl AccountRepository {
    /// Changes the documents as `edit` says on the newest state, in one commit. An edit that changes nothing makes no
    /// commit and succeeds.
    ///
    /// `edit` is asked again whenever another writer comes first, at most [`MAX_COMMIT_ATTEMPTS`] times.
    ///
    /// # Errors
    /// Nothing was changed, unless the error is [`CommitError::MayHaveHappened`]. A replica refuses with
    /// [`RegionError::Replica`], which names the primary region.
    pub async fn commit<E>(
        &self,
        author: &Author,
        edit: impl FnMut(&Documents) -> Result<Edit, E>,
    ) -> Result<Documents, CommitError<E>> {
        let _one_at_a_time = self.writing.lock().await;
        let change = Change { account: self, author, edit, doubt: None, attempts: Attempts::default(), lost: 0 };
        change.run().await
    }
}

/// A change on its way.
struct Change<'a, F> {
    account: &'a AccountRepository,
    author: &'a Author,
    edit: F,
    /// Commit whose outcome is not known yet.
    doubt: Option<Doubt>,
    /// Attempts at settling the outcome.
    attempts: Attempts,
    /// Number of attempts that lost against other writers.
    lost: u32,
}

impl<E, F: FnMut(&Documents) -> Result<Edit, E>> Change<'_, F> {
    async fn run(mut self) -> Result<Documents, CommitError<E>> {
        let region = self.account.region().name().to_owned();
        while self.lost < MAX_COMMIT_ATTEMPTS {
            let cause = match self.step().await {
                Ok(Some(documents)) => return Ok(documents),
                Ok(None) => continue,
                Err(CommitError::Account(cause)) => cause,
                Err(error) => return Err(error),
            };
            // While an outcome is open, no failure is an answer.
            let Some(Doubt { commit, .. }) = &self.doubt else { return Err(cause.into()) };
            let commit = commit.id;
            if !self.attempts.again(cause.kind()).await {
                return Err(CommitError::MayHaveHappened { region, commit, cause });
            }
        }
        match self.doubt {
            Some(Doubt { commit, .. }) => {
                let cause = RegionError::Moved { repository: ACCOUNT.into() }.into();
                Err(CommitError::MayHaveHappened { region, commit: commit.id, cause })
            }
            None => Err(CommitError::Conflict { region, attempts: self.lost }),
        }
    }

    /// Tries once on the newest state. `None` if another writer came first.
    async fn step(&mut self) -> Result<Option<Documents>, CommitError<E>> {
        let account = self.account;
        let state = account.states.newest().await?;
        if let Some(doubt) = &self.doubt {
            match account.settle(&state, doubt).await? {
                Settled::Visible(at) => {
                    let commit = doubt.commit.clone();
                    return Ok(Some(account.finish(state.item.clone(), Some(at), &state, commit).await));
                }
                Settled::Lost => self.doubt = None,
                Settled::Open => {}
            }
        }
        let new = match &self.doubt {
            Some(doubt) => doubt.commit.clone(),
            None => match self.decide(&state).await? {
                Decided::Commit(new) => new,
                Decided::Unchanged(documents) => return Ok(Some(documents)),
            },
        };
        match account.write(state.clone(), &new, self.author).await? {
            Written::Visible(item) => {
                let at = account.states.state_with(&state.item, &item, BRANCH, new.id).await;
                Ok(Some(account.finish(*item, at, &state, new).await))
            }
            Written::Lost => {
                self.lose().await;
                Ok(None)
            }
            Written::InDoubt { at, cause } => {
                self.doubt.get_or_insert(Doubt { commit: new, at: Vec::new() }).at.extend(at);
                Err(AccountError::from(cause).into())
            }
        }
    }

    async fn lose(&mut self) {
        self.lost += 1;
        pause(self.account.region().clock(), self.lost).await;
    }

    /// Asks the edit on a state.
    async fn decide(&mut self, state: &PushState) -> Result<Decided, CommitError<E>> {
        let region = self.account.region();
        region.committer().check_writable(&state.item).map_err(AccountError::from)?;
        let documents = self.account.documents_in(state).await?;
        let edit = (self.edit)(&documents).map_err(CommitError::Refused)?;
        let clock = region.clock();
        let signature = Signature { author: self.author.clone(), time: clock.now(), id: clock.new_id() };
        let before = documents.clone();
        let made = blocking(move || Ok::<_, std::io::Error>(edit.commit(&before, &signature))).await;
        let made = made.map_err(AccountError::from)?.map_err(CommitError::Edit)?;
        Ok(made.map_or(Decided::Unchanged(documents), Decided::Commit))
    }
}

impl AccountRepository {
    /// Looks for the commit of a doubt in the ledger that ends in `state`.
    async fn settle(&self, state: &PushState, doubt: &Doubt) -> Result<Settled, AccountError> {
        let now = state.item.head.frontier;
        for at in &doubt.at {
            if self.states.contains(state, *at).await? {
                return Ok(Settled::Visible(*at));
            }
        }
        if tip(state) == Some(doubt.commit.id) {
            return Ok(Settled::Visible(now));
        }
        // A revision alone proves nothing: maintenance moves it without a change, and the push may have met that.
        let all_passed = !doubt.at.is_empty() && doubt.at.iter().all(|at| at.seq <= now.seq);
        Ok(if all_passed { Settled::Lost } else { Settled::Open })
    }

    /// Writes a commit on top of a state.
    async fn write(&self, state: PushState, new: &NewCommit, author: &Author) -> Result<Written, AccountError> {
        if state.manifest.packs.len() > CROWDED_ABOVE {
            self.region().consolidator().make_room(&state.item).await?;
        }
        let command = Command { name: BRANCH.into(), old: new.parent, new: Some(new.id) };
        let request = PushRequest::atomic(vec![command]);
        // The documents are not files of a work tree: a text like a pointer of Git LFS names no object.
        let policy = PushPolicy { lfs: Missing::Allow, ..PushPolicy::default() };
        let actor = author.actor();
        let judging = {
            let (state, policy, request, actor) = (state.clone(), policy.clone(), request.clone(), actor.clone());
            let objects = new.objects.clone();
            let spool = self.region().spool_dir();
            move || {
                let folder = tempfile::TempDir::new_in(&spool)?;
                let pack = write_pack(&folder.path().join("pack"), state.view.format, &objects)?;
                judge(&state, &policy, &request, &actor, &mut BufReader::new(pack), &spool, &PushProgress::default())
            }
        };
        let judged = blocking(judging).await.map_err(AccountError::from)?;
        let pushed = self.region().receiver().push(&*self.states, state, &policy, &request, judged, &actor).await;
        self.outcome(pushed)
    }

    fn outcome(&self, pushed: Result<Pushed, RegionError>) -> Result<Written, AccountError> {
        let region = || self.region().name().to_owned();
        match pushed {
            Ok(Pushed { item: Some(item), .. }) => Ok(Written::Visible(Box::new(item))),
            Ok(Pushed { rejection: Some(Rejection::Stale | Rejection::Contention) | None, .. }) => Ok(Written::Lost),
            Ok(Pushed { report, .. }) => {
                let refused = report.refs.into_iter().find_map(|outcome| outcome.result.err());
                let reasons = report.unpack.err().into_iter().chain(refused).chain(report.messages);
                let reason = reasons.collect::<Vec<_>>().join("; ");
                Err(AccountError::Rejected { region: region(), reason })
            }
            Err(RegionError::NameTaken { .. }) => Err(AccountError::Exists { region: region() }),
            Err(RegionError::Moved { .. } | RegionError::Ledger(LedgerError::Lost { .. })) => Ok(Written::Lost),
            Err(cause) if !cause.proves_nothing_happened() => {
                let at = match &cause {
                    RegionError::Ledger(LedgerError::MayHaveHappened { at, .. }) => Some(*at),
                    _ => None,
                };
                Ok(Written::InDoubt { at, cause })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the documents of a commit that is visible since the state `at`; `None` if that state is not known. `item`
    /// is the head at that state or behind it.
    async fn finish(&self, item: HeadItem, at: Option<Frontier>, before: &PushState, new: NewCommit) -> Documents {
        let documents = Documents::new(at.unwrap_or(item.head.frontier), new.id, new.root);
        if at.is_some() {
            self.learn(&documents);
        }
        self.committed(item, before.manifest.packs.len() + 1).await;
        documents
    }
}

fn write_pack(
    path: &std::path::Path,
    format: Format,
    objects: &[(gix::objs::Kind, Vec<u8>)],
) -> Result<File, RegionError> {
    let count = u32::try_from(objects.len()).map_err(std::io::Error::other)?;
    let mut pack = PackWriter::create(path, format, count)?;
    for (kind, bytes) in objects {
        pack.whole(*kind, bytes)?;
    }
    pack.finish()?;
    Ok(File::open(path)?)
}

/// Waits for a random time, longer with each attempt, so that writers that lost together come back apart.
async fn pause(clock: &dyn Clock, attempt: u32) {
    let longest = Duration::from_millis(2).saturating_mul(attempt).min(MAX_WAIT);
    let random = u32::from(clock.new_id().as_bytes()[15]) + 1;
    tokio::time::sleep(longest * random / 256).await;
}
