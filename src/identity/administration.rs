//! [`Administration`]: changes of a region's account, one commit for each, by the commands and the APIs alike.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use gitferry_account::{AccountRepository, Author, CommitError, Documents, EditError};
use gitferry_base::Kind;
use gitferry_engine::announce::Sink;
use gitferry_engine::region::Region;
use gitferry_iam::edit::{self, Edit, Editor, NewAccessKey};
use gitferry_iam::secret::{KeyService, KeyServiceError};
use gitferry_iam::{Account, AccountId, IamError, KeyRing, KeyRingError, NoRandomness, SystemRandom};
use jiff::Timestamp;

/// A change of the account was not made, unless the kind of the error is [`Kind::InDoubt`].
#[derive(Debug, thiserror::Error)]
pub enum AdministrationError {
    /// IAM refuses the change, with the error that AWS has for it.
    #[error("{0}")]
    Iam(#[from] IamError),
    /// The account's repository cannot be read or written.
    #[error(transparent)]
    Repository(gitferry_account::AccountError),
    /// The documents are no account.
    #[error(transparent)]
    Account(#[from] gitferry_iam::AccountError),
    /// The data keys do not open.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// A key service did not seal the data key.
    #[error(transparent)]
    KeyService(#[from] KeyServiceError),
    /// A new data key would not open where the current one does.
    #[error(
        "data key {data_key} is also sealed under {}, which this configuration does not have: hosts that have no other key \
         service could not open a new data key", .missing.join(" and ")
    )]
    LacksKeyService {
        /// Id of the current data key.
        data_key: String,
        /// Ids of the key services' keys.
        missing: Vec<String>,
    },
    /// No key service is left to seal a data key.
    #[error("no key service is left to seal data keys")]
    NoKeyService,
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The documents exceed a limit.
    #[error(transparent)]
    Edit(EditError),
    /// The commit failed.
    #[error(transparent)]
    Commit(Box<CommitError<IamError>>),
}

impl AdministrationError {
    /// Kind by the caller's next step.
    pub fn kind(&self) -> Kind {
        match self {
            AdministrationError::Iam(error) => error.kind(),
            AdministrationError::Repository(error) => error.kind(),
            AdministrationError::Account(error) => error.kind(),
            AdministrationError::Keys(error) => error.kind(),
            AdministrationError::KeyService(error) => error.kind,
            AdministrationError::LacksKeyService { .. } => Kind::Refused,
            AdministrationError::NoKeyService => Kind::Usage,
            AdministrationError::Random(_) => Kind::Environment,
            AdministrationError::Edit(_) => Kind::Usage,
            AdministrationError::Commit(error) => error.kind(IamError::kind),
        }
    }
}

impl From<gitferry_account::AccountError> for AdministrationError {
    fn from(error: gitferry_account::AccountError) -> Self {
        AdministrationError::Repository(error)
    }
}

impl From<CommitError<AdministrationError>> for AdministrationError {
    fn from(error: CommitError<AdministrationError>) -> Self {
        AdministrationError::of_commit(error, |refused| refused)
    }
}

impl From<CommitError<Infallible>> for AdministrationError {
    fn from(error: CommitError<Infallible>) -> Self {
        AdministrationError::of_commit(error, |never| match never {})
    }
}

impl AdministrationError {
    fn of_commit<E>(error: CommitError<E>, refused: impl FnOnce(E) -> Self) -> Self {
        match error {
            CommitError::Refused(error) => refused(error),
            CommitError::Edit(error) => AdministrationError::Edit(error),
            CommitError::Account(error) => AdministrationError::Repository(error),
            CommitError::Conflict { region, attempts } => {
                AdministrationError::Commit(Box::new(CommitError::Conflict { region, attempts }))
            }
            CommitError::MayHaveHappened { region, commit, cause } => {
                AdministrationError::Commit(Box::new(CommitError::MayHaveHappened { region, commit, cause }))
            }
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, AdministrationError>;

/// Account to be founded, with its first administrator.
#[derive(Clone, Debug)]
pub struct Founding {
    /// Id of the account; a random one by default.
    pub account: Option<AccountId>,
    /// Name of the account for people.
    pub alias: Option<String>,
    /// Name of the administrator.
    pub administrator: String,
}

/// Account that was founded. Its secret access key is shown once.
#[derive(Clone, Debug)]
pub struct Founded {
    /// Id of the account.
    pub account: AccountId,
    /// ARN of the administrator.
    pub user_arn: String,
    /// Access key of the administrator.
    pub access_key: NewAccessKey,
}

/// Returns true if a region has an account.
///
/// # Errors
/// The region cannot be read.
pub async fn has_account(region: &Region) -> Result<bool> {
    match AccountRepository::open(region).await {
        Ok(_) => Ok(true),
        Err(gitferry_account::AccountError::Absent { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Founds the account of a region: settings, a data key under each of `key_services`, and an administrator with an
/// access key. One commit.
///
/// # Errors
/// The region has an account already, or a name is not valid. Nothing was made, unless the kind is [`Kind::InDoubt`].
pub async fn found(region: &Region, key_services: &[Arc<dyn KeyService>], founding: Founding) -> Result<Founded> {
    let random = SystemRandom;
    let now = region.clock().now();
    let id = founding.account.map_or_else(|| AccountId::fresh(&random), Ok)?;
    let data_key = KeyRing::fresh_key(&random)?;
    let wrapped = KeyRing::wrapped(&data_key, &id, key_services).await?;
    let keys = KeyRing::of(data_key);
    let name = founding.administrator;
    let account = edit::Founding { account: id, alias: founding.alias, keys: &keys, wrapped };
    let (first, access_key) = edit::found_with_administrator(account, &name, now, &random)?;
    let user_arn = id.iam_arn("user", "/", &name);
    AccountRepository::create(region, &Author::new("root", id.root_arn()), commit_of(&first)).await?;
    Ok(Founded { account: id, user_arn, access_key })
}

fn commit_of(edit: &Edit) -> gitferry_account::Edit {
    let documents = edit.documents().map(|(path, bytes)| (path.to_owned(), bytes.map(Bytes::copy_from_slice)));
    gitferry_account::Edit { documents: documents.collect(), message: edit.message().to_owned() }
}

fn parse(documents: &Documents) -> Result<Account> {
    Ok(Account::parse(documents.iter().map(|(path, document)| (path, document.bytes().clone())))?)
}

/// Changes the account of a region.
#[derive(Clone, Debug)]
pub struct Administration {
    repository: AccountRepository,
    key_services: Vec<Arc<dyn KeyService>>,
}

impl Administration {
    /// Opens the account of a region, whose data keys `key_services` open.
    ///
    /// # Errors
    /// The region has no account, or it cannot be read.
    pub async fn open(region: &Region, key_services: Vec<Arc<dyn KeyService>>) -> Result<Self> {
        Ok(Administration { repository: AccountRepository::open(region).await?, key_services })
    }

    pub(crate) fn key_services(&self) -> &[Arc<dyn KeyService>] {
        &self.key_services
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.repository.region().clock().now()
    }

    /// Announces each change to `sink`, as a host announces pushes.
    #[must_use]
    pub fn announcing(self, sink: Arc<dyn Sink>) -> Self {
        Administration { repository: self.repository.announcing(sink), ..self }
    }

    /// Reads the newest state of the account.
    ///
    /// # Errors
    /// The account cannot be read.
    pub async fn account(&self) -> Result<Account> {
        parse(&self.repository.read().await?)
    }

    /// Opens the data keys of a state of the account.
    ///
    /// # Errors
    /// None of the key services opens them.
    pub async fn keys(&self, account: &Account) -> Result<KeyRing> {
        Ok(KeyRing::open(account, &self.key_services).await?)
    }

    /// Changes the account in one commit: `change` makes the edit on the newest state, and is asked again when another
    /// change comes first.
    ///
    /// # Errors
    /// Nothing was changed, unless the kind is [`Kind::InDoubt`].
    pub async fn change<T>(
        &self,
        author: &Author,
        mut change: impl FnMut(&Editor<'_>) -> std::result::Result<(Edit, T), IamError>,
    ) -> Result<T> {
        let clock = self.repository.region().shared_clock().clone();
        let mut made = None;
        let commit = |documents: &Documents| {
            let account = parse(documents)?;
            let (edit, value) = change(&Editor::new(&account, clock.now(), &SystemRandom))?;
            made = Some(value);
            Ok::<_, AdministrationError>(commit_of(&edit))
        };
        self.repository.commit(author, commit).await?;
        let Some(made) = made else { unreachable!("a commit succeeds on an edit that was asked for") };
        Ok(made)
    }
}
