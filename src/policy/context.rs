//! The request context: condition keys with their values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::keys;

/// Name of a condition key, such as `aws:PrincipalTag/team`. Names are compared without regard to case.
#[derive(Clone, Debug)]
pub struct Key {
    name: String,
    lower: String,
}

impl Key {
    /// Key of this name.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let lower = name.to_lowercase();
        Key { name, lower }
    }

    /// Checks the name as policies have it: a service or an identity provider, a colon, the key.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let (vendor, rest) = name.split_once(':').unwrap_or_default();
        if vendor.is_empty() || rest.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!(
                "`{name}` is no condition key: it has the form `aws:SourceIp` or `codecommit:References`"
            ));
        }
        Ok(Key::new(name))
    }

    /// Name as it was written.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.lower == other.lower
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.lower.cmp(&other.lower)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

/// Values of the condition keys of one request. A key that is not inserted is absent, and so is a key without values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// By the lower-case name of the key. No list is empty.
    values: BTreeMap<String, Vec<String>>,
}

impl Context {
    /// Empty context to be filled.
    pub fn builder() -> ContextBuilder {
        ContextBuilder { context: Context::default() }
    }

    /// Builder with the values of this context, for one that differs in a few keys.
    pub fn to_builder(&self) -> ContextBuilder {
        ContextBuilder { context: self.clone() }
    }

    /// Values of a key, at least one; `None` if the key is absent.
    pub(crate) fn values(&self, key: &Key) -> Option<&[String]> {
        self.values.get(&key.lower).map(Vec::as_slice)
    }

    /// Value that a policy variable stands for: that of a key with exactly one value that is not empty. "You can't use a
    /// multivalued condition key as a variable."
    pub(crate) fn variable(&self, key: &Key) -> Option<&str> {
        match self.values(key)? {
            [value] if !value.is_empty() => Some(value),
            _ => None,
        }
    }

    /// Returns true if the key has a value.
    pub fn has(&self, key: &Key) -> bool {
        self.values.contains_key(&key.lower)
    }
}

/// Kind of a principal: the value of `aws:PrincipalType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrincipalType {
    /// The root of an account.
    Account,
    /// A user.
    User,
    /// A session of a role.
    AssumedRole,
    /// A session of a federated user.
    FederatedUser,
    /// A request without credentials.
    Anonymous,
}

impl PrincipalType {
    fn name(self) -> &'static str {
        match self {
            PrincipalType::Account => "Account",
            PrincipalType::User => "User",
            PrincipalType::AssumedRole => "AssumedRole",
            PrincipalType::FederatedUser => "FederatedUser",
            PrincipalType::Anonymous => "Anonymous",
        }
    }
}

/// A push changes more paths than policies can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {} paths, with the directories above them, change at once", keys::MAX_CHANGED_PATHS)]
pub struct TooManyPaths;

/// Fills a [`Context`].
#[derive(Clone, Debug)]
pub struct ContextBuilder {
    context: Context,
}

impl ContextBuilder {
    /// Finished context.
    pub fn build(self) -> Context {
        self.context
    }

    /// Sets all values of a key, in place of those that it had. Without values, the key is absent.
    pub fn insert<V: Into<String>>(mut self, key: &str, values: impl IntoIterator<Item = V>) -> Self {
        let key = key.to_lowercase();
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        if values.is_empty() {
            self.context.values.remove(&key);
        } else {
            self.context.values.insert(key, values);
        }
        self
    }

    fn one(self, key: &str, value: impl Into<String>) -> Self {
        self.insert(key, [value])
    }

    fn tag(self, prefix: &str, tag: &str, value: &str) -> Self {
        self.one(&format!("{prefix}{tag}"), value)
    }

    /// `aws:SourceIp`. An IPv4 address in the form of IPv6 (`::ffff:192.0.2.1`) counts as IPv4.
    pub fn source_ip(self, address: IpAddr) -> Self {
        self.one(keys::SOURCE_IP, address.to_canonical().to_string())
    }

    /// `aws:SecureTransport`: true if the request came over TLS or SSH.
    pub fn secure_transport(self, secure: bool) -> Self {
        self.one(keys::SECURE_TRANSPORT, secure.to_string())
    }

    /// `aws:CurrentTime` and `aws:EpochTime`, in whole seconds.
    pub fn time(self, now: Timestamp) -> Self {
        let seconds = now.as_second();
        let whole = Timestamp::from_second(seconds).unwrap_or(now);
        self.one(keys::CURRENT_TIME, whole.to_string()).one(keys::EPOCH_TIME, seconds.to_string())
    }

    /// `aws:PrincipalArn`: the ARN of the user, or of the role that a session belongs to (not of the session).
    pub fn principal_arn(self, arn: &str) -> Self {
        self.one(keys::PRINCIPAL_ARN, arn)
    }

    /// `aws:PrincipalAccount`: the id of the principal's account.
    pub fn principal_account(self, account: &str) -> Self {
        self.one(keys::PRINCIPAL_ACCOUNT, account)
    }

    /// `aws:PrincipalType`.
    pub fn principal_type(self, kind: PrincipalType) -> Self {
        self.one(keys::PRINCIPAL_TYPE, kind.name())
    }

    /// `aws:PrincipalTag/TAG`: a tag of the user, the role or the session.
    pub fn principal_tag(self, tag: &str, value: &str) -> Self {
        self.tag(keys::PRINCIPAL_TAG, tag, value)
    }

