//! Lists the repositories of a link with a remote, as far as they can be known.

use std::collections::HashSet;

use super::endpoint::Endpoint;
use super::link::RemoteLink;
use crate::ReplicationError;
use crate::error::InRegion as _;
use gitferry_engine::ledger::head::State;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_git::refname::{check_remote_name, check_repository_name};
use gitferry_store::table::{Query, TableError};

impl RemoteLink {
    /// Names of the repositories for a pass: those in `names`, or all known ones if `names` is empty.
    pub async fn names_of(&self, names: &[String]) -> Result<Vec<String>, ReplicationError> {
        let mut all = match &self.source {
            Endpoint::Region(region) => self.names_in(region, names).await?,
            Endpoint::Remote(_) if names.is_empty() => self.known_names().await?,
            Endpoint::Remote(_) => names.to_vec(),
        };
        let mut seen = HashSet::new();
        all.retain(|name| seen.insert(name.clone()));
        if all.is_empty() && matches!(self.source, Endpoint::Remote(_)) {
            return Err(ReplicationError::NoNames { link: self.name.clone(), remote: self.source.name().into() });
        }
        match all.iter().find(|name| !self.carries(name)) {
            Some(name) => Err(self.not_on_link(name)),
            None => Ok(all),
        }
    }

    /// Known repositories of a remote, which cannot be listed: those that the configuration names in full, and those
    /// with a row in the link's table.
    pub async fn known_names(&self) -> Result<Vec<String>, ReplicationError> {
        let mut names = self.names.clone();
        let Some(table) = &self.table else { return Ok(names) };
        let mut query = Query::prefix(keys::link_partition(&self.name), keys::REMOTE_LINK_PREFIX);
        loop {
            let page = table.query(&query).await.map_err(|error| self.table_failed(error))?;
            let carried = page.keys().filter_map(|key| key.sk.strip_prefix(keys::REMOTE_LINK_PREFIX));
            names.extend(carried.filter(|name| self.carries(name)).map(str::to_owned));
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(names),
            }
        }
    }

    /// Current names of repositories in a region: of those in `names` (names or ids), or of all on the link.
    async fn names_in(&self, region: &Region, names: &[String]) -> Result<Vec<String>, ReplicationError> {
        if names.is_empty() {
            let heads = region.repositories().heads().await.in_region(region)?;
            // Unreadable repositories fail in their own deliveries, and stop no other.
            let unreadable = heads.unreadable.into_iter().filter_map(|unreadable| unreadable.name);
            let visible = heads.items.into_iter().map(|item| item.head);
            let visible = visible.filter(|head| head.named && head.state != State::Deleted).map(|head| head.name);
            return Ok(visible.chain(unreadable).filter(|name| self.carries(name)).collect());
        }
        let mut found = Vec::new();
        for name in names {
            let item =
                region.repositories().find(name).await.in_region(region)?.ok_or_else(|| self.not_on_link(name))?;
            found.push(item.head.name);
        }
        Ok(found)
    }

    fn not_on_link(&self, name: &str) -> ReplicationError {
        ReplicationError::NotOnLink { name: name.into(), region: self.source.name().into(), link: self.name.clone() }
    }

    /// Returns true if the configuration names this repository in full.
    pub fn names_in_full(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Returns true if the link mirrors a repository of this name.
    pub fn carries(&self, name: &str) -> bool {
        let regions = self.source.region().or(self.target.region()).or(self.via.as_ref());
        let checked = match regions {
            Some(_) => check_repository_name(name),
            None => check_remote_name(name),
        };
        self.repositories.is_match(name) && checked.is_ok()
    }
}

impl RemoteLink {
    /// An error of the link's table, with the region or link to which the table belongs.
    pub fn table_failed(&self, error: TableError) -> ReplicationError {
        let region = self.target.region().or(self.source.region()).map(|region| region.name().to_owned());
        let region = region.unwrap_or_else(|| format!("link {}", self.name));
        ReplicationError::Region { region, error: error.into() }
    }
}
