//! Edits of an account: pure functions from a state and a request to the documents that change. One edit is one commit.
//!
//! ```text
//! let edit = Editor::new(&account, now, &random).create_user(NewUser::named("jane"))?;
//! // commit edit.documents() with edit.message(), conditional on the head that `account` was read from
//! let account = account.with(edit.documents())?;
//! ```
//! After a conflict the caller reads the account again and asks for the edit again.

mod access_keys;
mod attachments;
mod data_keys;
mod git_credentials;
mod groups;
mod oidc;
mod policies;
mod roles;
mod settings;
mod ssh_keys;
mod tags;
mod trusted;
mod users;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

pub use access_keys::NewAccessKey;
pub use data_keys::{DataKeyUse, MAX_DATA_KEYS, MAX_RESEALED, RETIRE_AFTER_SECONDS, Resealed, data_key_uses};
pub use git_credentials::NewGitCredential;
pub use groups::NewGroup;
pub use oidc::NewOidcProvider;
pub use policies::NewPolicy;
pub use roles::NewRole;
pub use settings::{ADMINISTRATORS, Founding, found, found_with_administrator};
pub use users::NewUser;

use crate::account::Account;
use crate::documents::{MAX_DOCUMENT_BYTES, paths, to_json};
use crate::error::{IamError, Result};
use crate::model::{EntityKind, Group, Policy, Role, User};
use crate::random::Random;

/// Documents that one commit writes or removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    documents: BTreeMap<String, Option<Vec<u8>>>,
    message: String,
}

impl Edit {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Edit { documents: BTreeMap::new(), message: message.into() }
    }

    pub(crate) fn put(mut self, path: String, record: &impl Serialize) -> Result<Self> {
        let bytes = to_json(record);
        if bytes.len() > MAX_DOCUMENT_BYTES {
            let size = bytes.len();
            let text = format!("The document {path} would have {size} bytes, and the limit is {MAX_DOCUMENT_BYTES}.");
            return Err(IamError::limit_exceeded(text));
        }
        self.documents.insert(path, Some(bytes));
        Ok(self)
    }

    pub(crate) fn remove(mut self, path: String) -> Self {
        self.documents.insert(path, None);
        self
    }

    /// Paths with their new bytes; `None` removes a document.
    pub fn documents(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.documents.iter().map(|(path, bytes)| (path.as_str(), bytes.as_deref()))
    }

    /// Message of the commit: one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns true if the state is as the request wants it already. Nothing needs to be committed.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// One edit of two, the later of which was made on the state after this one.
    pub fn then(mut self, later: Edit) -> Self {
        self.documents.extend(later.documents);
        if self.message.is_empty() {
            self.message = later.message;
        } else if !later.message.is_empty() {
            self.message = format!("{}; {}", self.message, later.message);
        }
        self
    }
}

/// Makes edits of one state of an account.
#[derive(Clone, Copy, Debug)]
pub struct Editor<'a> {
    account: &'a Account,
    now: Timestamp,
    random: &'a dyn Random,
}

impl<'a> Editor<'a> {
    /// Editor of a state. Times of documents are whole seconds, as those of AWS.
    pub fn new(account: &'a Account, now: Timestamp, random: &'a dyn Random) -> Self {
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Editor { account, now, random }
    }

    /// The state that edits are made of.
    pub fn account(&self) -> &'a Account {
        self.account
    }

    /// The state after an edit.
    ///
    /// # Errors
    /// `ServiceFailure`: the edit does not read, which is a fault of this build.
    pub fn after(&self, edit: &Edit) -> Result<Account> {
        self.account.with(edit.documents()).map_err(|error| IamError::service_failure(error.to_string()))
    }

    fn user(&self, name: &str) -> Result<&'a User> {
        self.account.user(name).map(|user| &**user).ok_or_else(|| no_such(EntityKind::User, name))
    }

    fn group(&self, name: &str) -> Result<&'a Group> {
        self.account.group(name).map(|group| &**group).ok_or_else(|| no_such(EntityKind::Group, name))
    }

    fn role(&self, name: &str) -> Result<&'a Role> {
        self.account.role(name).map(|role| &**role).ok_or_else(|| no_such(EntityKind::Role, name))
    }

    fn policy(&self, arn: &str) -> Result<&'a Policy> {
        if gitferry_policy::managed::find(arn).is_some() {
            return Err(IamError::unmodifiable(format!(
                "Policy {arn} is a managed policy of AWS: it cannot be changed."
            )));
        }
        let policy = self.account.policy_by_arn(arn).map(|policy| &**policy);
        policy.ok_or_else(|| IamError::no_such_entity(format!("Policy {} was not found.", shown(arn))))
    }

    /// Refuses a name that an entity has, in other letters too, and a quota that one more would exceed.
    fn check_free(&self, kind: EntityKind, name: &str, quota: crate::model::Quota) -> Result<()> {
        let names = self.account.names(kind);
        if names.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
            return Err(already_exists(kind, name));
        }
        self.account.settings().quotas.check(quota, names.len() + 1)
    }

    /// Removes an entity whose folder holds nothing else.
    fn remove_alone(&self, kind: EntityKind, name: &str, message: String) -> Result<Edit> {
        let itself = paths::entity(kind, name);
        if self.account.documents_below(&paths::folder(kind, name)).any(|path| path != itself) {
            return Err(conflict("delete the documents that cannot be read"));
        }
        Ok(Edit::new(message).remove(itself))
    }
}

/// Text of a request as it stands in a message.
fn shown(text: &str) -> gitferry_base::printable::Printable<String> {
    gitferry_base::printable::Printable(text.chars().take(crate::names::MAX_PATH).collect())
}

fn no_such(kind: EntityKind, name: &str) -> IamError {
    IamError::no_such_entity(format!("The {} with name {} cannot be found.", kind.word(), shown(name)))
}

fn already_exists(kind: EntityKind, name: &str) -> IamError {
    let mut word = kind.word().to_owned();
    word[..1].make_ascii_uppercase();
    IamError::already_exists(format!("{word} with name {} already exists.", shown(name)))
}

fn conflict(first: &str) -> IamError {
    IamError::delete_conflict(format!("Cannot delete entity, must {first} first."))
}
