//! Repositories of a link with their heads at both sides. A repository that cannot be read at one side is reported and
//! does not affect the others.

use super::error::{InRegion as _, ReplicationError};
use super::link::Link;
use gitferry_base::Kind;
use gitferry_engine::ledger::head::{Head, HeadItem, RepositoryId, State};
use gitferry_engine::ledger::heads::{HeadRead, read_heads};
use gitferry_engine::region::{Region, RegionError, Unreadable};

/// Heads of one repository at both sides of a link.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Head in the source.
    pub source: HeadItem,
    /// Head in the target; `None` if the repository was never delivered.
    pub target: Option<HeadItem>,
}

/// A repository that cannot be compared, as its head cannot be read at one side.
#[derive(Debug)]
pub struct Broken {
    /// Id of the repository, or the raw entry if a region's listing is damaged.
    pub id: String,
    /// Name of the repository, or its id if no name is known.
    pub repository: String,
    /// Cause.
    pub error: ReplicationError,
}

/// All repositories that a link carries.
#[derive(Debug, Default)]
pub struct Pairs {
    /// Repositories that can be read at both sides.
    pub sound: Vec<Pair>,
    /// Repositories that cannot.
    pub broken: Vec<Broken>,
}

impl Pair {
    /// Returns true if source and target have the same frontier. Another repository may still hold the target's name:
    /// see [`Pair::is_settled`].
    pub fn is_equal(&self) -> bool {
        let target = self.target.as_ref().map(|item| item.head.frontier);
        target == Some(self.source.head.frontier)
    }

    /// Returns true if nothing is left to deliver: equal frontiers, and the target has its name.
    pub fn is_settled(&self) -> bool {
        self.is_equal() && !self.waits_for_name()
    }

    /// Returns true if another repository holds the name at the target. The replica is reachable by its id until then.
    pub fn waits_for_name(&self) -> bool {
        self.target.as_ref().is_some_and(|item| waits_for_name(&item.head))
    }

    /// Returns true if the source was deleted before the target ever had the repository: there is nothing to deliver.
    pub fn is_void(&self) -> bool {
        self.target.is_none() && self.source.head.state == State::Deleted
    }
}

/// Returns true for a replica whose name another repository holds.
pub(super) fn waits_for_name(head: &Head) -> bool {
    !head.named && head.state != State::Deleted
}

impl Broken {
    fn of(unreadable: Unreadable, region: &Region, name: Option<&str>) -> Self {
        let repository = name.unwrap_or(unreadable.label()).to_owned();
        let error = ReplicationError::Region { region: region.name().to_owned(), error: unreadable.error };
        Broken { id: unreadable.id, repository, error }
    }

    /// Returns the id, or `None` if the damage is in a listing.
    pub fn repository_id(&self) -> Option<RepositoryId> {
        self.id.parse().ok()
    }
}

impl Pairs {
    /// Repositories that need a delivery: different frontiers, a missing name, or an unreadable head, whose delivery
    /// records the error.
    pub fn unsettled(&self) -> impl Iterator<Item = RepositoryId> + '_ {
        let different = self.sound.iter().filter(|pair| !pair.is_settled()).map(|pair| pair.source.id);
        different.chain(self.broken.iter().filter_map(Broken::repository_id))
    }
}

impl Link {
    /// Reads all repositories that the link carries, or only those in `names` (names or ids).
    pub async fn pairs(&self, names: &[String]) -> Result<Pairs, ReplicationError> {
        if !names.is_empty() {
            return self.named_pairs(names).await;
        }
        let heads = self.source.repositories().heads().await.in_region(&self.source)?;
        let mut pairs = Pairs::default();
        let ids = heads.items.iter().map(|item| Ok(item.id));
        let broken = heads.unreadable.iter().map(|unreadable| unreadable.id.parse().map_err(drop));
        let ids: Vec<Result<RepositoryId, ()>> = ids.chain(broken).collect();
        let wanted: Vec<RepositoryId> = ids.iter().filter_map(|id| id.ok()).collect();
        let targets = read_heads(self.target.table(), &wanted).await.in_region(&self.target)?;
        assert_eq!(targets.len(), wanted.len(), "read_heads returns one result for each id");
        let mut targets = targets.into_iter();
        let sources = heads.items.into_iter().map(Ok).chain(heads.unreadable.into_iter().map(Err));
        for (source, id) in sources.zip(ids) {
            let target = if id.is_ok() { targets.next().unwrap_or(Ok(None)) } else { Ok(None) };
            pairs.add(self, source, target);
        }
        Ok(pairs)
    }

