//! [`Identities`]: authentication in step with the account of a region.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::watch;

use gitferry_account::{AccountError, Documents, Followed, Follower, Staleness};
use gitferry_base::supervise::Supervisor;
use gitferry_engine::announce::{Event, Sink};
use gitferry_engine::region::{Region, blocking};
use gitferry_iam::secret::{DataKey, KeyService};
use gitferry_iam::{Account, Authenticated, AuthenticationError, Authenticator, ClientFacts, KeyRing};

use crate::aws::{AwsDirectory, CallerError};
use crate::key_opener::KeyOpener;

/// Services that signatures of requests to a host name.
pub const SERVICES: [&str; 3] = ["codecommit", "iam", "sts"];
/// Longest time that [`Identities::catch_up`] waits.
pub const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// Number of the newest change of the account that requests are authenticated by.
    in_force: watch::Sender<u64>,
}

/// State that was taken from the account last.
struct Taken {
    documents: Documents,
    account: Arc<Account>,
    keys: Arc<KeyRing>,
}

/// Event that the identities act on.
enum Wake {
    /// The follower has a state of the account, or (false) has ended.
    State(bool),
    /// A data key was opened, or not, or may be tried again.
    Key(Option<Result<DataKey, String>>),
}

impl Identities {
    /// Identities of the account of `region`, whose data keys `key_services` open. Refuses all requests until
    /// [`Identities::run_under`] has started and the account has been read. While a data key is not open, only access keys
    /// and sessions that it seals are refused.
    pub fn new(region: &Region, key_services: Vec<Arc<dyn KeyService>>) -> Arc<Self> {
        let follower = Follower::new(region.clone());
        let followed = follower.subscribe();
        let authenticator = Authenticator::new(region.name(), &SERVICES, region.shared_clock().clone());
        let region = region.name().to_owned();
        let abandoned = OnceLock::new();
        let in_force = watch::Sender::new(0);
        Arc::new(Identities { region, authenticator, follower, followed, key_services, abandoned, aws: None, in_force })
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
        let key_services = Vec::new();
        let in_force = watch::Sender::new(0);
        Arc::new(Identities { region, authenticator, follower, followed, key_services, abandoned, aws, in_force })
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

    /// Takes over each state of the account as it comes, and opens data keys beside that: a key service that is slow, or
    /// does not answer, delays no revocation.
    async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut followed = self.followed.clone();
        followed.mark_changed();
        let mut opener = KeyOpener::new(self.key_services.clone());
        let mut taken: Option<Taken> = None;
        loop {
            let wake = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                changed = followed.changed() => Wake::State(changed.is_ok()),
                opened = opener.next() => Wake::Key(opened),
            };
            match wake {
                Wake::State(false) => return,
                Wake::State(true) => {
                    let newest = followed.borrow_and_update().documents().cloned();
                    if let Some(documents) = newest {
                        taken = self.take(taken, documents, &mut opener).await;
                    }
                }
                Wake::Key(opened) => {
                    if let Some(taken) = &mut taken {
                        self.take_key(taken, opened);
                        opener.begin(&taken.account, &taken.keys);
                    }
                }
            }
        }
    }

    /// Takes over a state of the account, with the data keys that are open. Returns `None` if the state cannot be used.
    async fn take(&self, last: Option<Taken>, documents: Documents, opener: &mut KeyOpener) -> Option<Taken> {
        let open = last.as_ref().map(|last| last.keys.clone());
        let account = match parse(last, &documents).await {
            Ok(account) => account,
            Err(error) => {
                tracing::error!(region = self.region, %error, "the account cannot be used; all requests are refused");
                self.authenticator.stop_following();
                return None;
            }
        };
        let keys = open.map_or_else(|| KeyRing::closed(&account), |open| open.for_account(&account));
        let mut taken = Taken { documents, account, keys: Arc::new(keys) };
        self.follow(&taken);
        opener.begin(&taken.account, &taken.keys);
        // A key file answers at once: its keys come into force with the state.
        while let Some(opened) = opener.next().now_or_never() {
            self.take_key(&mut taken, opened);
            opener.begin(&taken.account, &taken.keys);
        }
        let Taken { documents, account, .. } = &taken;
        tracing::debug!(region = self.region, seq = documents.frontier().seq, "a state of the account is in force");
        self.in_force.send_replace(documents.frontier().seq);
        for (path, reason) in account.damaged() {
            tracing::error!(region = self.region, path, reason, "a document of the account cannot be read, and denies");
        }
        Some(taken)
    }

    /// Takes over a data key that was opened, or names the reason why it was not.
    fn take_key(&self, taken: &mut Taken, opened: Option<Result<DataKey, String>>) {
        match opened {
            Some(Ok(key)) => {
                // A key that the account has lost meanwhile is forgotten again.
                taken.keys = Arc::new(taken.keys.with(key).for_account(&taken.account));
                self.follow(taken);
            }
            Some(Err(reason)) => {
                tracing::error!(region = self.region, reason, "a data key of the account does not open; tried again");
            }
            None => {}
        }
    }

    fn follow(&self, taken: &Taken) {
        self.authenticator.follow(taken.account.clone(), taken.keys.clone());
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
