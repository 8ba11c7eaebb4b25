//! [`Identities`]: authentication in step with the account of a region.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use gitferry_account::{AccountError, Documents, Followed, Follower, Staleness};
use gitferry_base::supervise::Supervisor;
use gitferry_engine::announce::{Event, Sink};
use gitferry_engine::region::{Region, blocking};
use gitferry_iam::secret::KeyService;
use gitferry_iam::{Account, Authenticated, AuthenticationError, Authenticator, ClientFacts, KeyRing};

use super::aws::{AwsDirectory, CallerError};

/// Services that signatures of requests to a host name.
pub const SERVICES: [&str; 3] = ["codecommit", "iam", "sts"];
/// Interval between attempts to open the data keys of an account.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(2);
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
    /// Reason for which the account counts no longer, whatever its state.
    abandoned: OnceLock<String>,
    /// The account of AWS IAM, which takes the place of the region's.
    aws: Option<AwsDirectory>,
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
        let abandoned = OnceLock::new();
        Arc::new(Identities { region, authenticator, follower, followed, key_services, abandoned, aws: None })
    }

    /// Identities of an account of AWS IAM, for the host of `region`. Refuses all requests until
    /// [`Identities::run_under`] has started and the account has been read.
    pub fn of_aws(region: &Region, directory: AwsDirectory) -> Arc<Self> {
        let follower = Follower::new(region.clone());
        let followed = follower.subscribe();
        let authenticator = Authenticator::new(region.name(), &SERVICES, region.shared_clock().clone());
        let region = region.name().to_owned();
        let abandoned = OnceLock::new();
        let aws = Some(directory);
        Arc::new(Identities { region, authenticator, follower, followed, key_services: Vec::new(), abandoned, aws })
    }

    /// Authenticates a client that sends a presigned request to STS as its password.
    ///
    /// # Errors
    /// The password proves no principal of the account, or the account is not one of AWS.
    pub async fn authenticate_caller(
        &self,
        password: &str,
        client: ClientFacts,
    ) -> Result<Authenticated, AuthenticationError> {
        let Some(aws) = &self.aws else { return Err(AuthenticationError::Wrong) };
        let (caller, presigned) = aws.callers().identify(password, client.address).await.map_err(|error| {
            tracing::info!(%error, "a caller of AWS is not authenticated");
            match error {
                CallerError::TooMany(many) => AuthenticationError::TooMany(many),
                CallerError::Unavailable(_) => AuthenticationError::Unavailable("STS does not answer"),
                CallerError::Presigned(_) | CallerError::Refused(_) => AuthenticationError::Wrong,
            }
        })?;
        if !aws.takes(&caller) {
            return Err(AuthenticationError::UnknownCaller(caller.arn));
        }
        self.authenticator.authenticate_caller(&caller, presigned.access_key_id(), client, presigned.expires())
    }

    /// Follows the account until the supervisor's stop signal.
    pub fn run_under(self: &Arc<Self>, supervisor: &mut Supervisor) {
        if self.aws.is_some() {
            let stop = supervisor.stop();
            let identities = self.clone();
            supervisor.keep("the readings of AWS IAM", move || identities.clone().run_aws(stop.clone()));
            return;
        }
        self.follower.run_under(supervisor);
        let stop = supervisor.stop();
        let identities = self.clone();
        supervisor.keep("the identities of the account", move || identities.clone().run(stop.clone()));
    }

    /// Refuses all requests from now on, because the account of the region no longer follows the one that it is a replica
    /// of.
    pub fn abandon(&self, reason: String) {
        let _ = self.abandoned.set(reason);
    }

    /// Reads the account at once.
    ///
    /// # Errors
    /// The account cannot be read; the last state stays.
    pub async fn refresh(&self) -> Result<(), AccountError> {
        self.follower.refresh().await
    }

    /// Authenticates by the newest state of the account.
    ///
    /// # Errors
    /// The state is unknown, or too old to grant anything.
    pub fn authenticator(&self) -> Result<&Authenticator, Unavailable> {
        if let Some(reason) = self.abandoned.get() {
            return Err(Unavailable { region: self.region.clone(), reason: reason.clone() });
        }
        if let Some(aws) = &self.aws {
            let current = aws.check_current().map(|()| &self.authenticator);
            return current.map_err(|reason| Unavailable { region: self.region.clone(), reason });
        }
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

    async fn run_aws(self: Arc<Self>, stop: watch::Receiver<bool>) {
        if let Some(aws) = &self.aws {
            aws.run(&self.authenticator, stop).await;
        }
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
pub(crate) enum ParseError {
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
