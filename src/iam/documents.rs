//! The documents of an account: which path holds which document, and their JSON.
//!
//! ```text
//! account.json                              Settings
//! data-keys/ID.json                         DataKeyRecord
//! oidc-providers/URL.json                   OidcProvider
//! users/NAME/user.json                      UserRecord
//! users/NAME/access-keys/ID.json            AccessKey
//! users/NAME/ssh-keys/ID.json               SshKey
//! users/NAME/git-credentials/ID.json        GitCredential
//! groups/NAME/group.json                    GroupRecord
//! roles/NAME/role.json                      RoleRecord
//! (users|groups|roles)/NAME/policies/P.json InlinePolicy
//! policies/NAME/policy.json                 PolicyRecord
//! policies/NAME/versions/vN.json            PolicyVersion
//! aws-policies/ARN.json                     InlinePolicy: a managed policy of AWS, as AWS IAM lists it
//! ```
//!
//! A document that cannot be read is kept as damage: it never counts as absent.

use std::borrow::Cow;
use std::sync::Arc;

use gitferry_policy::{DocumentKind, PolicyDocument};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ids::IdKind;
use crate::model::{
    AccessKey, DataKeyRecord, EntityKind, Format, GitCredential, GroupRecord, InlinePolicy, InlineRecord,
    MAX_SESSION_SECONDS, MIN_SESSION_SECONDS, OidcProvider, PolicyRecord, PolicyVersion, RoleRecord, Settings, SshKey,
    UserRecord, VersionRecord,
};
use crate::names::{check_path, check_tags, of_file_name, to_file_name};
use crate::ssh_key;

/// Largest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 10;

/// Path of the document of the account itself.
pub const SETTINGS: &str = "account.json";

const URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Meaning of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Settings,
    DataKey(&'a str),
    OidcProvider(String),
    AwsPolicy,
    Entity(EntityKind, Cow<'a, str>, Part<'a>),
    Unknown,
}

