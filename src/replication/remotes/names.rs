//! Which repositories a link with a remote carries, as far as they can be known.

use std::collections::HashSet;

use super::endpoint::Endpoint;
use super::pass::RemoteLink;
use crate::ReplicationError;
use crate::error::InRegion as _;
use gitferry_engine::ledger::head::State;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_git::refname::{check_remote_name, check_repository_name};
use gitferry_store::table::Query;

impl RemoteLink {
    /// The names of the repositories that a pass is to look at: those asked for, those that are known, or, from a region,
    /// all that it carries.
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

    /// The repositories of a remote that are known, which cannot be listed: those that the link names in full, and those
    /// that it has carried before, of which its table tells.
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

    /// The names that repositories of a region have now: of those that are named, by name or id, or of all on the link.
    async fn names_in(&self, region: &Region, names: &[String]) -> Result<Vec<String>, ReplicationError> {
        if names.is_empty() {
            let heads = region.heads().await.in_region(region)?;
            // Those that cannot be read fail when they are carried, each for itself.
            let unreadable = heads.unreadable.into_iter().filter_map(|unreadable| unreadable.name);
            let visible = heads.items.into_iter().map(|item| item.head);
            let visible = visible.filter(|head| head.named && head.state != State::Deleted).map(|head| head.name);
            return Ok(visible.chain(unreadable).filter(|name| self.carries(name)).collect());
        }
        let mut found = Vec::new();
        for name in names {
            let item = region.find(name).await.in_region(region)?.ok_or_else(|| self.not_on_link(name))?;
            found.push(item.head.name);
        }
        Ok(found)
    }

    fn not_on_link(&self, name: &str) -> ReplicationError {
        ReplicationError::NotOnLink { name: name.into(), region: self.source.name().into(), link: self.name.clone() }
    }

    /// Whether the configuration names this repository in full.
    pub fn names_in_full(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Whether it carries a repository of this name.
    pub fn carries(&self, name: &str) -> bool {
        let regions = self.source.region().or(self.target.region()).or(self.via.as_ref());
        let checked = match regions {
            Some(_) => check_repository_name(name),
            None => check_remote_name(name),
        };
        self.repositories.is_match(name) && checked.is_ok()
    }
}
