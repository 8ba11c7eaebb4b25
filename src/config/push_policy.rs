//! `[[push_policies]]`: rules for pushes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytesize::ByteSize;
use globset::GlobSet;
use jiff::SignedDuration;
use serde::Deserialize;

use super::globs::{all_repositories, name_matcher};
use super::limits::some_size;
use gitferry_engine::region::push::{Missing, Protection};
use gitferry_git::fsck::{Message, Rules, Severity};
use gitferry_git::local::RefPatterns;

/// Default timeout of a pre-receive hook.
const HOOK_TIMEOUT: SignedDuration = SignedDuration::from_secs(60);
/// Largest timeout of a pre-receive hook, for which pushes wait.
const MAX_HOOK_TIMEOUT: SignedDuration = SignedDuration::from_mins(60);

/// Rules for pushes to some repositories. The first policy whose globs match a repository applies; without one, the
/// defaults apply.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushPolicyConfig {
    /// Globs of repository names; `*` also matches `/`.
    #[serde(default = "all_repositories")]
    pub repositories: Vec<String>,
    /// True if links of another gitferry push to the repositories: pushes may then write refs below
    /// `refs/gitferry/diverged/` and `refs/gitferry/slices/`.
    #[serde(default)]
    pub mirror: bool,
    /// Largest pack of a push, such as `2 GiB`.
    #[serde(default, deserialize_with = "some_size")]
    pub max_push: Option<ByteSize>,
    /// Largest object.
    #[serde(default, deserialize_with = "some_size")]
    pub max_object: Option<ByteSize>,
    /// Largest Git LFS object.
    #[serde(default, deserialize_with = "some_size")]
    pub max_lfs_object: Option<ByteSize>,
    /// Reaction to LFS pointers whose objects the region does not have.
    #[serde(default)]
    pub lfs_missing: Missing,
    /// Protected refs.
    #[serde(default)]
    pub protect: Vec<ProtectConfig>,
    /// Object checks: `"off"`, or severities by message id of `git fsck`.
    #[serde(default)]
    pub fsck: FsckConfig,
    /// File of object ids that are exempt from the checks, one per line, as in Git's `fsck.skipList`.
    #[serde(default)]
    pub fsck_skip: Option<PathBuf>,
    /// Hook that accepts or refuses a push before the push becomes visible.
    #[serde(default)]
    pub pre_receive: Option<HookConfig>,
}

/// Protected refs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectConfig {
    /// Patterns of refs, in the syntax of `import --refs`.
    pub refs: Vec<String>,
    /// Forbidden operations.
    pub forbid: Vec<Forbidden>,
}

/// Operation that is forbidden on a ref for all principals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forbidden {
    /// Non-fast-forward updates.
    Force,
    /// Deletions.
    Delete,
    /// All updates by push.
    Push,
}

/// Strictness of object checks.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum FsckConfig {
    /// No checks.
    Off(Off),
    /// Severities (`error`, `warn`, `ignore`) by message id. Others have Git's defaults.
    Severities(BTreeMap<String, String>),
}

impl Default for FsckConfig {
    fn default() -> Self {
        FsckConfig::Severities(BTreeMap::new())
    }
}

/// The literal `off`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Off {
    /// No object is checked.
    Off,
}

/// A pre-receive hook: a command or a URL.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum HookConfig {
    /// A program with the interface of Git's `pre-receive` hook (githooks(5)). A path with a `/` is relative to the
    /// configuration.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// Limit for one run, 60 s if omitted and at most 60 min.
        #[serde(default)]
        timeout: Option<SignedDuration>,
    },
    /// An endpoint that receives the push as JSON.
    Url {
        /// URL with the scheme `http` or `https`.
        url: String,
        /// File with the bearer token for requests to the endpoint.
        #[serde(default)]
        token_file: Option<PathBuf>,
        /// Limit for one run, 60 s if omitted and at most 60 min.
        #[serde(default)]
        timeout: Option<SignedDuration>,
    },
}

impl HookConfig {
    /// Limit for one run, 60 s if omitted and at most 60 min.
    pub fn timeout(&self) -> std::time::Duration {
        let (HookConfig::Command { timeout, .. } | HookConfig::Url { timeout, .. }) = self;
        timeout.unwrap_or(HOOK_TIMEOUT).unsigned_abs()
    }

    fn check(&self) -> Result<(), String> {
        let (HookConfig::Command { timeout, .. } | HookConfig::Url { timeout, .. }) = self;
        if timeout.is_some_and(|timeout| timeout <= SignedDuration::ZERO || timeout > MAX_HOOK_TIMEOUT) {
            return Err("pre_receive.timeout must be above 0 and at most an hour".into());
        }
        match self {
            HookConfig::Command { command, .. } if command.first().is_none_or(String::is_empty) => {
                Err("pre_receive.command names no program".into())
            }
            HookConfig::Url { url, .. } if !url.starts_with("https://") && !url.starts_with("http://") => {
                Err("pre_receive.url is neither http:// nor https://".into())
            }
            _ => Ok(()),
        }
    }
}

impl PushPolicyConfig {
    /// Builds a matcher of the policy's repositories.
    pub fn matcher(&self) -> Result<GlobSet, String> {
        name_matcher(&self.repositories)
    }

    /// Converts the protected refs.
    pub fn protections(&self) -> Result<Vec<Protection>, String> {
        let protection = |protect: &ProtectConfig| {
            if protect.refs.is_empty() || protect.forbid.is_empty() {
                return Err("protect needs refs and forbid".to_owned());
            }
            let refs = RefPatterns::new(&protect.refs).map_err(|error| error.to_string())?;
            let forbids = |what| protect.forbid.contains(&what);
            let no_force = forbids(Forbidden::Force);
            let no_delete = forbids(Forbidden::Delete);
            Ok(Protection { refs, no_force, no_delete, no_push: forbids(Forbidden::Push) })
        };
        self.protect.iter().map(protection).collect()
    }

    /// Converts the object checks, without the skip list. Returns `None` if checks are off.
    pub fn rules(&self) -> Result<Option<Rules>, String> {
        let FsckConfig::Severities(severities) = &self.fsck else { return Ok(None) };
        let mut rules = Rules::default();
        for (message, severity) in severities {
            let severity: Severity = severity.parse().map_err(|error| format!("fsck.{message}: {error}"))?;
            let message: Message = message.parse().map_err(|error| format!("fsck: {error}"))?;
            rules.set(message, severity).map_err(|error| format!("fsck: {error}"))?;
        }
        Ok(Some(rules))
    }

    /// Validates the policy. Returns the invalid setting and the violation.
    pub(super) fn check(&self) -> Result<(), String> {
        self.matcher()?;
        self.protections()?;
        self.rules()?;
        if self.fsck_skip.is_some() && matches!(self.fsck, FsckConfig::Off(_)) {
            return Err("fsck_skip has no effect with fsck = \"off\"".into());
        }
        self.pre_receive.as_ref().map_or(Ok(()), HookConfig::check)
    }
}
