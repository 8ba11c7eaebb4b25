//! `[[push_policies]]`: what repositories accept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytesize::ByteSize;
use globset::GlobSet;
use jiff::SignedDuration;
use serde::Deserialize;

use super::{all_repositories, name_matcher};
use gitferry_engine::region::push::{Missing, Protection};
use gitferry_git::fsck::{Message, Rules, Severity};
use gitferry_git::local::RefPatterns;

/// How long a pre-receive hook may take, unless its policy says otherwise.
const HOOK_TIMEOUT: SignedDuration = SignedDuration::from_secs(60);
/// Longest that a pre-receive hook may be given: pushes wait for it.
const MAX_HOOK_TIMEOUT: SignedDuration = SignedDuration::from_mins(60);

/// What some repositories accept. The first policy whose globs take a repository's name is its own; one that
/// none takes has the defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushPolicyConfig {
    /// Globs of repository names; `*` also matches `/`.
    #[serde(default = "all_repositories")]
    pub repositories: Vec<String>,
    /// Whether links of another gitferry push to them: pushes may then write refs below `refs/gitferry/diverged/` and
    /// `refs/gitferry/slices/`.
    #[serde(default)]
    pub mirror: bool,
    /// Largest pack, as `2 GiB`.
    #[serde(default)]
    pub max_push: Option<ByteSize>,
    /// Largest object.
    #[serde(default)]
    pub max_object: Option<ByteSize>,
    /// Largest Git LFS object.
    #[serde(default)]
    pub max_lfs_object: Option<ByteSize>,
    /// What becomes of pointers to Git LFS objects that are not here.
    #[serde(default)]
    pub lfs_missing: Missing,
    /// Which refs are protected, from what.
    #[serde(default)]
    pub protect: Vec<ProtectConfig>,
    /// What becomes of findings in objects: `"off"`, or severities by the names that `git fsck` gives them.
    #[serde(default)]
    pub fsck: FsckConfig,
    /// A file of object ids that are not checked, one in a line, as for Git's `fsck.skipList`.
    #[serde(default)]
    pub fsck_skip: Option<PathBuf>,
    /// Who judges pushes before anything of them is visible.
    #[serde(default)]
    pub pre_receive: Option<HookConfig>,
}

/// Protected refs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectConfig {
    /// Patterns, as in `--refs` of import.
    pub refs: Vec<String>,
    /// What nobody may do to them.
    pub forbid: Vec<Forbidden>,
}

/// Something that nobody may do to a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forbidden {
    /// Updates that are not fast-forwards.
    Force,
    /// Deleting it.
    Delete,
    /// Any push at all.
    Push,
}

/// How strictly objects are looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum FsckConfig {
    /// Not at all.
    Off(Off),
    /// By these severities (`error`, `warn`, `ignore`); the others are Git's.
    Severities(BTreeMap<String, String>),
}

impl Default for FsckConfig {
    fn default() -> Self {
        FsckConfig::Severities(BTreeMap::new())
    }
}

/// The word `off`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Off {
    /// Nothing is checked.
    Off,
}

/// A pre-receive hook: a command or a URL.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum HookConfig {
    /// A program and its arguments, called as Git calls `pre-receive`. A path with a `/` is relative to the
    /// configuration.
    Command {
        /// What to run.
        command: Vec<String>,
        /// How long it may take.
        #[serde(default)]
        timeout: Option<SignedDuration>,
    },
    /// An endpoint that is sent the push as JSON.
    Url {
        /// Where it is: `http` or `https`.
        url: String,
        /// A file with a token that it is sent as `Authorization: Bearer`.
        #[serde(default)]
        token_file: Option<PathBuf>,
        /// How long it may take.
        #[serde(default)]
        timeout: Option<SignedDuration>,
    },
}

impl HookConfig {
    /// How long it may take.
    pub fn timeout(&self) -> std::time::Duration {
        let (HookConfig::Command { timeout, .. } | HookConfig::Url { timeout, .. }) = self;
        timeout.unwrap_or(HOOK_TIMEOUT).unsigned_abs()
    }

    fn check(&self) -> Result<(), String> {
        let (HookConfig::Command { timeout, .. } | HookConfig::Url { timeout, .. }) = self;
        if timeout.is_some_and(|timeout| timeout <= SignedDuration::ZERO || timeout > MAX_HOOK_TIMEOUT) {
            return Err("pre_receive.timeout has to be above 0 and at most an hour".into());
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
    /// Matches the names of its repositories.
    pub fn matcher(&self) -> Result<GlobSet, String> {
        name_matcher(&self.repositories)
    }

    /// What must not happen to which refs.
    pub fn protections(&self) -> Result<Vec<Protection>, String> {
        let protection = |protect: &ProtectConfig| {
            if protect.refs.is_empty() || protect.forbid.is_empty() {
                return Err("protect needs refs and forbid".to_owned());
            }
            let refs = RefPatterns::new(&protect.refs).map_err(|error| error.to_string())?;
            let forbids = |what| protect.forbid.contains(&what);
            let (no_force, no_delete) = (forbids(Forbidden::Force), forbids(Forbidden::Delete));
            Ok(Protection { refs, no_force, no_delete, no_push: forbids(Forbidden::Push) })
        };
        self.protect.iter().map(protection).collect()
    }

    /// By which objects are checked, but for the skip list; `None` for not at all.
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

    /// Whether all of it makes sense.
    pub(super) fn check(&self) -> Result<(), String> {
        self.matcher()?;
        self.protections()?;
        self.rules()?;
        if self.fsck_skip.is_some() && matches!(self.fsck, FsckConfig::Off(_)) {
            return Err("fsck_skip means nothing with fsck = \"off\"".into());
        }
        self.pre_receive.as_ref().map_or(Ok(()), HookConfig::check)
    }
}