    /// Reads the given repositories, which the source lists: one batched read at either side.
    pub async fn pairs_of(&self, ids: &[RepositoryId]) -> Result<Pairs, ReplicationError> {
        let (sources, targets) =
            futures::join!(read_heads(self.source.table(), ids), read_heads(self.target.table(), ids));
        let sources = sources.in_region(&self.source)?;
        let targets = targets.in_region(&self.target)?;
        assert_eq!((sources.len(), targets.len()), (ids.len(), ids.len()), "read_heads returns one result for each id");
        let mut pairs = Pairs::default();
        for ((id, source), target) in ids.iter().zip(sources).zip(targets) {
            let source = match source {
                Ok(Some(item)) => Ok(item),
                Ok(None) => Err(Unreadable::without_head(*id)),
                Err(error) => Err(Unreadable::head(*id, error)),
            };
            pairs.add(self, source, target);
        }
        Ok(pairs)
    }

    /// Reads the named repositories, each once. Fails for all of them if the link does not carry one of the names.
    async fn named_pairs(&self, names: &[String]) -> Result<Pairs, ReplicationError> {
        let mut found: Vec<HeadItem> = Vec::new();
        let mut pairs = Pairs::default();
        for name in names {
            match self.source.repositories().find(name).await {
                Ok(Some(item)) if found.iter().any(|other| other.id == item.id) => {}
                Ok(Some(item)) => found.push(item),
                Ok(None) => return Err(self.not_on_link(name)),
                Err(error) if error.kind() == Kind::Corrupt => {
                    let id = match &error {
                        RegionError::Ledger(gitferry_engine::ledger::LedgerError::BadHead { id, .. }) => id.to_string(),
                        _ => name.clone(),
                    };
                    pairs.broken.push(Broken::of(Unreadable { id, name: None, error }, &self.source, Some(name)));
                }
                Err(error) => return Err(error).in_region(&self.source),
            }
        }
        let ids: Vec<RepositoryId> = found.iter().map(|item| item.id).collect();
        let targets = read_heads(self.target.table(), &ids).await.in_region(&self.target)?;
        assert_eq!(targets.len(), found.len(), "read_heads returns one result for each id");
        for (source, target) in found.into_iter().zip(targets) {
            let fed = target.as_ref().ok().and_then(Option::as_ref);
            if target.is_ok() && !self.carries(&source.head, fed) {
                return Err(self.not_on_link(&source.head.name));
            }
            pairs.add(self, Ok(source), target);
        }
        Ok(pairs)
    }

    fn not_on_link(&self, name: &str) -> ReplicationError {
        let region = self.source.name().to_owned();
        let link = self.name.clone();
        ReplicationError::NotOnLink { name: name.into(), region, link }
    }
}

impl Pairs {
    /// Adds one repository, as read at both sides, if the link carries it. A repository without a known name is added,
    /// as the link may carry it.
    fn add(&mut self, link: &Link, source: Result<HeadItem, Unreadable>, target: HeadRead) {
        match (source, target) {
            (Ok(source), Ok(target)) => {
                let pair = Pair { source, target };
                if link.carries(&pair.source.head, pair.target.as_ref()) && !pair.is_void() {
                    self.sound.push(pair);
                }
            }
            (Ok(source), Err(error)) if link.repositories.is_match(&source.head.name) => {
                let unreadable = Unreadable::head(source.id, error);
                self.broken.push(Broken::of(unreadable, &link.target, Some(&source.head.name)));
            }
            (Ok(_), Err(_)) => {}
            (Err(source), target) => {
                let held = target.ok().flatten();
                let fed = held.as_ref().is_some_and(|item| item.head.fed_by.as_ref() == Some(&link.name));
                let name = source.name.clone().or_else(|| held.map(|item| item.head.name));
                if fed || name.as_ref().is_none_or(|name| link.repositories.is_match(name)) {
                    self.broken.push(Broken::of(source, &link.source, name.as_deref()));
                }
            }
        }
    }
}
