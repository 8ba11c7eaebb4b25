//! [`Identities`]: authentication in step with the account of a region.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use gitferry_account::{AccountError, Documents, Followed, Follower, Staleness};
use gitferry_base::supervise::Supervisor;
use gitferry_engine::announce::{Event, Sink};
use gitferry_engine::region::{Region, blocking};
use gitferry_iam::secret::KeyService;
use gitferry_iam::{Account, Authenticator, KeyRing};

/// Services that signatures of requests to a host name.
pub const SERVICES: [&str; 3] = ["codecommit", "iam", "sts"];
/// Interval between attempts to open the data keys of an account.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Longest time that [`Identities::catch_up`] waits.
pub const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time for opening the data keys once.
const KEYS_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests cannot be authenticated: the account has not been read, or not for too long. They are to be refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the account of region {region} cannot be used: {reason}")]
pub struct Unavailable {
    /// Name of the region.
    pub region: String,
    /// Reason for the operator.
    pub reason: String,
}

/// The identities of a region's account. Requests are authenticated by a state in memory, which follows the account.
#[derive(Debug)]
pub struct Identities {
    region: String,
    authenticator: Authenticator,
    follower: Follower,
    followed: watch::Receiver<Followed>,
    key_services: Vec<Arc<dyn KeyService>>,
    /// Number of the newest change of the account that requests are authenticated by.
    in_force: watch::Sender<u64>,
}

/// State that was taken from the account last.
struct Taken {
    documents: Documents,
    account: Arc<Account>,
    keys: Option<Arc<KeyRing>>,
}

impl Identities {
    /// Identities of the account of `region`, whose data keys `key_services` open. Refuses all requests until
    /// [`Identities::run_under`] has started and the account has been read.
    pub fn new(region: &Region, key_services: Vec<Arc<dyn KeyService>>) -> Arc<Self> {
        let follower = Follower::new(region.clone());
        let followed = follower.subscribe();
        let authenticator = Authenticator::new(region.name(), &SERVICES, region.shared_clock().clone());
        let region = region.name().to_owned();
        let in_force = watch::Sender::new(0);
        Arc::new(Identities { region, authenticator, follower, followed, key_services, in_force })
    }

    /// Follows the account until the supervisor's stop signal.
    pub fn run_under(self: &Arc<Self>, supervisor: &mut Supervisor) {
        self.follower.run_under(supervisor);
        let stop = supervisor.stop();
        let identities = self.clone();
        supervisor.keep("the identities of the account", move || identities.clone().run(stop.clone()));
    }

    /// Reads the account at once.
    ///
    /// # Errors
    /// The account cannot be read; the last state stays.
    pub async fn refresh(&self) -> Result<(), AccountError> {
        self.follower.refresh().await
    }

    /// Reads the account, and waits until requests are authenticated by what was read, at most [`CATCH_UP_TIMEOUT`]. A
    /// client that changed the account then finds its change.
    pub async fn catch_up(&self) {
        let caught_up = async {
            self.refresh().await?;
            let newest = self.followed.borrow().documents().map_or(0, |documents| documents.frontier().seq);
            // The sender is a field: it is not dropped while this waits.
            let _ = self.in_force.subscribe().wait_for(|seq| *seq >= newest).await;
            Ok::<_, AccountError>(())
        };
        match tokio::time::timeout(CATCH_UP_TIMEOUT, caught_up).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(region = self.region, %error, "a change of the account is not read yet"),
            Err(_) => tracing::warn!(region = self.region, "a change of the account is not in force yet"),
        }
    }

    /// Authenticates by the newest state of the account.
    ///
    /// # Errors
    /// The state is unknown, or too old to grant anything.
    pub fn authenticator(&self) -> Result<&Authenticator, Unavailable> {
        let staleness = self.followed.borrow().staleness();
        match staleness {
            Staleness::Current => Ok(&self.authenticator),
            Staleness::Stale { reason, .. } => {
                Err(Unavailable { region: self.region.clone(), reason: reason.to_string() })
            }
        }
    }

    /// Returns true if the region had an account when the account was read last.
    pub fn has_account(&self) -> bool {
        self.followed.borrow().documents().is_some()
    }

    async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut followed = self.followed.clone();
        followed.mark_changed();
        let mut taken = None;
        loop {
            let newest = followed.borrow_and_update().documents().cloned();
            let is_complete = match newest {
                Some(documents) => self.take(&mut taken, documents).await,
                None => true,
            };
            tokio::select! {
                changed = followed.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY_INTERVAL), if !is_complete => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Takes over a state of the account. Returns false if its data keys do not open, which may be tried again: what
    /// the change has revoked is refused from now on even so.
    async fn take(&self, taken: &mut Option<Taken>, documents: Documents) -> bool {
        let last = taken.take();
        let keys = last.as_ref().and_then(|last| last.keys.clone());
        let account = match parse(last, &documents).await {
            Ok(account) => account,
            Err(error) => {
                tracing::error!(region = self.region, %error, "the account cannot be used; all requests are refused");
                self.authenticator.stop_following();
                return true;
            }
        };
        if let Some(keys) = &keys {
            self.authenticator.follow(account.clone(), keys.clone());
        }
        let opened = match keys {
            Some(keys) if keys.serves(&account) => Some(keys),
            old => match self.open_keys(&account).await {
                Ok(keys) => {
                    let keys = Arc::new(keys);
                    self.authenticator.follow(account.clone(), keys.clone());
                    Some(keys)
                }
                Err(reason) => {
                    tracing::error!(region = self.region, reason, "the data keys of the account do not open");
                    *taken = Some(Taken { documents, account, keys: old });
                    return false;
                }
            },
        };
        tracing::debug!(region = self.region, seq = documents.frontier().seq, "a state of the account is in force");
        self.in_force.send_replace(documents.frontier().seq);
        for (path, reason) in account.damaged() {
            tracing::error!(region = self.region, path, reason, "a document of the account cannot be read, and denies");
        }
        *taken = Some(Taken { documents, account, keys: opened });
        true
    }

    async fn open_keys(&self, account: &Account) -> Result<KeyRing, String> {
        match tokio::time::timeout(KEYS_TIMEOUT, KeyRing::open(account, &self.key_services)).await {
            Ok(opened) => opened.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the key services did not answer within {} s", KEYS_TIMEOUT.as_secs())),
        }
    }
}

/// Wakes the follower after a change of the account in this process.
impl Sink for Identities {
    fn publish(&self, event: Event) {
        self.follower.publish(event);
    }
}

/// Error of making a state of an account from its documents.
#[derive(Debug, thiserror::Error)]
enum ParseError {
    #[error(transparent)]
    Account(#[from] gitferry_iam::AccountError),
    #[error("it could not be read: {0}")]
    Io(#[from] std::io::Error),
}

/// The account of `documents`. Reads only the documents that differ from those of the last state.
async fn parse(last: Option<Taken>, documents: &Documents) -> Result<Arc<Account>, ParseError> {
    let documents = documents.clone();
    blocking(move || {
        let Some(Taken { documents: old, account, .. }) = last else {
            let all = documents.iter().map(|(path, document)| (path, document.bytes().clone()));
            return Ok(Arc::new(Account::parse(all)?));
        };
        let changes = documents.changes_since(&old);
        if changes.is_empty() {
            return Ok(account);
        }
        let changes = changes.into_iter().map(|change| {
            let bytes = change.document.map(|document| document.bytes().clone());
            (change.path, bytes)
        });
        Ok(Arc::new(account.with(changes)?))
    })
    .await
}
