//! Lists the repositories of a link with a remote, as far as they can be known.

use std::collections::HashSet;

use globset::GlobSet;

use super::endpoint::Endpoint;
use super::rows::Rows;
use crate::ReplicationError;
use crate::error::InRegion as _;
use gitferry_engine::ledger::head::State;
use gitferry_engine::region::Region;
use gitferry_engine::region::reserved::is_account;
use gitferry_git::refname::{check_remote_name, check_repository_name};

/// Names of the repositories on a link.
#[derive(Clone, Debug)]
pub(super) struct LinkNames {
    /// Patterns for the names.
    patterns: GlobSet,
    /// Names that the configuration gives in full. They are the only ones known of a remote that was never mirrored: a
    /// remote cannot be listed.
    in_full: Vec<String>,
    /// True if a region holds the repositories at some point of the link, so that names follow its rules.
    in_region: bool,
}

impl LinkNames {
    /// Names that match these patterns. `in_region` is true if the link has a region at an end or on its way.
    pub fn new(patterns: GlobSet, in_full: Vec<String>, in_region: bool) -> Self {
        LinkNames { patterns, in_full, in_region }
    }

    /// Returns true if the configuration names this repository in full.
    pub fn has_in_full(&self, name: &str) -> bool {
        self.in_full.iter().any(|known| known == name)
    }

    /// Returns true if the link mirrors a repository of this name: never the account's repository of a region.
    pub fn carries(&self, name: &str) -> bool {
        if self.in_region && is_account(name) {
            return false;
        }
        let checked = if self.in_region { check_repository_name(name) } else { check_remote_name(name) };
        self.patterns.is_match(name) && checked.is_ok()
    }

    /// Names of the repositories for a pass: those in `names`, or all known ones if `names` is empty.
    pub async fn resolve(
        &self,
        source: &Endpoint,
        rows: &Rows,
        names: &[String],
    ) -> Result<Vec<String>, ReplicationError> {
        let link = rows.link();
        let not_on_link = |name: &str| ReplicationError::NotOnLink {
            name: name.into(),
            region: source.name().into(),
            link: link.into(),
        };
        let mut all = match source {
            Endpoint::Region(region) if names.is_empty() => self.all_in(region).await?,
            Endpoint::Region(region) => {
                let mut found = Vec::new();
                for name in names {
                    let item =
                        region.repositories().find(name).await.in_region(region)?.ok_or_else(|| not_on_link(name))?;
                    found.push(item.head.name);
                }
                found
            }
            Endpoint::Remote(_) if names.is_empty() => self.known(rows).await?,
            Endpoint::Remote(_) => names.to_vec(),
        };
        let mut seen = HashSet::new();
        all.retain(|name| seen.insert(name.clone()));
        if all.is_empty() && matches!(source, Endpoint::Remote(_)) {
            return Err(ReplicationError::NoNames { link: link.into(), remote: source.name().into() });
        }
        match all.iter().find(|name| !self.carries(name)) {
            Some(name) => Err(not_on_link(name)),
            None => Ok(all),
        }
    }

    /// Known repositories of a remote, which cannot be listed: those that the configuration names in full, and those
    /// with a row in the link's table.
    pub async fn known(&self, rows: &Rows) -> Result<Vec<String>, ReplicationError> {
        let noted = rows.names().await.map_err(|error| rows.failed(error))?;
        Ok(self.in_full.iter().cloned().chain(noted.into_iter().filter(|name| self.carries(name))).collect())
    }

    /// Names of all repositories of a region that are on the link.
    async fn all_in(&self, region: &Region) -> Result<Vec<String>, ReplicationError> {
        let heads = region.repositories().heads().await.in_region(region)?;
        // Unreadable repositories fail in their own deliveries, and stop no other.
        let unreadable = heads.unreadable.into_iter().filter_map(|unreadable| unreadable.name);
        let visible = heads.items.into_iter().map(|item| item.head);
        let visible = visible.filter(|head| head.named && head.state != State::Deleted).map(|head| head.name);
        Ok(visible.chain(unreadable).filter(|name| self.carries(name)).collect())
    }
}
