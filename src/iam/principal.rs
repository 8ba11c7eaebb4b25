//! Principals: who made a request, as policies and the ledger see it.

use std::sync::Arc;

use gitferry_policy::{ContextBuilder, PolicySet, PrincipalType};

use crate::account::Account;
use crate::arn::AccountId;
use crate::model::{Role, User};
use crate::session::Session;

/// Condition key: time at which a session began.
pub const TOKEN_ISSUE_TIME: &str = "aws:TokenIssueTime";
/// Condition key: ARN of the identity provider that began a session.
pub const FEDERATED_PROVIDER: &str = "aws:FederatedProvider";

/// Credential that proved a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Long-term access key, by its id.
    AccessKey(String),
    /// Temporary credentials, by their access key id.
    Session(String),
    /// User name and password of Git, by the credential's id.
    GitCredential(String),
    /// SSH public key, by its id.
    SshKey(String),
    /// Access key of AWS, by its id: STS has named the caller.
    Caller(String),
    /// The operator of the host, who needs none.
    Operator,
}

impl Credential {
    /// Id of the credential; `None` for the operator.
    pub fn id(&self) -> Option<&str> {
        match self {
            Credential::AccessKey(id)
            | Credential::Session(id)
            | Credential::GitCredential(id)
            | Credential::SshKey(id)
            | Credential::Caller(id) => Some(id),
            Credential::Operator => None,
        }
    }
}

#[derive(Clone, Debug)]
enum Identity {
    Root,
    User(Arc<User>, Option<Arc<Session>>),
    Role(Arc<Role>, Arc<Session>),
}

/// Principal that a request has been proven to come from.
#[derive(Clone, Debug)]
pub struct Principal {
    account: AccountId,
    identity: Identity,
    credential: Credential,
}

impl Principal {
    /// The account itself, with all rights: the operator of a host, at its console.
    pub fn root(account: &Account) -> Self {
        Principal { account: account.id(), identity: Identity::Root, credential: Credential::Operator }
    }

    /// The account itself, as STS has named it by an access key.
    pub(crate) fn root_caller(account: &Account, access_key_id: &str) -> Self {
        Principal { credential: Credential::Caller(access_key_id.to_owned()), ..Principal::root(account) }
    }

    pub(crate) fn user(
        account: &Account,
        user: &Arc<User>,
        session: Option<Arc<Session>>,
        credential: Credential,
    ) -> Self {
        Principal { account: account.id(), identity: Identity::User(user.clone(), session), credential }
    }

    pub(crate) fn role(account: &Account, role: &Arc<Role>, session: Arc<Session>) -> Self {
        let credential = Credential::Session(session.access_key_id.clone());
        Principal { account: account.id(), identity: Identity::Role(role.clone(), session), credential }
    }

    /// The same principal, proven by another credential.
    pub(crate) fn proven_by(self, credential: Credential) -> Self {
        Principal { credential, ..self }
    }

    /// Account of the principal.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Credential that proved the principal.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// ARN of the account, the user, or the session (`arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`): the actor of
    /// changes, and the answer of `GetCallerIdentity`.
    pub fn arn(&self) -> String {
        match &self.identity {
            Identity::Root => self.account.root_arn(),
            Identity::User(user, _) => user.arn.clone(),
            Identity::Role(role, session) => assumed_role_arn(&self.account, &role.name, &session.name),
        }
    }

    /// ARN of the account, user or role: `aws:PrincipalArn`.
    pub fn entity_arn(&self) -> String {
        match &self.identity {
            Identity::Root => self.account.root_arn(),
            Identity::User(user, _) => user.arn.clone(),
            Identity::Role(role, _) => role.arn.clone(),
        }
    }

    /// Unique id of the user or role; the id of the account for the account.
    pub fn entity_id(&self) -> &str {
        match &self.identity {
            Identity::Root => self.account.as_str(),
            Identity::User(user, _) => &user.record.id,
            Identity::Role(role, _) => &role.record.id,
        }
    }

    /// `aws:userid`: the unique id, for a role's session followed by `:` and the session's name.
    pub fn user_id(&self) -> String {
        match &self.identity {
            Identity::Role(role, session) => format!("{}:{}", role.record.id, session.name),
            _ => self.entity_id().to_owned(),
        }
    }

    /// Name of the user; `None` for the account and for sessions of roles.
    pub fn user_name(&self) -> Option<&str> {
        match &self.identity {
            Identity::User(user, _) => Some(&user.name),
            _ => None,
        }
    }

    /// Name of the role of a session.
    pub fn role_name(&self) -> Option<&str> {
        match &self.identity {
            Identity::Role(role, _) => Some(&role.name),
            _ => None,
        }
    }

    /// Session whose credentials proved the principal.
    pub fn session(&self) -> Option<&Arc<Session>> {
        match &self.identity {
            Identity::Root => None,
            Identity::User(_, session) => session.as_ref(),
            Identity::Role(_, session) => Some(session),
        }
    }

    /// `aws:PrincipalType`.
    pub fn kind(&self) -> PrincipalType {
        match &self.identity {
            Identity::Root => PrincipalType::Account,
            Identity::User(..) => PrincipalType::User,
            Identity::Role(..) => PrincipalType::AssumedRole,
        }
    }

    /// Returns true for the account itself, which no policy limits.
    pub fn is_root(&self) -> bool {
        matches!(self.identity, Identity::Root)
    }

    /// Policies that decide on the principal's requests in a state of the account, put together once for each state.
    /// `None` for the account itself, which may do everything.
    ///
    /// If one of the policies cannot be read, or the user or role is gone from this state, the set denies everything.
    pub fn policies(&self, account: &Account) -> Option<Arc<PolicySet>> {
        match &self.identity {
            Identity::Root => None,
            Identity::User(user, session) => Some(account.policies_of_user(&user.record.id, session.as_deref())),
            Identity::Role(role, session) => Some(account.policies_of_role(&role.record.id, session)),
        }
    }

    /// Condition keys of the principal.
    pub fn describe(&self, context: ContextBuilder) -> ContextBuilder {
        let mut context = context
            .principal_arn(&self.entity_arn())
            .principal_account(self.account.as_str())
            .principal_type(self.kind())
            .user_id(&self.user_id());
        if let Some(name) = self.user_name() {
            context = context.username(name);
        }
        let tags = match &self.identity {
            Identity::Root => None,
            Identity::User(user, _) => Some(&user.record.tags),
            Identity::Role(role, _) => Some(&role.record.tags),
        };
        for (key, value) in tags.into_iter().flatten() {
            context = context.principal_tag(key, value);
        }
        let Some(session) = self.session() else { return context };
        // Session tags override tags of the role.
        for (key, value) in &session.tags {
            context = context.principal_tag(key, value);
        }
        if let Some(identity) = &session.source_identity {
            context = context.source_identity(identity);
        }
        if let Some(provider) = &session.provider {
            context = context.insert(FEDERATED_PROVIDER, [provider]);
        }
        context.insert(TOKEN_ISSUE_TIME, [session.issued.to_string()])
    }
}

/// ARN of a role's session.
pub(crate) fn assumed_role_arn(account: &AccountId, role: &str, session: &str) -> String {
    format!("arn:aws:sts::{account}:assumed-role/{role}/{session}")
}
