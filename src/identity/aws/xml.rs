//! Answers of IAM and STS in XML.

use std::collections::BTreeMap;

use gitferry_iam::aws::{Caller, GroupDetail, PolicyDetail, RoleDetail, UserDetail};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads an answer.
///
/// # Errors
/// The text is no answer of this kind. The error names the place and no values.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    quick_xml::de::from_str(text).map_err(|error| format!("the answer of AWS is not of the documented form: {error}"))
}

/// List of elements `member`.
#[derive(Debug, Deserialize)]
pub(super) struct Members<T> {
    #[serde(default = "Vec::new")]
    member: Vec<T>,
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Members { member: Vec::new() }
    }
}

impl<T> Members<T> {
    pub(super) fn into_vec(self) -> Vec<T> {
        self.member
    }
}

/// Answer with an error.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ErrorAnswer {
    error: ErrorDetail,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorDetail {
    code: String,
}

/// Code of an error; `None` if the answer is none.
pub(super) fn error_code(text: &str) -> Option<String> {
    parse::<ErrorAnswer>(text).ok().map(|answer| answer.error.code.chars().take(100).collect())
}

/// Returns true for the codes by which AWS asks to come again later.
pub(super) fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "ServiceUnavailable" | "InternalFailure"
    )
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CallerAnswer {
    get_caller_identity_result: CallerResult,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CallerResult {
    arn: String,
    user_id: String,
    account: String,
}

/// Reads the answer to `GetCallerIdentity`.
pub(super) fn caller(text: &str) -> Result<Caller, String> {
    let CallerResult { arn, user_id, account } = parse::<CallerAnswer>(text)?.get_caller_identity_result;
    let account = account.parse().map_err(|_| "the answer of STS has no id of an account".to_owned())?;
    Ok(Caller { account, arn, user_id })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DetailsAnswer {
    pub(super) get_account_authorization_details_result: Details,
}

/// One page of `GetAccountAuthorizationDetails`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Details {
    #[serde(default)]
    pub(super) user_detail_list: Members<XmlUser>,
    #[serde(default)]
    pub(super) group_detail_list: Members<XmlGroup>,
    #[serde(default)]
    pub(super) role_detail_list: Members<XmlRole>,
    #[serde(default)]
    pub(super) policies: Members<XmlPolicy>,
    #[serde(default)]
    pub(super) is_truncated: bool,
    #[serde(default)]
    pub(super) marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct XmlInline {
    policy_name: String,
    policy_document: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct XmlAttached {
    policy_arn: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct XmlBoundary {
    permissions_boundary_arn: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct XmlTag {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct XmlUser {
    path: String,
    user_name: String,
    user_id: String,
    create_date: Timestamp,
    #[serde(default)]
    user_policy_list: Members<XmlInline>,
    #[serde(default)]
    group_list: Members<String>,
    #[serde(default)]
    attached_managed_policies: Members<XmlAttached>,
    #[serde(default)]
    permissions_boundary: Option<XmlBoundary>,
    #[serde(default)]
    tags: Members<XmlTag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct XmlGroup {
    path: String,
    group_name: String,
    group_id: String,
    create_date: Timestamp,
    #[serde(default)]
    group_policy_list: Members<XmlInline>,
    #[serde(default)]
    attached_managed_policies: Members<XmlAttached>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct XmlRole {
    path: String,
    role_name: String,
    role_id: String,
    create_date: Timestamp,
    assume_role_policy_document: String,
    #[serde(default)]
    role_policy_list: Members<XmlInline>,
    #[serde(default)]
    attached_managed_policies: Members<XmlAttached>,
    #[serde(default)]
    permissions_boundary: Option<XmlBoundary>,
    #[serde(default)]
    tags: Members<XmlTag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct XmlPolicy {
    policy_name: String,
    policy_id: String,
    arn: String,
    path: String,
    default_version_id: String,
    create_date: Timestamp,
    update_date: Timestamp,
    #[serde(default)]
    policy_version_list: Members<XmlVersion>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct XmlVersion {
    document: String,
    version_id: String,
}

/// Text of a policy, which IAM lists percent-encoded.
fn policy_text(encoded: &str) -> String {
    percent_decode_str(encoded).decode_utf8_lossy().into_owned()
}

fn inline(policies: Members<XmlInline>) -> Vec<(String, String)> {
    let policies = policies.into_vec().into_iter();
    policies.map(|policy| (policy.policy_name, policy_text(&policy.policy_document))).collect()
}

fn attached(policies: Members<XmlAttached>) -> Vec<String> {
    policies.into_vec().into_iter().map(|policy| policy.policy_arn).collect()
}

fn tags(tags: Members<XmlTag>) -> BTreeMap<String, String> {
    tags.into_vec().into_iter().map(|tag| (tag.key, tag.value)).collect()
}

impl From<XmlUser> for UserDetail {
    fn from(user: XmlUser) -> Self {
        UserDetail {
            name: user.user_name,
            id: user.user_id,
            path: user.path,
            created: user.create_date,
            inline: inline(user.user_policy_list),
            groups: user.group_list.into_vec(),
            attached: attached(user.attached_managed_policies),
            boundary: user.permissions_boundary.map(|boundary| boundary.permissions_boundary_arn),
            tags: tags(user.tags),
        }
    }
}

impl From<XmlGroup> for GroupDetail {
    fn from(group: XmlGroup) -> Self {
        GroupDetail {
            name: group.group_name,
            id: group.group_id,
            path: group.path,
            created: group.create_date,
            inline: inline(group.group_policy_list),
            attached: attached(group.attached_managed_policies),
        }
    }
}

impl From<XmlRole> for RoleDetail {
    fn from(role: XmlRole) -> Self {
        RoleDetail {
            name: role.role_name,
            id: role.role_id,
            path: role.path,
            created: role.create_date,
            trust: policy_text(&role.assume_role_policy_document),
            inline: inline(role.role_policy_list),
            attached: attached(role.attached_managed_policies),
            boundary: role.permissions_boundary.map(|boundary| boundary.permissions_boundary_arn),
            tags: tags(role.tags),
        }
    }
}

impl XmlPolicy {
    /// The policy with its version in force; an empty text, which denies, if the answer lacks it.
    pub(super) fn into_detail(self) -> PolicyDetail {
        let number = |id: &str| id.strip_prefix('v').and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let version = number(&self.default_version_id);
        let versions = self.policy_version_list.into_vec();
        let text = versions.into_iter().find(|version| version.version_id == self.default_version_id);
        PolicyDetail {
            name: self.policy_name,
            id: self.policy_id,
            arn: self.arn,
            path: self.path,
            created: self.create_date,
            updated: self.update_date,
            version,
            text: text.map_or(String::new(), |version| policy_text(&version.document)),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeysAnswer {
    #[serde(rename = "ListSSHPublicKeysResult")]
    pub(super) result: Keys,
}

/// One page of `ListSSHPublicKeys`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Keys {
    #[serde(rename = "SSHPublicKeys", default)]
    pub(super) keys: Members<ListedKey>,
    #[serde(default)]
    pub(super) is_truncated: bool,
    #[serde(default)]
    pub(super) marker: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ListedKey {
    #[serde(rename = "SSHPublicKeyId")]
    pub(super) id: String,
    #[serde(rename = "Status")]
    pub(super) status: String,
    #[serde(rename = "UploadDate")]
    pub(super) uploaded: Timestamp,
}

#[derive(Debug, Deserialize)]
pub(super) struct KeyAnswer {
    #[serde(rename = "GetSSHPublicKeyResult")]
    pub(super) result: KeyResult,
}

#[derive(Debug, Deserialize)]
pub(super) struct KeyResult {
    #[serde(rename = "SSHPublicKey")]
    pub(super) key: Key,
}

#[derive(Debug, Deserialize)]
pub(super) struct Key {
    #[serde(rename = "SSHPublicKeyBody")]
    pub(super) body: String,
}
