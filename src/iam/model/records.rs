//! Contents of the documents of entities. Unknown fields are damage: a misspelled `permissions_boundary` must not give
//! more rights.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::arn::AccountId;
use crate::model::Quotas;
use crate::names::Tags;

/// Shortest session, in seconds.
pub const MIN_SESSION_SECONDS: u32 = 900;
/// Longest session of a role, in seconds.
pub const MAX_SESSION_SECONDS: u32 = 43_200;
/// Longest session of a role that names none, in seconds.
pub const DEFAULT_SESSION_SECONDS: u32 = 3_600;

/// Number of a document's format. Documents of a newer format are refused, not misread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format;

impl Format {
    /// Format that this build reads and writes.
    pub const CURRENT: u32 = 1;
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(Format::CURRENT)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let format = u32::deserialize(deserializer)?;
        if format == Format::CURRENT {
            return Ok(Format);
        }
        Err(serde::de::Error::custom(format!("format {format} is not {}, which this build reads", Format::CURRENT)))
    }
}

/// `account.json`: the account itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Format of the document.
    pub format: Format,
    /// Id of the account.
    pub account_id: AccountId,
    /// Name of the account for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Time of creation.
    pub created: Timestamp,
    /// Id of the data key that seals new secrets.
    pub data_key: String,
    /// Quotas that differ from those of AWS.
    #[serde(default, skip_serializing_if = "Quotas::is_default")]
    pub quotas: Quotas,
}

/// `data-keys/ID.json`: a key that seals secrets, itself sealed by key services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataKeyRecord {
    /// Format of the document.
    pub format: Format,
    /// Time of creation.
    pub created: Timestamp,
    /// The sealed key in base64, by the id of the key service's key that opens it. One is enough: each region may have
    /// a key of its own.
    pub wrapped: BTreeMap<String, String>,
}

impl DataKeyRecord {
    /// Record of a data key that key services have sealed.
    pub(crate) fn new(created: Timestamp, wrapped: BTreeMap<String, Vec<u8>>) -> Self {
        let mut record = DataKeyRecord { format: Format, created, wrapped: BTreeMap::new() };
        record.add_seals(wrapped);
        record
    }

    /// Adds seals, by the ids of the key services' keys.
    pub(crate) fn add_seals(&mut self, wrapped: BTreeMap<String, Vec<u8>>) {
        self.wrapped.extend(wrapped.into_iter().map(|(key, blob)| (key, STANDARD.encode(blob))));
    }
}

/// `users/NAME/user.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRecord {
    /// Format of the document.
    pub format: Format,
    /// Unique id, `AIDA…`.
    pub id: String,
    /// Path, with its slashes.
    pub path: String,
    /// Time of creation.
    pub created: Timestamp,
    /// ARN of the policy that bounds all rights of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions_boundary: Option<String>,
    /// Names of the user's groups.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// ARNs of attached managed policies.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub attached_policies: BTreeSet<String>,
    /// Tags, which policies see as `aws:PrincipalTag`.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// `groups/NAME/group.json`. Its members are in the records of users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRecord {
    /// Format of the document.
    pub format: Format,
    /// Unique id, `AGPA…`.
    pub id: String,
    /// Path, with its slashes.
    pub path: String,
    /// Time of creation.
    pub created: Timestamp,
    /// ARNs of attached managed policies.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub attached_policies: BTreeSet<String>,
}

/// `roles/NAME/role.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleRecord {
    /// Format of the document.
    pub format: Format,
    /// Unique id, `AROA…`.
    pub id: String,
    /// Path, with its slashes.
    pub path: String,
    /// Time of creation.
    pub created: Timestamp,
    /// Description for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Longest session, in seconds.
    pub max_session_seconds: u32,
    /// Trust policy, in the letters in which it was given.
    pub trust_policy: String,
    /// Unique ids of the users and roles that the trust policy names, by ARN, from when it was given. One that is
    /// deleted and made anew under its old name is not trusted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trusted: BTreeMap<String, String>,
    /// ARN of the policy that bounds all rights of the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions_boundary: Option<String>,
    /// ARNs of attached managed policies.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub attached_policies: BTreeSet<String>,
    /// Tags, which policies see as `aws:PrincipalTag`.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// `policies/NAME/policy.json`: a customer managed policy, whose texts are in `versions/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRecord {
    /// Format of the document.
    pub format: Format,
    /// Unique id, `ANPA…`.
    pub id: String,
    /// Path, with its slashes.
    pub path: String,
    /// Time of creation.
    pub created: Timestamp,
    /// Time of the last new or default version.
    pub updated: Timestamp,
    /// Description for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Number of the version in force.
    pub default_version: u32,
    /// Greatest number that a version has had. Numbers are not given again.
    pub last_version: u32,
    /// Tags.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// `oidc-providers/URL.json`: an issuer whose tokens assume roles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcProvider {
    /// Format of the document.
    pub format: Format,
    /// The issuer without `https://`, such as `token.actions.githubusercontent.com`.
    pub url: String,
    /// Time of creation.
    pub created: Timestamp,
    /// Audiences that tokens may have.
    pub client_ids: BTreeSet<String>,
    /// SHA-1 thumbprints of the issuer's certificate authority, in hex. Kept for clients that set them; the issuer is
    /// known by its TLS certificate.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub thumbprints: BTreeSet<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

impl OidcProvider {
    /// ARN of the provider.
    pub fn arn(&self, account: &AccountId) -> String {
        format!("arn:aws:iam::{account}:oidc-provider/{}", self.url)
    }
}