/// Document in the folder of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Itself,
    AccessKey(&'a str),
    SshKey(&'a str),
    GitCredential(&'a str),
    Inline(Cow<'a, str>),
    Version(u32),
    Unknown,
}

impl EntityKind {
    fn folder(self) -> &'static str {
        match self {
            EntityKind::User => "users",
            EntityKind::Group => "groups",
            EntityKind::Role => "roles",
            EntityKind::Policy => "policies",
        }
    }

    fn of_folder(folder: &str) -> Option<Self> {
        let all = [EntityKind::User, EntityKind::Group, EntityKind::Role, EntityKind::Policy];
        all.into_iter().find(|kind| kind.folder() == folder)
    }
}

impl<'a> Place<'a> {
    pub(crate) fn of(path: &'a str) -> Place<'a> {
        if path == SETTINGS {
            return Place::Settings;
        }
        let Some((folder, rest)) = path.split_once('/') else { return Place::Unknown };
        match (folder, rest.strip_suffix(".json")) {
            ("data-keys", Some(id)) if !id.contains('/') => Place::DataKey(id),
            ("oidc-providers", Some(file)) => {
                let url = percent_decode_str(file).decode_utf8().unwrap_or_default();
                if provider_file(&url) == file { Place::OidcProvider(url.into_owned()) } else { Place::Unknown }
            }
            ("aws-policies", Some(_)) => Place::AwsPolicy,
            _ => Place::in_folder(folder, rest).unwrap_or(Place::Unknown),
        }
    }

    fn in_folder(folder: &str, rest: &'a str) -> Option<Place<'a>> {
        let kind = EntityKind::of_folder(folder)?;
        let (name, rest) = rest.split_once('/')?;
        Some(Place::Entity(kind, of_file_name(name)?, Part::of(kind, rest).unwrap_or(Part::Unknown)))
    }
}

impl<'a> Part<'a> {
    fn of(kind: EntityKind, rest: &'a str) -> Option<Part<'a>> {
        let file = rest.strip_suffix(".json")?;
        if file == kind.word() {
            return Some(Part::Itself);
        }
        let (folder, file) = file.split_once('/')?;
        let id = |kind: IdKind| kind.is_kind_of(file).then_some(file);
        match (kind, folder) {
            (EntityKind::User, "access-keys") => id(IdKind::AccessKey).map(Part::AccessKey),
            (EntityKind::User, "ssh-keys") => id(IdKind::SshKey).map(Part::SshKey),
            (EntityKind::User, "git-credentials") => id(IdKind::ServiceCredential).map(Part::GitCredential),
            (EntityKind::Policy, "versions") => version_of(file).map(Part::Version),
            (EntityKind::User | EntityKind::Group | EntityKind::Role, "policies") => {
                of_file_name(file).map(Part::Inline)
            }
            _ => None,
        }
    }
}

fn version_of(file: &str) -> Option<u32> {
    let number = file.strip_prefix('v')?.parse().ok()?;
    (format!("v{number}") == file).then_some(number)
}

fn provider_file(url: &str) -> String {
    utf8_percent_encode(url, URL).to_string()
}

/// Paths of documents.
pub(crate) mod paths {
    use super::{EntityKind, provider_file, to_file_name};

    pub(crate) fn data_key(id: &str) -> String {
        format!("data-keys/{id}.json")
    }

    pub(crate) fn provider(url: &str) -> String {
        format!("oidc-providers/{}.json", provider_file(url))
    }

    pub(crate) fn aws_policy(arn: &str) -> String {
        format!("aws-policies/{}.json", provider_file(arn))
    }

    /// Folder of all entities of a kind, with the slash at its end.
    pub(crate) fn all(kind: EntityKind) -> String {
        format!("{}/", kind.folder())
    }

    /// Folder of an entity, with the slash at its end.
    pub(crate) fn folder(kind: EntityKind, name: &str) -> String {
        format!("{}/{}/", kind.folder(), to_file_name(name))
    }

    pub(crate) fn entity(kind: EntityKind, name: &str) -> String {
        format!("{}{}.json", folder(kind, name), kind.word())
    }

    pub(crate) fn access_key(user: &str, id: &str) -> String {
        format!("{}access-keys/{id}.json", folder(EntityKind::User, user))
    }

    pub(crate) fn ssh_key(user: &str, id: &str) -> String {
        format!("{}ssh-keys/{id}.json", folder(EntityKind::User, user))
    }

    pub(crate) fn git_credential(user: &str, id: &str) -> String {
        format!("{}git-credentials/{id}.json", folder(EntityKind::User, user))
    }

    pub(crate) fn inline(kind: EntityKind, name: &str, policy: &str) -> String {
        format!("{}policies/{}.json", folder(kind, name), to_file_name(policy))
    }

    pub(crate) fn version(policy: &str, version: u32) -> String {
        format!("{}versions/v{version}.json", folder(EntityKind::Policy, policy))
    }
}

/// Parsed document. Clones share their content.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Settings(Arc<Settings>),
    DataKey(Arc<DataKeyRecord>),
    OidcProvider(Arc<OidcProvider>),
    User(Arc<UserRecord>),
    Group(Arc<GroupRecord>),
    Role(Arc<RoleRecord>, Arc<PolicyDocument>),
    Policy(Arc<PolicyRecord>),
    AccessKey(Arc<AccessKey>),
    SshKey(Arc<SshKey>),
    GitCredential(Arc<GitCredential>),
    Inline(Arc<InlinePolicy>),
    Version(Arc<PolicyVersion>),
    Damaged(Arc<str>),
}

/// Reason for which a document cannot be read.
type Reason = String;

impl Document {
    /// Reads the document at `place`. Damage is a value: it denies.
    pub(crate) fn parse(place: &Place<'_>, bytes: &[u8]) -> Document {
        #[cfg(test)]
        work::count();
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Document::Damaged(format!("has more than {MAX_DOCUMENT_BYTES} bytes").into());
        }
        Document::read(place, bytes).unwrap_or_else(|reason| Document::Damaged(reason.into()))
    }

    fn read(place: &Place<'_>, bytes: &[u8]) -> Result<Document, Reason> {
        match place {
            Place::Settings => json(bytes).map(Document::Settings),
            Place::DataKey(_) => json(bytes).map(Document::DataKey),
            Place::OidcProvider(url) => json(bytes).and_then(|provider: Arc<OidcProvider>| {
                require(provider.url == *url, "names another issuer than its file")?;
                Ok(Document::OidcProvider(provider))
            }),
            Place::AwsPolicy => Document::read_inline(bytes),
            Place::Entity(kind, _, part) => Document::read_part(*kind, part, bytes),
            Place::Unknown => Err("has a path that no document has".to_owned()),
        }
    }

    fn read_part(kind: EntityKind, part: &Part<'_>, bytes: &[u8]) -> Result<Document, Reason> {
        match (kind, part) {
            (EntityKind::User, Part::Itself) => {
                let record: Arc<UserRecord> = json(bytes)?;
                check_entity(IdKind::User, &record.id, &record.path, &record.tags)?;
                Ok(Document::User(record))
            }
            (EntityKind::Group, Part::Itself) => {
                let record: Arc<GroupRecord> = json(bytes)?;
                check_entity(IdKind::Group, &record.id, &record.path, &Default::default())?;
                Ok(Document::Group(record))
            }
            (EntityKind::Role, Part::Itself) => {
                let record: Arc<RoleRecord> = json(bytes)?;
                check_entity(IdKind::Role, &record.id, &record.path, &record.tags)?;
                let seconds = MIN_SESSION_SECONDS..=MAX_SESSION_SECONDS;
                require(seconds.contains(&record.max_session_seconds), "has a wrong length of sessions")?;
                let trust = policy(&record.trust_policy, DocumentKind::Trust)?;
                Ok(Document::Role(record, trust))
            }
            (EntityKind::Policy, Part::Itself) => {
                let record: Arc<PolicyRecord> = json(bytes)?;
                check_entity(IdKind::Policy, &record.id, &record.path, &record.tags)?;
                Ok(Document::Policy(record))
            }
            (_, Part::AccessKey(_)) => json(bytes).map(Document::AccessKey),
            (_, Part::GitCredential(_)) => json(bytes).map(Document::GitCredential),
            (_, Part::SshKey(_)) => {
                let mut key: SshKey = from_json(bytes)?;
                key.fingerprint = ssh_key::PublicKey::parse(&key.public_key).map_err(|e| e.to_string())?.fingerprint();
                Ok(Document::SshKey(Arc::new(key)))
            }
            (_, Part::Inline(_)) => Document::read_inline(bytes),
            (_, Part::Version(_)) => {
                let VersionRecord { created, document: text, .. } = from_json(bytes)?;
                let parsed = policy(&text, DocumentKind::Identity)?;
                Ok(Document::Version(Arc::new(PolicyVersion { created, text, parsed })))
            }
            (_, Part::Unknown) => Err("has a path that no document has".to_owned()),
        }
    }

    fn read_inline(bytes: &[u8]) -> Result<Document, Reason> {
        let record: InlineRecord = from_json(bytes)?;
        let parsed = policy(&record.document, DocumentKind::Identity)?;
        Ok(Document::Inline(Arc::new(InlinePolicy { text: record.document, parsed })))
    }

    /// Reason of the damage.
    pub(crate) fn damage(&self) -> Option<&str> {
        match self {
            Document::Damaged(reason) => Some(reason),
            _ => None,
        }
    }
}

fn require(condition: bool, otherwise: &str) -> Result<(), Reason> {
    if condition { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn check_entity(kind: IdKind, id: &str, path: &str, tags: &crate::names::Tags) -> Result<(), Reason> {
    require(kind.is_kind_of(id), "has a wrong unique id")?;
    check_path(path).map_err(|error| error.to_string())?;
    check_tags(tags.clone()).map_err(|error| error.to_string())?;
    Ok(())
}

fn policy(text: &str, kind: DocumentKind) -> Result<Arc<PolicyDocument>, Reason> {
    PolicyDocument::parse(text, kind).map(Arc::new).map_err(|error| format!("has a malformed policy: {error}"))
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<Arc<T>, Reason> {
    from_json(bytes).map(Arc::new)
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Reason> {
    #[derive(serde::Deserialize)]
    struct Newer {
        format: u32,
    }
    serde_json::from_slice(bytes).map_err(|error| match serde_json::from_slice(bytes) {
        Ok(Newer { format }) if format > Format::CURRENT => {
            format!("has format {format}, and this build reads {}: run a newer gitferry", Format::CURRENT)
        }
        _ => format!("does not parse: {error}"),
    })
}

/// JSON of a document, one field a line so that a diff of two commits shows what changed.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = serde_json::to_writer_pretty(&mut bytes, value);
    assert!(written.is_ok(), "records have text keys and no values that JSON lacks");
    bytes.push(b'\n');
    bytes
}

/// Count of documents read by a test's thread.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local!(static DOCUMENTS: Cell<u64> = const { Cell::new(0) });

    pub(super) fn count() {
        DOCUMENTS.set(DOCUMENTS.get() + 1);
    }

    /// Documents that `action` reads.
    pub(crate) fn of<T>(action: impl FnOnce() -> T) -> (T, u64) {
        let before = DOCUMENTS.get();
        let value = action();
        (value, DOCUMENTS.get() - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_one_meaning() {
        let key = "AKIAAAAAAAAAAAAAAAAA";
        let entity = |kind, name: &'static str, part| Place::Entity(kind, name.into(), part);
        let cases = [
            (SETTINGS.to_owned(), Place::Settings),
            (paths::data_key("one"), Place::DataKey("one")),
            (paths::provider("gitlab.example.com/ci"), Place::OidcProvider("gitlab.example.com/ci".into())),
            (paths::entity(EntityKind::User, "user"), entity(EntityKind::User, "user", Part::Itself)),
            (paths::entity(EntityKind::User, ".git"), entity(EntityKind::User, ".git", Part::Itself)),
            (paths::access_key("..", key), entity(EntityKind::User, "..", Part::AccessKey(key))),
            (paths::inline(EntityKind::Role, "r", "."), entity(EntityKind::Role, "r", Part::Inline(".".into()))),
            (paths::version("p.json", 3), entity(EntityKind::Policy, "p.json", Part::Version(3))),
        ];
        for (path, place) in &cases {
            assert_eq!(Place::of(path), *place, "{path}");
            assert!(path.split('/').all(|name| !name.is_empty() && !name.starts_with('.')), "{path}");
        }
    }

    #[test]
    fn a_path_that_is_not_written_is_unknown() {
        for path in [
            "",
            "README.md",
            "users/a",
            "users/a.json",
            "users/.git/user.json",
            "users/a b/user.json",
            "data-keys/a/b.json",
            "oidc-providers/%41.json",
        ] {
            assert_eq!(Place::of(path), Place::Unknown, "{path}");
        }
        for path in [
            "users/a/group.json",
            "users/a/access-keys/x.json",
            "policies/a/versions/v01.json",
            "policies/a/policies/p.json",
            "groups/g/access-keys/AKIAAAAAAAAAAAAAAAAA.json",
        ] {
            assert!(matches!(Place::of(path), Place::Entity(_, _, Part::Unknown)), "{path}");
        }
    }
}
