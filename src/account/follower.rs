//! [`Follower`]: the newest documents of an account in memory, for each request to use without a wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::documents::Documents;
use super::error::AccountError;
use super::repository::AccountRepository;
use gitferry_base::retry::Backoff;
use gitferry_base::supervise::Supervisor;
use gitferry_engine::announce::{Event, Sink};
use gitferry_engine::region::Region;

/// Interval at which the follower reads the head: with the time of reading the change, a revoked key stops working
/// within 2 s in this region.
pub const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time for which the last state is used while it cannot be confirmed. Afterwards it is stale, and requests that
/// depend on it are to be refused.
pub const MAX_STALENESS: Duration = Duration::from_secs(60);
/// Longest wait after failures, before jitter.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Longest time for one reading.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// State of an account as far as this process knows it.
#[derive(Clone, Debug)]
pub enum Known {
    /// Nothing has been read yet. This says nothing about the account: refuse.
    Unread,
    /// The region has no account, and had none since this process started. A host that needs one refuses everything.
    Absent,
    /// The newest documents that were read.
    Documents(Documents),
}

/// Value that a [`Follower`] publishes.
#[derive(Clone, Debug)]
pub struct Followed {
    known: Known,
    /// Time at which the last reading began that found this to be the newest state.
    confirmed: Option<Instant>,
    trouble: Option<Arc<str>>,
}

/// Age of a followed state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Staleness {
    /// The state was the newest one within [`MAX_STALENESS`].
    Current,
    /// The state was not confirmed within [`MAX_STALENESS`]: it grants nothing.
    Stale {
        /// Time since the state was confirmed; `None` if it never was.
        age: Option<Duration>,
        /// The last failure, for the log.
        reason: Arc<str>,
    },
}

impl Followed {
    /// Returns the state of the account.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Returns the documents, if there are some.
    pub fn documents(&self) -> Option<&Documents> {
        match &self.known {
            Known::Documents(documents) => Some(documents),
            Known::Unread | Known::Absent => None,
        }
    }

    /// Returns the last failure, if the state could not be confirmed since.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Returns the age of the state now. A value that is no longer updated becomes stale as well.
    pub fn staleness(&self) -> Staleness {
        let age = self.confirmed.map(|confirmed| confirmed.elapsed());
        if age.is_some_and(|age| age <= MAX_STALENESS) {
            return Staleness::Current;
        }
        let reason = self.trouble.clone().unwrap_or_else(|| "the account has not been read yet".into());
        Staleness::Stale { age, reason }
    }
}

/// Follows the account of a region. Clones are handles on the same follower.
#[derive(Clone, Debug)]
pub struct Follower {
    region: Region,
    repository: Arc<Mutex<Option<AccountRepository>>>,
    published: watch::Sender<Followed>,
    wake: Arc<Notify>,
}

impl Follower {
    /// Creates a follower that has read nothing yet. [`Self::run_under`] starts it.
    pub fn new(region: Region) -> Self {
        let unread = Followed { known: Known::Unread, confirmed: None, trouble: None };
        let published = watch::Sender::new(unread);
        Follower { region, repository: Arc::default(), published, wake: Arc::default() }
    }

    /// Returns a receiver of the state. It is notified of changed documents and of the beginning and end of trouble, not
    /// of each confirmation.
    pub fn subscribe(&self) -> watch::Receiver<Followed> {
        self.published.subscribe()
    }

    /// Follows the account until the supervisor's stop signal.
    pub fn run_under(&self, supervisor: &mut Supervisor) {
        let stop = supervisor.stop();
        let follower = self.clone();
        supervisor.keep("the follower of the account", move || follower.clone().run(stop.clone()));
    }

    /// Reads the account at once, without the wait for the interval.
    ///
    /// # Errors
    /// The account cannot be read; the last state stays.
    pub async fn refresh(&self) -> Result<(), AccountError> {
        let began = Instant::now();
        let reading = tokio::time::timeout(READ_TIMEOUT, self.read()).await;
        let read = reading.unwrap_or_else(|_| {
            let region = self.region.name().to_owned();
            Err(AccountError::Timeout { region, seconds: READ_TIMEOUT.as_secs() })
        });
        match read {
            Ok(known) => {
                self.publish(known, began);
                Ok(())
            }
            Err(error) => {
                self.note(&error);
                Err(error)
            }
        }
    }

    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut backoff: Option<Backoff> = None;
        loop {
            let wait = match self.refresh().await {
                Ok(()) => {
                    backoff = None;
                    FOLLOW_INTERVAL
                }
                Err(error) => backoff.get_or_insert_with(|| Backoff::at_most(error.kind(), LONGEST_WAIT)).next_wait(),
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn read(&self) -> Result<Known, AccountError> {
        let open = self.repository().clone();
        let repository = match open {
            Some(repository) => repository,
            None => {
                let Some(found) = AccountRepository::find(&self.region).await? else { return Ok(Known::Absent) };
                self.repository().get_or_insert(found).clone()
            }
        };
        Ok(Known::Documents(repository.read().await?))
    }

    fn repository(&self) -> std::sync::MutexGuard<'_, Option<AccountRepository>> {
        self.repository.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a state that was read since `began`.
    fn publish(&self, known: Known, began: Instant) {
        self.published.send_if_modified(|followed| {
            // Of two readings at the same time, the newer state counts.
            let is_new = match (&followed.known, &known) {
                (Known::Documents(old), Known::Documents(new)) => new.frontier().seq > old.frontier().seq,
                (Known::Documents(_), _) | (Known::Absent, Known::Absent) => false,
                _ => true,
            };
            if is_new {
                followed.known = known;
            }
            followed.confirmed = followed.confirmed.max(Some(began));
            let ended = followed.trouble.take();
            if ended.is_some() {
                tracing::info!(region = self.region.name(), "the account can be read again");
            }
            is_new || ended.is_some()
        });
    }

    /// Records a failure. The log has it once, and again when the reason changes.
    fn note(&self, error: &AccountError) {
        let reason: Arc<str> = gitferry_base::error::chain(error).into();
        self.published.send_if_modified(|followed| {
            if followed.trouble.as_ref() == Some(&reason) {
                return false;
            }
            let seconds = if matches!(error, AccountError::Detached { .. }) { 0 } else { MAX_STALENESS.as_secs() };
            tracing::error!(
                region = self.region.name(),
                reason = &*reason,
                seconds,
                "the account cannot be read; its last state counts for this many seconds"
            );
            followed.trouble = Some(reason);
            if let AccountError::Detached { .. } = error {
                // The table itself says so: the last state counts no longer.
                followed.confirmed = None;
            }
            true
        });
    }
}

/// Wakes the follower after a change of the account's repository.
impl Sink for Follower {
    fn publish(&self, event: Event) {
        let is_account = self.repository().as_ref().is_some_and(|repository| repository.id() == event.repository);
        if event.region == self.region.name() && is_account {
            self.wake.notify_one();
        }
    }
}
