//! One pass over a link: find what differs, deliver it, many repositories at a time.

use std::collections::BTreeSet;
use std::time::Instant;

use futures::{StreamExt as _, stream};
use serde::Serialize;

use super::deliver::{Delivered, Link};
use super::error::{InRegion as _, ReplicationError};
use super::remotes::report::{Carried, Outcome};
use crate::Kind;
use crate::ledger::advance::read_heads;
use crate::ledger::head::{HeadItem, RepositoryId, State};
use crate::retry::Attempts;

/// Repositories that a pass works on at a time, unless told otherwise.
pub const DEFAULT_JOBS: usize = 4;
/// Most repositories that a pass works on at a time.
pub const MAX_JOBS: usize = 64;

/// A repository on a link, as both sides have it.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The source's head.
    pub source: HeadItem,
    /// The target's head.
    pub target: Option<HeadItem>,
}

impl Pair {
    /// Whether source and target are in the same state.
    pub fn is_equal(&self) -> bool {
        let target = self.target.as_ref().map(|item| item.head.frontier);
        target == Some(self.source.head.frontier)
    }

    /// Deleted before the target ever had it: there is nothing to deliver.
    pub fn is_void(&self) -> bool {
        self.target.is_none() && self.source.head.state == State::Deleted
    }
}

/// What became of one repository in a pass.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Which repository.
    pub repository: String,
    /// Its id, where the source is a region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<RepositoryId>,
    /// What was delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Delivered>,
    /// What was done on a link with a remote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
    /// Attempts that failed before.
    pub retries: u32,
    /// Why it failed for good.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub error: Option<ReplicationError>,
    /// Whether it is gone at the source, a remote, as far as that can be known.
    #[serde(skip)]
    pub gone: bool,
}

fn as_text<S: serde::Serializer>(error: &Option<ReplicationError>, serializer: S) -> Result<S::Ok, S::Error> {
    match error {
        Some(error) => serializer.collect_str(error),
        None => serializer.serialize_none(),
    }
}

/// What a pass came to.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// The link.
    pub link: String,
    /// Repositories on it.
    pub repositories: u64,
    /// Those that were in the same state on both sides.
    pub unchanged: u64,
    /// Those that were brought up to date.
    pub delivered: u64,
    /// Those that failed.
    pub failed: u64,
    /// Changes applied.
    pub changes: u64,
    /// Ref edits applied.
    pub edits: u64,
    /// Packs copied.
    pub packs: u64,
    /// LFS objects copied.
    pub lfs_objects: u64,
    /// Bytes that were really copied by this pass.
    pub bytes_copied: u64,
    /// Refs that targets refused.
    pub refused: u64,
    /// The largest lag of a delivered repository, in milliseconds.
    pub max_lag_ms: i64,
    /// How long the pass took, in milliseconds.
    pub elapsed_ms: u64,
    /// One entry per repository that was delivered or failed.
    pub reports: Vec<Report>,
    /// All repositories that it looked at.
    #[serde(skip)]
    pub ids: Vec<RepositoryId>,
}

impl Link {
    /// All repositories that the link carries, or those of them that are named (by name or id).
    pub async fn pairs(&self, names: &[String]) -> Result<Vec<Pair>, ReplicationError> {
        let sources = match names {
            [] => self.source.heads().await.in_region(&self.source)?,
            names => self.named(names).await?,
        };
        let ids: Vec<RepositoryId> = sources.iter().map(|item| item.id).collect();
        let targets = read_heads(&*self.target.table, &ids).await.in_region(&self.target)?;
        let pairs = sources.into_iter().zip(targets).map(|(source, target)| Pair { source, target });
        let (carried, others): (Vec<Pair>, Vec<Pair>) =
            pairs.partition(|pair| self.carries(&pair.source.head, pair.target.as_ref()));
        match others.first() {
            Some(other) if !names.is_empty() => Err(self.not_on_link(&other.source.head.name)),
            _ => Ok(carried.into_iter().filter(|pair| !pair.is_void()).collect()),
        }
    }

    /// Those of some repositories of the source that the link carries: one batched read on either side.
    pub async fn pairs_of(&self, ids: &[RepositoryId]) -> Result<Vec<Pair>, ReplicationError> {
        let (sources, targets) =
            futures::join!(read_heads(&*self.source.table, ids), read_heads(&*self.target.table, ids));
        let (sources, targets) = (sources.in_region(&self.source)?, targets.in_region(&self.target)?);
        let pairs =
            sources.into_iter().zip(targets).filter_map(|(source, target)| Some(Pair { source: source?, target }));
        Ok(pairs.filter(|pair| self.carries(&pair.source.head, pair.target.as_ref()) && !pair.is_void()).collect())
    }

    fn not_on_link(&self, name: &str) -> ReplicationError {
        let (region, link) = (self.source.name.clone(), self.name.clone());
        ReplicationError::NotOnLink { name: name.into(), region, link }
    }

