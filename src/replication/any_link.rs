//! A link, whatever is at its ends.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::ReplicationError;
use super::deliver::Link;
use super::progress::Progress;
use super::remotes::{Endpoint, RemoteLink};
use gitferry_base::clock::Clock;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::Region;
use gitferry_store::table::{Table, TableError};

/// A link that is open.
#[derive(Clone, Debug)]
pub enum AnyLink {
    /// From a region to a region.
    Regions(Box<Link>),
    /// With a remote at one end.
    Remote(Box<RemoteLink>),
}

/// Which repository of a link. Regions know theirs by an id that outlives the name; a remote knows only the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Which {
    /// One of a region, which is the source.
    Id(RepositoryId),
    /// One of a remote, which is the source.
    Name(Arc<str>),
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Id(id) => id.fmt(f),
            Which::Name(name) => name.fmt(f),
        }
    }
}

impl From<Link> for AnyLink {
    fn from(link: Link) -> Self {
        AnyLink::Regions(Box::new(link))
    }
}

impl From<RemoteLink> for AnyLink {
    fn from(link: RemoteLink) -> Self {
        AnyLink::Remote(Box::new(link))
    }
}

impl AnyLink {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            AnyLink::Regions(link) => &link.name,
            AnyLink::Remote(link) => &link.name,
        }
    }

    /// What a pass over it has done.
    pub fn progress(&self) -> Arc<Progress> {
        match self {
            AnyLink::Regions(link) => link.progress.clone(),
            AnyLink::Remote(link) => link.progress.clone(),
        }
    }

    /// Where it takes the time from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        match self {
            AnyLink::Regions(link) => &link.target.clock,
            AnyLink::Remote(link) => &link.clock,
        }
    }

    /// The source, where it is a region.
    pub fn source_region(&self) -> Option<&Region> {
        match self {
            AnyLink::Regions(link) => Some(&link.source),
            AnyLink::Remote(link) => link.source.region(),
        }
    }

    /// The target, where it is a region.
    pub fn target_region(&self) -> Option<&Region> {
        match self {
            AnyLink::Regions(link) => Some(&link.target),
            AnyLink::Remote(link) => link.target.region(),
        }
    }

    /// The Git servers at its ends, each once: scheme, host and port. Regions are none.
    pub fn servers(&self) -> Vec<String> {
        let AnyLink::Remote(link) = self else { return Vec::new() };
        let ends = [&link.source, &link.target].into_iter().filter_map(|end| match end {
            Endpoint::Region(_) => None,
            Endpoint::Remote(remote) => Some(remote.server()),
        });
        ends.collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// Where it keeps what is due, if anywhere.
    pub fn table(&self) -> Option<&Arc<dyn Table>> {
        match self {
            AnyLink::Regions(link) => Some(&link.target.table),
            AnyLink::Remote(link) => link.table.as_ref(),
        }
    }

    /// That table failed.
    pub fn table_failed(&self, error: TableError) -> ReplicationError {
        match self {
            AnyLink::Regions(link) => {
                ReplicationError::Region { region: link.target.name.clone(), error: error.into() }
            }
            AnyLink::Remote(link) => link.table_failed(error),
        }
    }
}

impl RemoteLink {
    /// The table where it keeps what is due failed.
    pub fn table_failed(&self, error: TableError) -> ReplicationError {
        let region = self.target.region().or(self.source.region()).map(|region| region.name.clone());
        let region = region.unwrap_or_else(|| format!("link {}", self.name));
        ReplicationError::Region { region, error: error.into() }
    }
}
