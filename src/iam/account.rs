//! The account in memory: immutable, indexed, and made anew from the one before by the documents that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::arn::{AccountId, IamArn};
use crate::assemble;
use crate::documents::{Document, Place, SETTINGS, paths};
use crate::index::Index;
use crate::model::{
    AccessKey, DataKeyRecord, EntityKind, GitCredential, Group, InlinePolicy, OidcProvider, Policy, Role, Settings,
    SshKey, User,
};
use crate::policy_sets::PolicySets;

/// State of an account at one commit of its repository.
#[derive(Debug)]
pub struct Account {
    settings: Arc<Settings>,
    documents: BTreeMap<Arc<str>, Document>,
    users: BTreeMap<Arc<str>, Arc<User>>,
    groups: BTreeMap<Arc<str>, Arc<Group>>,
    roles: BTreeMap<Arc<str>, Arc<Role>>,
    policies: BTreeMap<Arc<str>, Arc<Policy>>,
    index: Index,
    pub(crate) policy_sets: PolicySets,
}

/// The account has no settings that can be read: every request is denied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The repository has no `account.json`.
    #[error("the repository has no account.json: it holds no account")]
    Missing,
    /// The document cannot be read.
    #[error("account.json {0}: every request is denied until it is mended")]
    Damaged(String),
    /// The document is of another account than before.
    #[error("account.json is of account {found}, and was of {expected}: every request is denied until it is mended")]
    Foreign {
        /// Account of the state before.
        expected: AccountId,
        /// Account of the document.
        found: AccountId,
    },
}

impl AccountError {
    /// Kind by the caller's next step.
    pub fn kind(&self) -> gitferry_base::Kind {
        match self {
            AccountError::Missing => gitferry_base::Kind::NotFound,
            AccountError::Damaged(_) | AccountError::Foreign { .. } => gitferry_base::Kind::Corrupt,
        }
    }
}

impl Account {
    /// Reads an account from all its documents: paths with their bytes.
    ///
    /// Documents that cannot be read are listed in [`Account::damaged`] and deny.
    ///
    /// # Errors
    /// `account.json` is missing or damaged.
    pub fn parse<P, B>(documents: impl IntoIterator<Item = (P, B)>) -> Result<Account, AccountError>
    where
        P: AsRef<str>,
        B: AsRef<[u8]>,
    {
        let read = documents.into_iter().filter_map(|(path, bytes)| {
            let path = path.as_ref();
            is_document(path).then(|| (Arc::from(path), Document::parse(&Place::of(path), bytes.as_ref())))
        });
        let documents: BTreeMap<Arc<str>, Document> = read.collect();
        let settings = settings_of(&documents)?;
        let mut account = Account {
            settings,
            documents,
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            roles: BTreeMap::new(),
            policies: BTreeMap::new(),
            index: Index::default(),
            policy_sets: PolicySets::default(),
        };
        let folders: BTreeSet<_> = account.documents.keys().filter_map(|path| folder_of(path)).collect();
        folders.into_iter().for_each(|(kind, name)| account.assemble(kind, &name));
        Ok(account)
    }

    /// The account after some documents have changed: `None` removes a document. The cost is that of the changed
    /// documents and of copying maps; no other document is read again.
    ///
    /// # Errors
    /// `account.json` is now missing, damaged or that of another account.
    pub fn with<P, B>(&self, changes: impl IntoIterator<Item = (P, Option<B>)>) -> Result<Account, AccountError>
    where
        P: AsRef<str>,
        B: AsRef<[u8]>,
    {
        let mut documents = self.documents.clone();
        let mut folders = BTreeSet::new();
        for (path, bytes) in changes {
            let path = path.as_ref();
            if !is_document(path) {
                continue;
            }
            match bytes {
                Some(bytes) => documents.insert(path.into(), Document::parse(&Place::of(path), bytes.as_ref())),
                None => documents.remove(path),
            };
            folders.extend(folder_of(path));
        }
        let settings = settings_of(&documents)?;
        if settings.account_id != self.settings.account_id {
            return Err(AccountError::Foreign { expected: self.settings.account_id, found: settings.account_id });
        }
        let mut account = Account {
            settings,
            documents,
            users: self.users.clone(),
            groups: self.groups.clone(),
            roles: self.roles.clone(),
            policies: self.policies.clone(),
            index: self.index.clone(),
            policy_sets: PolicySets::default(),
        };
        folders.into_iter().for_each(|(kind, name)| account.assemble(kind, &name));
        Ok(account)
    }

