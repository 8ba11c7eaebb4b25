//! Policies: inline ones, and customer managed ones with versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use gitferry_policy::PolicyDocument;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Format, PolicyRecord};

/// `…/policies/NAME.json`: an inline policy of a user, group or role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InlineRecord {
    pub(crate) format: Format,
    pub(crate) document: String,
}

/// `policies/NAME/versions/vN.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionRecord {
    pub(crate) format: Format,
    pub(crate) created: Timestamp,
    pub(crate) document: String,
}

/// Inline policy of a user, group or role.
#[derive(Debug)]
pub struct InlinePolicy {
    /// The policy in the letters in which it was given.
    pub text: String,
    /// The policy as it is evaluated.
    pub parsed: Arc<PolicyDocument>,
}

/// Version of a customer managed policy.
#[derive(Debug)]
pub struct PolicyVersion {
    /// Time of creation.
    pub created: Timestamp,
    /// The policy in the letters in which it was given.
    pub text: String,
    /// The policy as it is evaluated.
    pub parsed: Arc<PolicyDocument>,
}

/// Customer managed policy.
#[derive(Debug)]
pub struct Policy {
    /// Name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Content of its document.
    pub record: Arc<PolicyRecord>,
    /// Versions by number, five at most.
    pub versions: BTreeMap<u32, Arc<PolicyVersion>>,
}

impl Policy {
    /// The version in force; `None` if its document is missing or damaged: the policy then denies everything.
    pub fn default_version(&self) -> Option<&Arc<PolicyVersion>> {
        self.versions.get(&self.record.default_version)
    }
}
