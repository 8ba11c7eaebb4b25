//! [`AwsDirectory`]: the account of AWS IAM in memory, read again on a schedule.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use gitferry_base::clock::Clock;
use gitferry_engine::region::blocking;
use gitferry_iam::aws::{AuthorizationDetails, Caller, StsEndpoint};
use gitferry_iam::{Account, AccountId, Authenticator, KeyRing};
use globset::GlobSet;
use tokio::sync::watch;
use tokio::time::Instant;

use super::api::{IamApi, KnownKeys};
use super::callers::Callers;
use crate::identities::ParseError;

/// Longest time for which the last state counts while AWS IAM cannot be read: longer than for an account of gitferry, as
/// AWS throttles its API, and itself needs time to apply changes everywhere.
pub const MAX_AWS_STALENESS: Duration = Duration::from_secs(15 * 60);

/// Settings of an account of AWS IAM.
#[derive(Clone, Debug)]
pub struct AwsOptions {
    /// The account whose callers are taken.
    pub account: AccountId,
    /// Names of the roles whose sessions are taken.
    pub roles: GlobSet,
    /// Interval between two readings.
    pub refresh: Duration,
    /// True if SSH public keys are read.
    pub ssh_keys: bool,
    /// Name of the host, as clients sign it.
    pub host: String,
    /// Endpoints of STS that clients may sign for.
    pub endpoints: Vec<StsEndpoint>,
    /// URL of a stand-in for STS and IAM, for tests.
    pub stand_in: Option<String>,
    /// Credentials of the host.
    pub sdk: SdkConfig,
}

/// Outcome of the readings so far.
#[derive(Debug, Default)]
struct State {
    /// Time at which the last reading began that succeeded.
    confirmed: Option<Instant>,
    /// Failure of the last reading.
    trouble: Option<String>,
}

/// The account of AWS IAM.
#[derive(Debug)]
pub struct AwsDirectory {
    callers: Callers,
    api: IamApi,
    account: AccountId,
    roles: GlobSet,
    refresh: Duration,
    ssh_keys: bool,
    keys: Arc<KeyRing>,
    state: Mutex<State>,
}

/// State that was taken from AWS last.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    documents: BTreeMap<String, Vec<u8>>,
    ssh_keys: KnownKeys,
}

impl AwsDirectory {
    /// Directory of an account that has not been read yet. `keys` seal what hosts of the account tell each other.
    ///
    /// # Errors
    /// An HTTP client cannot be made.
    pub fn new(options: AwsOptions, keys: KeyRing, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        let AwsOptions { account, roles, refresh, ssh_keys, host, endpoints, stand_in, sdk } = options;
        Ok(AwsDirectory {
            callers: Callers::new(host, endpoints, stand_in.clone(), clock.clone())?,
            api: IamApi::new(sdk, stand_in, clock)?,
            account,
            roles,
            refresh,
            ssh_keys,
            keys: Arc::new(keys),
            state: Mutex::default(),
        })
    }

    /// Asks STS for callers.
    pub fn callers(&self) -> &Callers {
        &self.callers
    }

    /// Returns true for a caller whose requests are taken: a user, the account itself, or a session of one of the roles
    /// of the settings. What limits other sessions, such as those of `GetFederationToken`, STS does not say.
    pub fn takes(&self, caller: &Caller) -> bool {
        match caller.arn.split_once(":assumed-role/") {
            Some((_, rest)) => rest.split_once('/').is_some_and(|(role, _)| self.roles.is_match(role)),
            None => !caller.arn.starts_with("arn:aws:sts:"),
        }
    }

    /// Returns an error while the state is too old to grant anything.
    ///
    /// # Errors
    /// The reason for the operator.
    pub fn check_current(&self) -> Result<(), String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.confirmed.is_some_and(|confirmed| confirmed.elapsed() <= MAX_AWS_STALENESS) {
            return Ok(());
        }
        Err(state.trouble.clone().unwrap_or_else(|| "the account has not been read from AWS IAM yet".into()))
    }

    /// Reads the account again and again, and lets `authenticator` follow it, until the stop signal.
    pub(crate) async fn run(&self, authenticator: &Authenticator, mut stop: watch::Receiver<bool>) {
        let mut taken = Taken::default();
        loop {
            self.read(&mut taken, authenticator).await;
            tokio::select! {
                () = tokio::time::sleep(self.refresh) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Reads the account once. A failure leaves the last state, and the log has it once.
    async fn read(&self, taken: &mut Taken, authenticator: &Authenticator) {
        let began = Instant::now();
        let known = self.ssh_keys.then_some(&mut taken.ssh_keys);
        let read = match self.api.read(known).await {
            Ok(details) => self.take(taken, details, authenticator).await,
            Err(error) => Err(error.to_string()),
        };
        let account = self.account;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(()) => {
                if state.trouble.take().is_some() {
                    tracing::info!(%account, "the account can be read from AWS IAM again");
                }
                state.confirmed = Some(began);
            }
            Err(reason) if state.trouble.as_ref() == Some(&reason) => {}
            Err(reason) => {
                let seconds = MAX_AWS_STALENESS.as_secs();
                tracing::error!(
                    %account,
                    reason,
                    seconds,
                    "the account cannot be read from AWS IAM; its last state counts for this many seconds"
                );
                state.trouble = Some(reason);
            }
        }
    }

    /// Takes over a state, if it differs from the last one.
    async fn take(
        &self,
        taken: &mut Taken,
        mut details: AuthorizationDetails,
        authenticator: &Authenticator,
    ) -> Result<(), String> {
        details.roles.retain(|role| self.roles.is_match(&role.name));
        let documents = details.documents(self.account, self.keys.current_id());
        if documents == taken.documents {
            return Ok(());
        }
        let parsing = move || Ok::<_, ParseError>((Account::parse(&documents)?, documents));
        let (account, documents) = blocking(parsing).await.map_err(|error| error.to_string())?;
        let account = Arc::new(account);
        for (path, reason) in account.damaged() {
            tracing::error!(path, reason, "a policy or entity of AWS IAM cannot be read, and denies");
        }
        let users = account.users().count();
        tracing::info!(account = %self.account, users, "a state of AWS IAM is in force");
        authenticator.follow(account, self.keys.clone());
        taken.documents = documents;
        Ok(())
    }
}
