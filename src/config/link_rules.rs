//! Rules for the links of a configuration: ends that exist, settings that the ends allow, no two links with one task.

use super::aws_region::check_region;
use super::link::{LfsMode, LinkConfig, LinkMode};
use super::location::TableLocation;
use super::overlap::overlap;
use super::{Config, events, location};
use gitferry_engine::region::reserved::is_account;
use gitferry_git::local::RefPatterns;
use gitferry_git::refname::{check_remote_name, check_repository_name};
use gitferry_git::refspec::Refspecs;

impl Config {
    /// Returns true if one end of the link is a remote.
    pub fn has_remote(&self, link: &LinkConfig) -> bool {
        [&link.source, &link.target].iter().any(|end| self.remotes.contains_key(*end))
    }

    /// Returns true if a link brings the account's repository to its target.
    pub fn carries_account(&self, link: &LinkConfig) -> bool {
        link.mode == LinkMode::Active && link.account.unwrap_or(true) && !self.has_remote(link)
    }

    /// Returns the link that brings the account's repository to a region, if there is one.
    pub fn account_link_to(&self, region: &str) -> Option<(&String, &LinkConfig)> {
        self.links.iter().find(|(_, link)| link.target == region && self.carries_account(link))
    }

    /// Returns the table of a link between two remotes, if configured.
    pub fn link_table(&self, link: &LinkConfig) -> Result<Option<TableLocation>, String> {
        let table = link.table.as_ref().map(|table| location::table(table, self.folder())).transpose();
        table.map_err(|reason| format!("table: {reason}"))
    }

    pub(super) fn check_link(&self, link: &LinkConfig) -> Result<(), String> {
        for end in [&link.source, &link.target] {
            if !self.regions.contains_key(end) && !self.remotes.contains_key(end) {
                let or_remote = if self.remotes.is_empty() { "" } else { ", and no remote" };
                return Err(format!("there is no region {end}{or_remote}"));
            }
        }
        if link.source == link.target {
            let kind = if self.regions.contains_key(&link.source) { "region" } else { "remote" };
            return Err(format!("source and target are the same {kind}"));
        }
        if self.has_remote(link) {
            self.check_remote_link(link)?;
        } else if let Some(setting) = link.remote_settings().next() {
            return Err(format!("{setting}: a link between regions carries whole repositories, unchanged"));
        }
        events::check_queues(link.queue.as_deref(), link.dead_letters.as_deref())?;
        link.aws.check().map_err(|reason| format!("aws: {reason}"))?;
        if link.queue.as_deref().is_some_and(|url| events::region_of_queue(url).is_none()) {
            check_region(&link.aws, "queue: this")?;
        }
        if matches!(self.link_table(link)?, Some(TableLocation::DynamoDb(_))) {
            check_region(&link.aws, "table: this")?;
        }
        link.matcher()?;
        self.check_names(link)
    }

    /// Verifies that at most one active link delivers a repository to a target. Two for the same source and target
    /// would undo or repeat each other's work.
    pub(super) fn check_distinct_links(&self) -> Result<(), String> {
        let active: Vec<_> = self.links.iter().filter(|(_, link)| link.mode == LinkMode::Active).collect();
        for (number, (name, link)) in active.iter().enumerate() {
            let before = active[..number].iter();
            let twin = before.filter(|(_, other)| (&other.source, &other.target) == (&link.source, &link.target));
            for (other_name, other) in twin {
                if link.shares_refs(other) && overlap(&link.repositories, &other.repositories) {
                    return Err(format!(
                        "links.{other_name} and links.{name} both carry repositories from {} to {}: make their \
                         `repositories` disjoint, or remove one{}",
                        link.source,
                        link.target,
                        if self.has_remote(link) {
                            "; or give each its own `refs`"
                        } else {
                            ", or give it mode = \"standby\""
                        }
                    ));
                }
            }
        }
        Ok(())
    }

    /// Verifies that names without wildcards are valid at both ends.
    fn check_names(&self, link: &LinkConfig) -> Result<(), String> {
        let in_region = [Some(&link.source), Some(&link.target), link.via.as_ref()];
        let region = in_region.into_iter().flatten().find(|end| self.regions.contains_key(*end));
        for name in link.literal_names() {
            if region.is_some() && is_account(name) {
                return Err(format!(
                    "repositories: {name} holds the account of a region: links between regions carry it unless they \
                     have account = false, and links with remotes never do"
                ));
            }
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
        if link.account.is_some() {
            return Err(
                "account: only for a link between regions; no other link carries the account's repository".into()
            );
        }
        if link.mode == LinkMode::Standby {
            return Err("mode: only a link between regions can be on standby".into());
        }
        let region = [&link.source, &link.target].into_iter().find(|end| self.regions.contains_key(*end));
        if let (Some(region), Some(_)) = (region, &link.table) {
            return Err(format!("table: only for a link between two remotes; this link uses that of {region}"));
        }
        if let (None, Some(_), None) = (region, &link.queue, &link.table) {
            return Err("queue needs table: a link between two remotes keeps its pending jobs there; set \
                        table = \"sqlite:PATH\" or \"dynamodb://TABLE\""
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
                return Err("via: only where the target is a remote; a region needs no staging region".into());
            }
        }
        self.link_table(link)?;
        RefPatterns::new(link.refs.iter().flatten()).map_err(|error| format!("refs: {error}"))?;
        let renames = link.rename.as_deref().unwrap_or_default();
        Refspecs::new(renames).map(drop).map_err(|reason| format!("rename: {reason}"))
    }
}