    /// Puts an entity together from the documents of its folder.
    fn assemble(&mut self, kind: EntityKind, name: &str) {
        let folder = paths::folder(kind, name);
        let in_folder = self.documents.range::<str, _>((Bound::Included(folder.as_str()), Bound::Unbounded));
        let parts =
            in_folder.take_while(|(path, _)| path.starts_with(&folder)).map(|(path, document)| (&**path, document));
        let account = self.settings.account_id;
        match kind {
            EntityKind::User => {
                if let Some(user) = self.users.remove(name) {
                    self.index.remove_user(&user);
                }
                if let Some(user) = assemble::user(&account, name, parts) {
                    self.index.add_user(&user);
                    self.users.insert(name.into(), Arc::new(user));
                }
            }
            EntityKind::Group => replace(&mut self.groups, name, assemble::group(&account, name, parts)),
            EntityKind::Role => {
                if let Some(role) = self.roles.remove(name) {
                    self.index.remove_role(&role);
                }
                if let Some(role) = assemble::role(&account, name, parts) {
                    self.index.add_role(&role);
                    self.roles.insert(name.into(), Arc::new(role));
                }
            }
            EntityKind::Policy => replace(&mut self.policies, name, assemble::policy(&account, name, parts)),
        }
    }

    /// Id of the account.
    pub fn id(&self) -> AccountId {
        self.settings.account_id
    }

    /// Settings of the account.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Documents that cannot be read, each with the reason. They deny whatever they might restrict.
    pub fn damaged(&self) -> impl Iterator<Item = (&str, &str)> {
        self.documents.iter().filter_map(|(path, document)| Some((&**path, document.damage()?)))
    }