    /// The heads of some repositories of the source, each once.
    async fn named(&self, names: &[String]) -> Result<Vec<HeadItem>, ReplicationError> {
        let mut found: Vec<HeadItem> = Vec::new();
        for name in names {
            let item = self.source.find(name).await.in_region(&self.source)?;
            let item = item.ok_or_else(|| self.not_on_link(name))?;
            if found.iter().all(|other| other.id != item.id) {
                found.push(item);
            }
        }
        Ok(found)
    }

    /// Delivers everything that differs, `jobs` repositories at a time.
    pub async fn pass(&self, names: &[String], jobs: usize) -> Result<Summary, ReplicationError> {
        let start = Instant::now();
        let pairs = self.pairs(names).await?;
        let mut summary = Summary { link: self.name.clone(), repositories: pairs.len() as u64, ..Summary::default() };
        let (equal, different): (Vec<Pair>, Vec<Pair>) = pairs.into_iter().partition(Pair::is_equal);
        summary.unchanged = equal.len() as u64;
        summary.ids = equal.iter().chain(&different).map(|pair| pair.source.id).collect();
        self.progress.repositories.add(summary.repositories);
        self.progress.repositories_done.add(summary.unchanged);
        let mut touched: BTreeSet<RepositoryId> =
            equal.iter().filter_map(|pair| pair.target.as_ref()).filter(|t| waits_for_name(t)).map(|t| t.id).collect();
        let mut reports = stream::iter(different)
            .map(|pair| self.deliver_with_retries(pair.source))
            .buffer_unordered(jobs.clamp(1, MAX_JOBS));
        while let Some(report) = reports.next().await {
            self.progress.repositories_done.add(1);
            touched.extend(report.id);
            summary.add(report);
        }
        self.claim_released_names(touched).await?;
        summary.bytes_copied = self.progress.bytes_copied.get();
        summary.elapsed_ms = start.elapsed().as_millis() as u64;
        Ok(summary)
    }

    /// Names that changed hands: the new holder may have been delivered before the old one let go.
    async fn claim_released_names(&self, touched: BTreeSet<RepositoryId>) -> Result<(), ReplicationError> {
        if touched.is_empty() {
            return Ok(());
        }
        let ids: Vec<RepositoryId> = touched.into_iter().collect();
        let heads = read_heads(&*self.target.table, &ids).await.in_region(&self.target)?;
        let waiting = heads.into_iter().flatten().filter(waits_for_name).collect();
        self.claim_names(waiting).await.map(drop)
    }

    async fn deliver_with_retries(&self, source: HeadItem) -> Report {
        let id = source.id;
        let report = Report { repository: source.head.name, id: Some(id), ..Report::default() };
        let mut attempts = Attempts::default();
        loop {
            match self.deliver(id).await {
                Ok(delivered) => {
                    return Report { delivered, retries: attempts.failed(), ..report };
                }
                Err(error) => {
                    if attempts.again(error.kind()).await {
                        tracing::info!(%error, repository = report.repository, "trying again");
                        continue;
                    }
                    self.note_failure(id, &error).await;
                    let retries = attempts.failed().saturating_sub(1);
                    return Report { retries, error: Some(error), ..report };
                }
            }
        }
    }
}

fn waits_for_name(item: &HeadItem) -> bool {
    !item.head.named && item.head.state != State::Deleted
}

impl Summary {
    /// Takes in what became of one repository.
    pub(super) fn add(&mut self, report: Report) {
        if let Some(carried) = &report.carried {
            self.edits += carried.edits();
            self.packs += carried.packs;
            self.refused += carried.refused;
        }
        match (&report.delivered, &report.error) {
            (None, None) if report.carried.as_ref().is_some_and(Carried::has_changed) => self.delivered += 1,
            (Some(delivered), _) => {
                self.delivered += 1;
                self.changes += delivered.changes;
                self.edits += delivered.edits;
                self.packs += delivered.packs;
                self.lfs_objects += delivered.lfs_objects;
                self.max_lag_ms = self.max_lag_ms.max(delivered.lag_ms);
            }
            (None, Some(_)) => self.failed += 1,
            // Another worker was faster.
            (None, None) => self.unchanged += 1,
        }
        if report.delivered.is_some() || report.carried.is_some() || report.error.is_some() {
            self.reports.push(report);
        }
    }

    /// The kinds of all failures.
    pub fn failures(&self) -> impl Iterator<Item = Kind> + '_ {
        self.reports.iter().filter_map(|report| report.error.as_ref()).map(ReplicationError::kind)
    }

    /// Whether any repository has two histories, and they were left alone.
    pub fn found_difference(&self) -> bool {
        let forked = |report: &Report| matches!(report.error, Some(ReplicationError::Fork { .. }));
        let diverged = |report: &Report| report.carried.as_ref().is_some_and(|c| c.notes.has(Outcome::Diverged));
        self.reports.iter().any(|report| forked(report) || diverged(report))
    }
}
