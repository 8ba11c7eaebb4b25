//! Divergence between the two sides of a link, in words for operators.

use super::error::{InRegion as _, ReplicationError};
use super::link::Link;
use super::pairs::Pair;
use super::plan::{Standing, standing};
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::head::{Frontier, HeadItem, RepositoryId, Role};
use gitferry_engine::ledger::heads::read_heads;
use gitferry_engine::ledger::log::read_chain;

impl Link {
    /// Describes each difference between source and target; empty where they are identical. A frontier hashes all of
    /// history, so equal frontiers mean equal refs and packs.
    pub async fn differences(&self, pair: &Pair) -> Result<Vec<String>, ReplicationError> {
        let source = &pair.source.head;
        let name = &source.name;
        let Some(target) = &pair.target else {
            return Ok(vec![format!("{name} is not in the target yet; `gitferry replicate {}` copies it", self.name)]);
        };
        Ok(match standing(source, Some(&target.head)) {
            Standing::Equal if source.refs_hash != target.head.refs_hash => {
                vec![format!("{name} has the same ledger but other refs in the target: the target's head is damaged")]
            }
            Standing::Equal if target.head.name != *name => {
                vec![format!(
                    "{name} has the same ledger but the name {} in the target: the target's head is damaged",
                    target.head.name
                )]
            }
            Standing::Equal if pair.waits_for_name() => {
                let id = target.id;
                let region = self.target.name();
                vec![match self.name_conflict(target).await? {
                    Some(reason) => format!("{name}: fork: {reason}"),
                    None => {
                        format!(
                            "{name}: another repository of {region} holds this name; the replica is reachable as {id}"
                        )
                    }
                }]
            }
            Standing::Equal => Vec::new(),
            Standing::Ahead => vec![self.ahead(pair).await?],
            Standing::Diverged(reason) => vec![format!("{name}: fork: {reason}")],
            Standing::Behind(from) => vec![self.behind(pair, from).await?],
        })
    }

    /// Describes the repositories that this link delivered and that its source does not have: the source was rolled
    /// back.
    pub async fn strays(&self) -> Result<Vec<String>, ReplicationError> {
        let mut delivered = self.target.repositories().heads().await.in_region(&self.target)?.items;
        delivered.retain(|item| item.head.fed_by.as_ref() == Some(&self.name));
        let ids: Vec<RepositoryId> = delivered.iter().map(|item| item.id).collect();
        let sources = read_heads(self.source.table(), &ids).await.in_region(&self.source)?;
        let lost = delivered.iter().zip(sources).filter(|(_, source)| matches!(source, Ok(None)));
        let source = self.source.name();
        let target = self.target.name();
        let text =
            |item: &HeadItem| format!("{}: it is in {target}, but not in {source} (id {})", item.head.name, item.id);
        Ok(lost.map(|(item, _)| text(item)).collect())
    }

    /// Describes the repositories of which the target has changes that their source, a primary, lacks: the source was
    /// lost, or rolled back together with its object store. `of` restricts the comparison to one name or id.
    pub async fn lost_at_source(&self, of: Option<&str>) -> Result<Vec<String>, ReplicationError> {
        let mut delivered = match of {
            None => self.target.repositories().heads().await.in_region(&self.target)?.items,
            Some(name) => self.replicas_of(name).await?,
        };
        delivered.retain(|item| item.head.fed_by.as_ref() == Some(&self.name) && item.head.role == Role::Replica);
        let ids: Vec<RepositoryId> = delivered.iter().map(|item| item.id).collect();
        let sources = read_heads(self.source.table(), &ids).await.in_region(&self.source)?;
        let lost = |target: &HeadItem, source: Option<&HeadItem>| {
            let name = &target.head.name;
            let there = target.head.frontier;
            match source.map(|item| &item.head) {
                None => Some(format!("{name} (all of it)")),
                Some(head)
                    if head.role == Role::Primary && head.frontier.seq <= there.seq && head.frontier != there =>
                {
                    Some(format!("{name} (it is at change {}, the replica at {})", head.frontier.seq, there.seq))
                }
                Some(_) => None,
            }
        };
        // A head that cannot be read is an error for the caller that uses it.
        let read = delivered.iter().zip(sources).filter_map(|(item, source)| Some((item, source.ok()?)));
        Ok(read.filter_map(|(item, source)| lost(item, source.as_ref())).collect())
    }

    /// Replicas in the target that a name or id denotes at either side.
    async fn replicas_of(&self, name: &str) -> Result<Vec<HeadItem>, ReplicationError> {
        let mut found: Vec<HeadItem> =
            self.target.repositories().find(name).await.in_region(&self.target)?.into_iter().collect();
        if let Some(item) = self.source.repositories().find(name).await.in_region(&self.source)?
            && found.iter().all(|other| other.id != item.id)
        {
            let replica = read_heads(self.target.table(), &[item.id]).await.in_region(&self.target)?;
            found.extend(replica.into_iter().filter_map(Result::ok).flatten());
        }
        Ok(found)
    }

    /// Reads the source's chain from `from` on: a target with a lower seq may still be on another chain.
    async fn behind(&self, pair: &Pair, from: Frontier) -> Result<String, ReplicationError> {
        let name = &pair.source.head.name;
        let to = pair.source.head.frontier;
        match read_chain(self.source.table(), pair.source.id, from, to).await {
            Ok(_) => {
                let link = &self.name;
                Ok(format!(
                    "{name}: the target is at change {}, the source at {}; `gitferry replicate {link}` copies the rest",
                    from.seq, to.seq
                ))
            }
            Err(LedgerError::Fork { at, .. }) => {
                Ok(format!("{name}: fork: the target is at {at}, which the source has never been"))
            }
            Err(LedgerError::Corrupt(reason)) => Ok(format!("{name}: the source's ledger is damaged: {reason}")),
            Err(error) => Err(error).in_region(&self.source),
        }
    }

    async fn ahead(&self, pair: &Pair) -> Result<String, ReplicationError> {
        let name = &pair.source.head.name;
        Ok(match self.fork_ahead(&pair.source, pair.target.as_ref()).await? {
            Some(reason) => format!("{name}: fork: {reason}"),
            None => format!(
                "{name}: the target is ahead of {}, itself a replica: another link delivered first",
                self.source.name()
            ),
        })
    }

    /// Returns the reason why a target with a higher seq is on another chain than its source, a replica; `None` where
    /// the target's chain runs through the source's frontier.
    pub(super) async fn fork_ahead(
        &self,
        source: &HeadItem,
        target: Option<&HeadItem>,
    ) -> Result<Option<String>, ReplicationError> {
        let (from, Some(target)) = (source.head.frontier, target) else { return Ok(None) };
        match read_chain(self.target.table(), source.id, from, target.head.frontier).await {
            Ok(_) => Ok(None),
            Err(LedgerError::Fork { at, .. }) => {
                Ok(Some(format!("the source is at {at}, which the target has never been")))
            }
            Err(error) => Err(error).in_region(&self.target),
        }
    }
}
