//! `[links.NAME]`: one replication from an endpoint to another.

use globset::GlobSet;
use serde::Deserialize;

use super::overlap::overlap;
use super::{AwsConfig, Config, TableLocation, all_repositories, events, location, name_matcher};
use gitferry_engine::region::push::Missing;
use gitferry_git::local::RefPatterns;
use gitferry_git::refname::{check_remote_name, check_repository_name};
use gitferry_git::renames::Renames;

/// One replication from an endpoint to another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// The region or remote that is read.
    pub source: String,
    /// The region or remote that is written.
    pub target: String,
    /// Globs of repository names; `*` also matches `/`. A remote cannot be listed: the names without wildcards are
    /// what a pass over it looks at.
    #[serde(default = "all_repositories")]
    pub repositories: Vec<String>,
    /// Whether it shares its target's repositories with another link.
    #[serde(default)]
    pub mode: LinkMode,
    /// The URL of the SQS queue that tells what changed in the source.
    #[serde(default)]
    pub queue: Option<String>,
    /// The URL of the SQS queue for events that cannot be acted on.
    #[serde(default)]
    pub dead_letters: Option<String>,
    /// How the queues (and the table) are reached; the queue's region is the one in its URL when left out.
    #[serde(default)]
    pub aws: AwsConfig,
    /// Only where a remote is one end, as all below: patterns of refs of the source, as in `--refs` of import; when left
    /// out all but those that servers keep for themselves.
    #[serde(default)]
    pub refs: Option<Vec<String>>,
    /// Refspecs `SOURCE:TARGET`, with one `*` on both sides or none: the first that fits gives a ref its name at the
    /// target.
    #[serde(default)]
    pub rename: Option<Vec<String>>,
    /// What becomes of refs of the target that the source does not have.
    #[serde(default)]
    pub deletions: Option<Deletions>,
    /// What becomes of refs of the target that somebody else has moved.
    #[serde(default)]
    pub divergence: Option<Divergence>,
    /// Whether the objects of Git LFS are carried, too.
    #[serde(default)]
    pub lfs: Option<LfsMode>,
    /// What becomes of a pass whose LFS objects are missing at the source.
    #[serde(default)]
    pub lfs_missing: Option<Missing>,
    /// A region through which a pass goes where the source alone cannot tell what a remote lacks, or cannot give a
    /// history in parts.
    #[serde(default)]
    pub via: Option<String>,
    /// The table of a link between two remotes, for checkpoints, statistics, and what events ask for: `sqlite:PATH` or
    /// `dynamodb://TABLE`.
    #[serde(default)]
    pub table: Option<String>,
}

/// What becomes of refs of the target that the source does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deletions {
    /// They are deleted.
    #[default]
    Mirror,
    /// They are kept.
    Keep,
}

/// What becomes of refs of the target that name what the source does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Divergence {
    /// What they name is kept under `refs/gitferry/diverged/`; then they are overwritten.
    #[default]
    Preserve,
    /// They are overwritten.
    Force,
    /// They stay as they are, and the pass says so.
    Refuse,
}

/// Whether the objects of Git LFS are carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LfsMode {
    /// Only the pointers, which are ordinary files.
    #[default]
    Ignore,
    /// Before the refs that need them.
    Copy,
}

/// Whether a link is the one that delivers a repository, or stands by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkMode {
    /// The only active link that may deliver a repository to its target.
    #[default]
    Active,
    /// May deliver repositories that an active link delivers, too; both carry the same ledger.
    Standby,
}

impl Config {
    /// Whether a link has a remote at one end.
    pub fn has_remote(&self, link: &LinkConfig) -> bool {
        [&link.source, &link.target].iter().any(|end| self.remotes.contains_key(*end))
    }

    /// The table of a link between two remotes, if it has one.
    pub fn link_table(&self, link: &LinkConfig) -> Result<Option<TableLocation>, String> {
        let table = link.table.as_ref().map(|table| location::table(table, self.folder())).transpose();
        table.map_err(|reason| format!("table: {reason}"))
    }