    /// Users by name.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// Groups by name.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// Roles by name.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.roles.values()
    }

    /// Customer managed policies by name.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// OpenID Connect providers by URL.
    pub fn oidc_providers(&self) -> impl Iterator<Item = &Arc<OidcProvider>> {
        self.documents_in("oidc-providers/").filter_map(|(_, document)| match document {
            Document::OidcProvider(provider) => Some(provider),
            _ => None,
        })
    }

    /// User of a name.
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// Group of a name.
    pub fn group(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.get(name)
    }

    /// Role of a name.
    pub fn role(&self, name: &str) -> Option<&Arc<Role>> {
        self.roles.get(name)
    }

    /// Role of an ARN, path included.
    pub fn role_by_arn(&self, arn: &str) -> Option<&Arc<Role>> {
        self.role(IamArn::parse(arn)?.name).filter(|role| role.arn == arn)
    }

    /// Customer managed policy of a name.
    pub fn policy(&self, name: &str) -> Option<&Arc<Policy>> {
        self.policies.get(name)
    }

    /// Customer managed policy of an ARN, path included.
    pub fn policy_by_arn(&self, arn: &str) -> Option<&Arc<Policy>> {
        self.policy(IamArn::parse(arn)?.name).filter(|policy| policy.arn == arn)
    }

    /// OpenID Connect provider of a URL without `https://`.
    pub fn oidc_provider(&self, url: &str) -> Option<&Arc<OidcProvider>> {
        match self.documents.get(paths::provider(url).as_str()) {
            Some(Document::OidcProvider(provider)) => Some(provider),
            _ => None,
        }
    }

    /// Managed policy of AWS as the account holds it; an error if its document is damaged, `None` if it holds none.
    pub(crate) fn aws_policy(&self, arn: &str) -> Result<Option<&Arc<InlinePolicy>>, ()> {
        match self.documents.get(paths::aws_policy(arn).as_str()) {
            Some(Document::Inline(policy)) => Ok(Some(policy)),
            Some(_) => Err(()),
            None => Ok(None),
        }
    }

    /// Data key of an id.
    pub fn data_key(&self, id: &str) -> Option<&Arc<DataKeyRecord>> {
        match self.documents.get(paths::data_key(id).as_str()) {
            Some(Document::DataKey(key)) => Some(key),
            _ => None,
        }
    }

    /// Ids of all data keys that can be read.
    pub fn data_keys(&self) -> impl Iterator<Item = (&str, &Arc<DataKeyRecord>)> {
        self.documents_in("data-keys/").filter_map(|(path, document)| match (Place::of(path), document) {
            (Place::DataKey(id), Document::DataKey(key)) => Some((id, key)),
            _ => None,
        })
    }

    /// User of a unique id.
    pub fn user_by_id(&self, id: &str) -> Option<&Arc<User>> {
        self.user(self.index.user_ids.sole(id)?)
    }

    /// Role of a unique id.
    pub fn role_by_id(&self, id: &str) -> Option<&Arc<Role>> {
        self.role(self.index.role_ids.sole(id)?)
    }

    /// Access key of an id, with its user. An id that two users have (only a commit by hand makes one) finds neither.
    pub fn access_key(&self, id: &str) -> Option<(&Arc<User>, &Arc<AccessKey>)> {
        let user = self.user(self.index.access_keys.sole(id)?)?;
        Some((user, user.access_keys.get(id)?))
    }

    /// SSH public key of an id, with its user.
    pub fn ssh_key(&self, id: &str) -> Option<(&Arc<User>, &Arc<SshKey>)> {
        let user = self.user(self.index.ssh_keys.sole(id)?)?;
        Some((user, user.ssh_keys.get(id)?))
    }

    /// SSH public keys of a fingerprint (`SHA256:…`): their users, ids and keys. Several users may have one key.
    pub fn ssh_keys_by_fingerprint(&self, fingerprint: &str) -> Vec<(&Arc<User>, &str, &Arc<SshKey>)> {
        let users = self.index.fingerprints.all(fingerprint).iter().filter_map(|name| self.user(name));
        let keys = users.flat_map(|user| user.ssh_keys.iter().map(move |(id, key)| (user, id.as_str(), key)));
        keys.filter(|(_, _, key)| key.fingerprint == fingerprint).collect()
    }

    /// Git credential of a generated user name, with its user and id.
    pub fn git_credential(&self, user_name: &str) -> Option<(&Arc<User>, &str, &Arc<GitCredential>)> {
        let user = self.user(self.index.git_users.sole(user_name)?)?;
        let (id, credential) = user.git_credentials.iter().find(|(_, credential)| credential.user_name == user_name)?;
        Some((user, id, credential))
    }

    pub(crate) fn has_git_user(&self, user_name: &str) -> bool {
        !self.index.git_users.all(user_name).is_empty()
    }

    /// Users of a group.
    pub fn members<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Arc<User>> {
        self.users().filter(move |user| user.record.groups.contains(group))
    }

    /// Documents in a folder, which ends with a slash.
    pub(crate) fn documents_in<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a Document)> {
        let all = self.documents.range::<str, _>((Bound::Included(folder), Bound::Unbounded));
        let all = all.map(|(path, document)| (&**path, document));
        all.take_while(move |(path, _)| path.starts_with(folder))
    }

    /// Paths of all documents below a folder.
    pub(crate) fn documents_below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a str> {
        self.documents_in(folder).map(|(path, _)| path)
    }

    /// Names of entities whose folders have documents, damaged ones included.
    pub(crate) fn names(&self, kind: EntityKind) -> BTreeSet<String> {
        self.documents_in(&paths::all(kind)).filter_map(|(path, _)| folder_of(path)).map(|(_, name)| name).collect()
    }

    pub(crate) fn has_document(&self, path: &str) -> bool {
        self.documents.contains_key(path)
    }
}

/// Returns false for files that people keep beside the documents: those at the top that are not JSON.
fn is_document(path: &str) -> bool {
    path.contains('/') || path.ends_with(".json")
}

fn folder_of(path: &str) -> Option<(EntityKind, String)> {
    match Place::of(path) {
        Place::Entity(kind, name, _) => Some((kind, name.into_owned())),
        _ => None,
    }
}

fn settings_of(documents: &BTreeMap<Arc<str>, Document>) -> Result<Arc<Settings>, AccountError> {
    match documents.get(SETTINGS) {
        Some(Document::Settings(settings)) => Ok(settings.clone()),
        Some(document) => Err(AccountError::Damaged(document.damage().unwrap_or("is not read").to_owned())),
        None => Err(AccountError::Missing),
    }
}

fn replace<T>(entities: &mut BTreeMap<Arc<str>, Arc<T>>, name: &str, entity: Option<T>) {
    match entity {
        Some(entity) => entities.insert(name.into(), Arc::new(entity)),
        None => entities.remove(name),
    };
}