    /// `aws:ResourceTag/TAG`: a tag of the repository.
    pub fn resource_tag(self, tag: &str, value: &str) -> Self {
        self.tag(keys::RESOURCE_TAG, tag, value)
    }

    /// `aws:RequestTag/TAG`: a tag that the request sets.
    pub fn request_tag(self, tag: &str, value: &str) -> Self {
        self.tag(keys::REQUEST_TAG, tag, value)
    }

    /// `aws:TagKeys`: names of the tags that the request sets or removes.
    pub fn tag_keys<V: Into<String>>(self, tags: impl IntoIterator<Item = V>) -> Self {
        self.insert(keys::TAG_KEYS, tags)
    }

    /// `aws:username`: only for users.
    pub fn username(self, name: &str) -> Self {
        self.one(keys::USERNAME, name)
    }

    /// `aws:userid`: the id of the user, or `ROLE_ID:SESSION_NAME`.
    pub fn user_id(self, id: &str) -> Self {
        self.one(keys::USER_ID, id)
    }

    /// `aws:UserAgent`.
    pub fn user_agent(self, agent: &str) -> Self {
        self.one(keys::USER_AGENT, agent)
    }

    /// `aws:RequestedRegion`.
    pub fn requested_region(self, region: &str) -> Self {
        self.one(keys::REQUESTED_REGION, region)
    }

    /// `aws:SourceIdentity`: of a session that was made with one.
    pub fn source_identity(self, identity: &str) -> Self {
        self.one(keys::SOURCE_IDENTITY, identity)
    }

    /// `codecommit:References`: the ref that a command of a push, or a call of the API, changes. Absent in the first evaluation
    /// of a push.
    pub fn reference(self, name: &str) -> Self {
        self.one(keys::REFERENCES, name)
    }

    /// `gitferry:ForcePush`: true if the new value of the ref does not contain the old one.
    pub fn force_push(self, forced: bool) -> Self {
        self.one(keys::FORCE_PUSH, forced.to_string())
    }

    /// `gitferry:RefDeletion`: true if the ref is deleted.
    pub fn ref_deletion(self, deleted: bool) -> Self {
        self.one(keys::REF_DELETION, deleted.to_string())
    }

    /// `gitferry:ChangedPaths`: the files that the push changes on this ref and the directories above them, which end in `/`.
    ///
    /// # Errors
    /// [`TooManyPaths`] if there are more than [`keys::MAX_CHANGED_PATHS`].
    pub fn changed_paths<'a>(self, files: impl IntoIterator<Item = &'a str>) -> Result<Self, TooManyPaths> {
        let mut paths = BTreeSet::new();
        for file in files {
            let directories = file.match_indices('/').map(|(at, _)| &file[..=at]);
            paths.extend(directories);
            paths.insert(file);
            if paths.len() > keys::MAX_CHANGED_PATHS {
                return Err(TooManyPaths);
            }
        }
        Ok(self.insert(keys::CHANGED_PATHS, paths))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(context: &Context, key: &str) -> Vec<String> {
        context.values(&Key::new(key)).map(<[String]>::to_vec).unwrap_or_default()
    }

    #[test]
    fn names_of_keys_have_no_case() {
        let context = Context::builder().insert("AWS:UserName", ["ana"]).principal_tag("Team", "x").build();
        assert_eq!(values(&context, "aws:username"), ["ana"]);
        assert_eq!(values(&context, "aws:principaltag/TEAM"), ["x"]);
        assert!(!context.has(&Key::new("aws:userid")));
    }

    #[test]
    fn a_key_without_values_is_absent() {
        let context = Context::builder().tag_keys(["a"]).tag_keys(Vec::<String>::new()).build();
        assert_eq!(context, Context::default());
    }

    #[test]
    fn times_are_whole_seconds_in_both_forms() {
        let context = Context::builder().time("2026-01-31T09:30:00.9Z".parse().unwrap()).build();
        assert_eq!(values(&context, "aws:CurrentTime"), ["2026-01-31T09:30:00Z"]);
        assert_eq!(values(&context, "aws:EpochTime"), ["1769851800"]);
    }

    #[test]
    fn mapped_addresses_are_those_of_version_4() {
        let context = Context::builder().source_ip("::ffff:192.0.2.1".parse().unwrap()).build();
        assert_eq!(values(&context, "aws:SourceIp"), ["192.0.2.1"]);
    }

    #[test]
    fn changed_paths_have_the_directories_above_them() {
        let context = Context::builder().changed_paths(["infra/aws/main.tf", "README.md"]).unwrap().build();
        let expected = ["README.md", "infra/", "infra/aws/", "infra/aws/main.tf"];
        assert_eq!(values(&context, "gitferry:ChangedPaths"), expected);
        let many: Vec<String> = (0..=keys::MAX_CHANGED_PATHS).map(|number| number.to_string()).collect();
        let builder = Context::builder().changed_paths(many.iter().skip(1).map(String::as_str));
        assert_eq!(values(&builder.unwrap().build(), "gitferry:ChangedPaths").len(), keys::MAX_CHANGED_PATHS);
        Context::builder().changed_paths(many.iter().map(String::as_str)).unwrap_err();
    }

    #[test]
    fn variables_have_one_value() {
        let context =
            Context::builder().insert("a:one", ["x"]).insert("a:two", ["x", "y"]).insert("a:empty", [""]).build();
        assert_eq!(context.variable(&Key::new("a:one")), Some("x"));
        for key in ["a:two", "a:empty", "a:none"] {
            assert_eq!(context.variable(&Key::new(key)), None, "{key}");
        }
    }
}