    pub(super) fn check_link(&self, link: &LinkConfig) -> Result<(), String> {
        for end in [&link.source, &link.target] {
            if !self.regions.contains_key(end) && !self.remotes.contains_key(end) {
                return Err(match self.remotes.is_empty() {
                    true => format!("there is no region {end}"),
                    false => format!("there is no region {end}, and no remote"),
                });
            }
        }
        if link.source == link.target {
            let kind = if self.regions.contains_key(&link.source) { "region" } else { "remote" };
            return Err(format!("source and target are the same {kind}"));
        }
        match self.has_remote(link) {
            true => self.check_remote_link(link)?,
            false => {
                if let Some(setting) = link.for_remotes().next() {
                    return Err(format!("{setting}: a link between regions carries whole repositories, as they are"));
                }
            }
        }
        events::check_queues(link.queue.as_deref(), link.dead_letters.as_deref())?;
        link.aws.check().map_err(|reason| format!("aws: {reason}"))?;
        link.matcher()?;
        self.check_names(link)
    }

    /// One active link delivers a repository to a target. Two for one pair of ends would undo each other's work, or do it
    /// twice.
    pub(super) fn check_distinct_links(&self) -> Result<(), String> {
        let active: Vec<_> = self.links.iter().filter(|(_, link)| link.mode == LinkMode::Active).collect();
        for (number, (name, link)) in active.iter().enumerate() {
            let before = active[..number].iter();
            let twin = before.filter(|(_, other)| (&other.source, &other.target) == (&link.source, &link.target));
            for (other_name, other) in twin {
                if link.shares_refs(other) && overlap(&link.repositories, &other.repositories) {
                    return Err(format!(
                        "links.{other_name} and links.{name} both carry repositories from {} to {}: let `repositories` \
                         of one leave out those of the other, or remove one{}",
                        link.source,
                        link.target,
                        match self.has_remote(link) {
                            true => "; or give each its own `refs`",
                            false => ", or give it mode = \"standby\"",
                        }
                    ));
                }
            }
        }
        Ok(())
    }

    /// Names of repositories that are given in full are those that both ends can have.
    fn check_names(&self, link: &LinkConfig) -> Result<(), String> {
        let in_region = [Some(&link.source), Some(&link.target), link.via.as_ref()];
        let region = in_region.into_iter().flatten().find(|end| self.regions.contains_key(*end));
        for name in link.literal_names() {
            match region {
                Some(region) => {
                    check_repository_name(name).map_err(|error| format!("repositories: {error} (in region {region})"))
                }
                None => check_remote_name(name).map_err(|error| format!("repositories: {error}")),
            }?;
        }
        Ok(())
    }

    fn check_remote_link(&self, link: &LinkConfig) -> Result<(), String> {
        if link.mode == LinkMode::Standby {
            return Err("mode: only a link between regions stands by".into());
        }
        let region = [&link.source, &link.target].into_iter().find(|end| self.regions.contains_key(*end));
        if let (Some(region), Some(_)) = (region, &link.table) {
            return Err(format!("table: only for a link between two remotes; this one uses that of {region}"));
        }
        if let (None, Some(_), None) = (region, &link.queue, &link.table) {
            return Err("queue needs table: a link between two remotes keeps there what events ask for until it is \
                        delivered; table = \"sqlite:PATH\" or \"dynamodb://TABLE\""
                .into());
        }
        if link.lfs_missing.is_some() && link.lfs != Some(LfsMode::Copy) {
            return Err("lfs_missing: only with lfs = \"copy\"".into());
        }
        if let Some(via) = &link.via {
            if !self.regions.contains_key(via) {
                return Err(format!("via: there is no region {via}"));
            }
            if !self.remotes.contains_key(&link.target) {
                return Err("via: only where the target is a remote; a region needs no other on the way".into());
            }
        }
        self.link_table(link)?;
        RefPatterns::new(link.refs.iter().flatten()).map_err(|error| format!("refs: {error}"))?;
        let renames = link.rename.as_deref().unwrap_or_default();
        Renames::new(renames).map(drop).map_err(|reason| format!("rename: {reason}"))
    }
}

impl LinkConfig {
    /// The settings that make sense only where a remote is one end, as far as they are there.
    pub(super) fn for_remotes(&self) -> impl Iterator<Item = &'static str> {
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

    /// Whether another link may carry refs that this one carries. Patterns that differ are taken at their word.
    fn shares_refs(&self, other: &LinkConfig) -> bool {
        match (&self.refs, &other.refs) {
            (Some(some), Some(others)) => some.iter().any(|pattern| others.contains(pattern)),
            _ => true,
        }
    }

    /// The names of repositories among the globs: those without wildcards.
    pub fn literal_names(&self) -> impl Iterator<Item = &String> {
        self.repositories.iter().filter(|name| !name.contains(['*', '?', '[', '{', '\\']))
    }

    /// Matches the names of the repositories that the link carries.
    pub fn matcher(&self) -> Result<GlobSet, String> {
        name_matcher(&self.repositories)
    }
}
