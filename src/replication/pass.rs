//! One pass over a link: compares all frontiers and delivers the repositories that differ, several at a time.

use std::time::Instant;

use futures::{StreamExt as _, stream};
use serde::Serialize;

use super::error::ReplicationError;
use super::link::{Delivered, Link};
use super::mirror::report::{MirrorOutcome, NoteKind};
use super::pairs::{Broken, Pair, Pairs};
use gitferry_base::Kind;
use gitferry_base::retry::Attempts;
use gitferry_engine::ledger::head::{HeadItem, RepositoryId};

/// Default number of repositories that a pass delivers at a time.
pub const DEFAULT_JOBS: usize = 4;
/// Maximum number of repositories that a pass delivers at a time.
pub const MAX_JOBS: usize = 64;

/// Outcome of a pass for one repository.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Name of the repository.
    pub repository: String,
    /// Id of the repository, if the source is a region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<RepositoryId>,
    /// Outcome of a delivery between regions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Delivered>,
    /// Outcome on a link with a remote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<MirrorOutcome>,
    /// Failed attempts before the last one.
    pub retries: u32,
    /// Error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub error: Option<ReplicationError>,
    /// True if the source, a remote, answered that there is no such repository, or none that the credentials may see.
    #[serde(skip)]
    pub gone: bool,
}

fn as_text<S: serde::Serializer>(error: &Option<ReplicationError>, serializer: S) -> Result<S::Ok, S::Error> {
    match error {
        Some(error) => serializer.collect_str(error),
        None => serializer.serialize_none(),
    }
}

/// Outcome of a pass over a link.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Name of the link.
    pub link: String,
    /// Repositories on the link.
    pub repositories: u64,
    /// Repositories that were equal at both sides.
    pub unchanged: u64,
    /// Repositories that were brought up to date.
    pub delivered: u64,
    /// Repositories that failed.
    pub failed: u64,
    /// Changes applied.
    pub changes: u64,
    /// Ref edits applied.
    pub edits: u64,
    /// Packs copied.
    pub packs: u64,
    /// LFS objects copied.
    pub lfs_objects: u64,
    /// Bytes that this pass copied; without those that an earlier attempt had copied.
    pub bytes_copied: u64,
    /// Refs that targets refused.
    pub refused: u64,
    /// Largest lag of a delivered repository in milliseconds.
    #[serde(rename = "max_lag_seconds", serialize_with = "gitferry_base::text::millis_as_seconds")]
    pub max_lag_ms: i64,
    /// Duration of the pass in milliseconds.
    #[serde(rename = "elapsed_seconds", serialize_with = "gitferry_base::text::millis_as_seconds")]
    pub elapsed_ms: i64,
    /// One entry per repository that was delivered or failed.
    pub reports: Vec<Report>,
    /// Ids of all repositories that the pass compared.
    #[serde(skip)]
    pub ids: Vec<RepositoryId>,
}

impl Link {
    /// Delivers every repository that differs, `jobs` at a time, at most [`MAX_JOBS`].
    pub async fn pass(&self, names: &[String], jobs: usize) -> Result<Summary, ReplicationError> {
        let start = Instant::now();
        let Pairs { sound, broken } = self.pairs(names).await?;
        let repositories = (sound.len() + broken.len()) as u64;
        let mut summary = Summary { link: self.name.clone(), repositories, ..Summary::default() };
        let (settled, different): (Vec<Pair>, Vec<Pair>) = sound.into_iter().partition(Pair::is_settled);
        summary.unchanged = settled.len() as u64;
        summary.ids = settled.iter().chain(&different).map(|pair| pair.source.id).collect();
        for Broken { id, repository, error } in broken {
            let id: Option<RepositoryId> = id.parse().ok();
            if let Some(id) = id {
                self.note_failure(id, &error).await;
            }
            self.progress.repositories_done.add(1);
            summary.add(Report { repository, id, error: Some(error), ..Report::default() });
        }
        self.progress.repositories.add(summary.repositories);
        self.progress.repositories_done.add(summary.unchanged);
        let mut reports = stream::iter(different)
            .map(|pair| self.deliver_with_retries(pair.source))
            .buffer_unordered(jobs.clamp(1, MAX_JOBS));
        while let Some(report) = reports.next().await {
            self.progress.repositories_done.add(1);
            summary.add(report);
        }
        summary.bytes_copied = self.progress.bytes_copied.get();
        summary.elapsed_ms = start.elapsed().as_millis() as i64;
        Ok(summary)
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

impl Summary {
    /// Adds the outcome for one repository.
    pub(super) fn add(&mut self, report: Report) {
        if let Some(carried) = &report.carried {
            self.edits += carried.edits();
            self.packs += carried.packs;
            self.refused += carried.refused;
        }
        match (&report.delivered, &report.error) {
            (None, None) if report.carried.as_ref().is_some_and(MirrorOutcome::has_changed) => self.delivered += 1,
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

    /// Kinds of all failures.
    pub fn failures(&self) -> impl Iterator<Item = Kind> + '_ {
        self.reports.iter().filter_map(|report| report.error.as_ref()).map(ReplicationError::kind)
    }

    /// Returns true if any repository has two histories, which the pass left alone.
    pub fn found_difference(&self) -> bool {
        let forked = |report: &Report| matches!(report.error, Some(ReplicationError::Fork { .. }));
        let diverged = |report: &Report| report.carried.as_ref().is_some_and(|c| c.notes.has(NoteKind::Diverged));
        self.reports.iter().any(|report| forked(report) || diverged(report))
    }
}
