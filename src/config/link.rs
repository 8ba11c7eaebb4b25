//! `[links.NAME]`: replication from a source to a target.

use globset::GlobSet;
use serde::Deserialize;

use super::globs::{all_repositories, name_matcher};
use gitferry_engine::region::push::Missing;
use gitferry_engine::region::reserved::is_account;
use gitferry_store::aws::AwsConfig;

/// A replication from a source to a target.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// Region or remote to read from.
    pub source: String,
    /// Region or remote to write to.
    pub target: String,
    /// Globs of repository names. `*` also matches `/`. Git servers cannot list repositories, so a pass over a remote
    /// delivers only the names without wildcards.
    #[serde(default = "all_repositories")]
    pub repositories: Vec<String>,
    /// False for a link between regions that leaves out the account's repository. `repositories` never decides on it.
    #[serde(default)]
    pub account: Option<bool>,
    /// Active, or standby beside another link with the same repositories and target.
    #[serde(default)]
    pub mode: LinkMode,
    /// URL of the SQS queue with events of the source.
    #[serde(default)]
    pub queue: Option<String>,
    /// URL of the SQS queue for events that cannot be processed.
    #[serde(default)]
    pub dead_letters: Option<String>,
    /// AWS settings for the queues and the table. The region defaults to the one in the queue's URL.
    #[serde(default)]
    pub aws: AwsConfig,
    /// Patterns of the source's refs, in the syntax of `import --refs`. Defaults to all refs except the private ones of
    /// servers. Valid only if one end is a remote, as are all settings below.
    #[serde(default)]
    pub refs: Option<Vec<String>>,
    /// Refspecs `SOURCE:TARGET` with one `*` on each side or none. The first that matches a ref determines its name at
    /// the target.
    #[serde(default)]
    pub rename: Option<Vec<String>>,
    /// Treatment of target refs that the source does not have.
    #[serde(default)]
    pub deletions: Option<Deletions>,
    /// Treatment of target refs that have diverged.
    #[serde(default)]
    pub divergence: Option<Divergence>,
    /// Replication of Git LFS objects.
    #[serde(default)]
    pub lfs: Option<LfsMode>,
    /// Reaction to LFS objects that are missing at the source.
    #[serde(default)]
    pub lfs_missing: Option<Missing>,
    /// Region that stages a delivery if the source alone cannot determine the objects that the remote lacks, or cannot
    /// serve a history in parts.
    #[serde(default)]
    pub via: Option<String>,
    /// Table of a link between two remotes, for checkpoints, statistics and pending jobs: `sqlite:PATH` or
    /// `dynamodb://TABLE`.
    #[serde(default)]
    pub table: Option<String>,
}

/// Names of the repositories that a link between regions carries.
#[derive(Clone, Debug)]
pub struct CarriedNames {
    globs: GlobSet,
    account: bool,
}

impl CarriedNames {
    /// Returns true if the link carries repositories of this name. The globs do not decide on the account's repository.
    pub fn is_match(&self, name: &str) -> bool {
        if is_account(name) { self.account } else { self.globs.is_match(name) }
    }
}

/// The names that match these globs, and the account's repository.
impl From<GlobSet> for CarriedNames {
    fn from(globs: GlobSet) -> Self {
        CarriedNames { globs, account: true }
    }
}

/// Treatment of target refs that the source does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deletions {
    /// Delete them.
    #[default]
    Mirror,
    /// Keep them.
    Keep,
}

/// Treatment of target refs that point to objects that the source does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Divergence {
    /// Keep their objects under `refs/gitferry/diverged/`, then overwrite them.
    #[default]
    Preserve,
    /// Overwrite them.
    Force,
    /// Leave them unchanged and report them.
    Refuse,
}

/// Replication of Git LFS objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LfsMode {
    /// Replicate only the pointers, which are ordinary files.
    #[default]
    Ignore,
    /// Copy the objects before the refs that need them.
    Copy,
}

/// Role of a link among links with the same repositories and target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkMode {
    /// The only active link that delivers a repository to its target.
    #[default]
    Active,
    /// May deliver repositories that an active link also delivers; both carry the same ledger.
    Standby,
}

impl LinkConfig {
    /// Names of the given settings that are valid only if one end is a remote.
    pub(super) fn remote_settings(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("refs", self.refs.is_some()),
            ("rename", self.rename.is_some()),
            ("deletions", self.deletions.is_some()),
            ("divergence", self.divergence.is_some()),
            ("lfs", self.lfs.is_some()),
            ("lfs_missing", self.lfs_missing.is_some()),
            ("via", self.via.is_some()),
            ("table", self.table.is_some()),
        ];
        all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name)
    }

    /// Returns true if both links may carry the same ref. Different patterns are assumed to be disjoint.
    pub(super) fn shares_refs(&self, other: &LinkConfig) -> bool {
        match (&self.refs, &other.refs) {
            (Some(some), Some(others)) => some.iter().any(|pattern| others.contains(pattern)),
            _ => true,
        }
    }

    /// Returns the globs without wildcards, which are names of repositories.
    pub fn literal_names(&self) -> impl Iterator<Item = &String> {
        self.repositories.iter().filter(|name| !name.contains(['*', '?', '[', '{', '\\']))
    }

    /// Builds a matcher of the globs in `repositories`.
    pub fn matcher(&self) -> Result<GlobSet, String> {
        name_matcher(&self.repositories)
    }

    /// Returns the names of the repositories that the link carries if both of its ends are regions.
    pub fn carried_names(&self) -> Result<CarriedNames, String> {
        Ok(CarriedNames { globs: self.matcher()?, account: self.account.unwrap_or(true) })
    }
}
