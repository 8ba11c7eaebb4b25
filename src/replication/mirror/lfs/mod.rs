//! Transfers Git LFS objects on links with a remote: all of them are at the target before any ref moves.
//!
//! The pointers in the new objects are found first (`find_pointers.rs`). The LFS objects that the target lacks flow
//! from the source's LFS server or region store into the target's (`ends.rs`). Afterwards the target is asked again,
//! and only its answer counts. Protocol: Git LFS Batch API.

mod ends;
mod find_pointers;

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use gix::hash::Kind as Format;
use serde::Serialize;
use tokio::runtime::Handle;

use self::ends::{Download, LfsEnd, Refusals, Upload};
pub use self::find_pointers::Spill;
use self::find_pointers::find_pointers;
use super::checkpoint::MAX_MISSING;
use super::ends::End;
use super::error::MirrorError;
use super::object_source::{ObjectSource, PackRequest};
use super::report::MirrorOutcome;
use crate::progress::Progress;
use gitferry_base::fault::crash_point;
use gitferry_base::retry::Attempts;
use gitferry_engine::region::push::{MAX_REPORTED_LFS, Missing};
use gitferry_git::lfs::{LfsOid, Pointer};
use gitferry_remote::lfs::{LfsError, MAX_BATCH_OBJECTS, MAX_REDIRECTS, checked};

/// LFS objects of one repository that flow at a time.
const OBJECTS_IN_FLIGHT: usize = 8;
/// Most bytes of commits, trees and small files that are searched for pointers, where the source is a region: the
/// limits of a remote have their own.
pub const MAX_SPILL_BYTES: u64 = 8 << 30;

/// Transfer of LFS objects to a target before its refs move.
pub trait LfsTransfer: Sync {
    /// Returns true if pointers are searched for in the whole history, and not only in new objects.
    fn scans_all_history(&self) -> bool;

    /// Objects that the last pass could not find at the source.
    fn still_missing(&self) -> &[Pointer];

    /// Transfers the LFS objects of the pointers in `wanted` (empty wants: none), and those that are still missing.
    /// Blocking.
    fn transfer(
        &self,
        object_source: &mut dyn ObjectSource,
        wanted: &PackRequest,
        format: Format,
        outcome: &mut MirrorOutcome,
    ) -> Result<(), MirrorError>;
}

/// Transfer between the two ends of a link, for one repository.
pub struct LfsTask {
    source: LfsEnd,
    target: LfsEnd,
    /// Fate of a pass whose objects are missing at the source.
    missing: Missing,
    scans_all_history: bool,
    still_missing: Vec<Pointer>,
    spill: Spill,
    progress: Arc<Progress>,
    runtime: Handle,
}

/// LFS objects that the next pass would find and transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LfsForecast {
    /// Objects that pointers in new objects name.
    pub objects: u64,
    /// Bytes of these objects.
    pub bytes: u64,
    /// Objects among them that the target lacks.
    pub lacking: u64,
    /// Bytes of the objects that the target lacks.
    pub lacking_bytes: u64,
}

/// Progress of a transfer.
#[derive(Default)]
struct Moved {
    objects: u64,
    bytes: u64,
    missing: Listed,
    refused: Listed,
}

/// A number of objects, with the first of them for messages.
#[derive(Default)]
struct Listed {
    count: u64,
    first: Vec<String>,
    /// At most [`MAX_MISSING`].
    pointers: Vec<Pointer>,
}

impl Listed {
    fn add(&mut self, pointer: Pointer, reason: Option<&str>) {
        self.count += 1;
        if self.pointers.len() < MAX_MISSING {
            self.pointers.push(pointer);
        }
        if self.first.len() < MAX_REPORTED_LFS {
            let Pointer { oid, size } = pointer;
            let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
            self.first.push(format!("{oid} ({size} bytes){reason}"));
        }
    }

    fn add_all(&mut self, refusals: Refusals) {
        refusals.iter().for_each(|(pointer, reason)| self.add(*pointer, Some(reason)));
    }

    fn text(&self) -> String {
        let named = self.first.join(", ");
        match self.count - self.first.len() as u64 {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    }
}

impl LfsTask {
    /// Transfer from `source` to `target`.
    pub fn new(
        (source, target): (&End, &End),
        missing: Missing,
        (scans_all_history, still_missing): (bool, Vec<Pointer>),
        actor: &str,
        progress: Arc<Progress>,
        runtime: Handle,
    ) -> Result<LfsTask, MirrorError> {
        let end = |end: &End| {
            let absent = || MirrorError::Internal("a region lacks the repository of the pass".into());
            LfsEnd::of(end, actor.into())?.ok_or_else(absent)
        };
        let spill = spill_of(source);
        let source = end(source)?;
        let target = end(target)?;
        Ok(LfsTask { source, target, missing, scans_all_history, still_missing, spill, progress, runtime })
    }

    /// Transfers all objects that the target lacks. Missing and refused objects are reported at the end, so that the
    /// report is complete and the other objects need not be sent again.
    async fn move_all(&self, pointers: &[Pointer], moved: &mut Moved) -> Result<(), MirrorError> {
        for some in pointers.chunks(MAX_BATCH_OBJECTS) {
            self.move_some(some, moved).await?;
            crash_point("lfs-moved");
            self.target.settle(some).await?;
            crash_point("lfs-settled");
        }
        Ok(())
    }

    /// Transfers the objects of one batch request, in rounds until the target lacks none of them.
    async fn move_some(&self, pointers: &[Pointer], moved: &mut Moved) -> Result<(), MirrorError> {
        let mut left = pointers.to_vec();
        let mut sent = HashSet::new();
        let mut attempts = Attempts::default();
        while !left.is_empty() {
            match self.round(&mut left, &mut sent, moved).await {
                Ok(()) => {}
                Err(error) if attempts.again(error.kind()).await => {
                    tracing::info!(%error, objects = left.len(), "retrying LFS objects");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One round: asks the target which objects of `left` it lacks, and sends these. Objects that the target has, that
    /// it refuses or that cannot be had are removed from `left`. Objects in `sent` stay until the target has them, or
    /// offers them for download.
    async fn round(
        &self,
        left: &mut Vec<Pointer>,
        sent: &mut HashSet<LfsOid>,
        moved: &mut Moved,
    ) -> Result<(), MirrorError> {
        let (mut lacks, refused) = self.target.find_lacking(left).await?;
        let again: Vec<Pointer> = lacks.iter().map(|(pointer, _)| *pointer).collect();
        let again: Vec<Pointer> = again.into_iter().filter(|pointer| sent.contains(&pointer.oid)).collect();
        let arrived = self.target.offers_download(&again).await?;
        lacks.retain(|(pointer, _)| !arrived.contains(&pointer.oid));
        *left = lacks.iter().map(|(pointer, _)| *pointer).collect();
        moved.refused.add_all(refused);
        // Objects that were lost may be sent again.
        if let Some(lost) = left.iter().filter(|pointer| sent.remove(&pointer.oid)).last() {
            return Err(MirrorError::LfsLost { target_url: self.target.url().into(), oid: lost.oid });
        }
        let (downloads, refused) = self.source.find_downloads(left).await?;
        let mut gone: HashSet<LfsOid> = refused.iter().map(|(pointer, _)| pointer.oid).collect();
        moved.missing.add_all(refused);
        let mut moves = Vec::with_capacity(lacks.len());
        for ((pointer, to), from) in lacks.into_iter().zip(downloads) {
            match from {
                Some(from) => moves.push(self.move_one(pointer, from, to)),
                None => {
                    if gone.insert(pointer.oid) {
                        moved.missing.add(pointer, None);
                    }
                }
            }
        }
        let mut failed = None;
        let mut moving = stream::iter(moves).buffer_unordered(OBJECTS_IN_FLIGHT);
        while let Some((pointer, result)) = moving.next().await {
            match result {
                Ok(()) => {
                    sent.insert(pointer.oid);
                    moved.objects += 1;
                    moved.bytes += pointer.size;
                }
                Err(MirrorError::LfsServer(error)) if error.is_missing() => {
                    gone.insert(pointer.oid);
                    moved.missing.add(pointer, Some(&error.to_string()));
                }
                // A permanent failure takes precedence over transient ones.
                Err(error) if !error.kind().is_retryable() => failed = Some(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        left.retain(|pointer| !gone.contains(&pointer.oid));
        failed.map_or(Ok(()), Err)
    }

    async fn move_one(&self, pointer: Pointer, from: Download, mut to: Upload) -> (Pointer, Result<(), MirrorError>) {
        let moving = async {
            // A body can be read only once: an upload that is redirected downloads the object again.
            for _ in 0..=MAX_REDIRECTS {
                let progress = self.progress.clone();
                let body = self.source.read(&from).await?;
                let counted = checked(body, pointer).inspect(move |piece| {
                    if let Ok(piece) = piece {
                        progress.bytes_copied.add(piece.len() as u64);
                    }
                });
                match self.target.write(&to, pointer, counted.boxed()).await? {
                    Some(elsewhere) => to = elsewhere,
                    None => {
                        crash_point("lfs-stored");
                        return Ok(());
                    }
                }
            }
            let server = self.target.url().into();
            let reason = format!("more than {MAX_REDIRECTS} redirects of an upload");
            Err(LfsError::Protocol { server, reason }.into())
        };
        (pointer, moving.await)
    }

    fn report(&self, moved: &Moved, outcome: &mut MirrorOutcome) -> Result<(), MirrorError> {
        if moved.refused.count > 0 {
            return Err(MirrorError::LfsRefused {
                target_url: self.target.url().into(),
                count: moved.refused.count,
                objects: moved.refused.text(),
            });
        }
        let count = moved.missing.count;
        let objects = moved.missing.text();
        match (count, self.missing) {
            (0, _) => Ok(()),
            (_, Missing::Refuse) => {
                Err(MirrorError::LfsMissing { source_url: self.source.url().into(), count, objects })
            }
            (_, Missing::Allow) => {
                let remark = format!("{count} LFS objects are missing at the source: {objects}");
                tracing::warn!(source = self.source.url(), "{remark}");
                outcome.remark(&remark);
                outcome.lfs_missing = (count, moved.missing.pointers.clone());
                Ok(())
            }
        }
    }
}

/// Temporary space in which packs of a source are searched for pointers.
fn spill_of(source: &End) -> Spill {
    match source {
        End::Remote(repository) => Spill { dir: std::env::temp_dir(), bytes: repository.limits().spool_bytes },
        End::Region(server) => Spill { dir: server.region().spool_dir(), bytes: MAX_SPILL_BYTES },
    }
}

/// Pointers in the requested objects, if there are wants, and those that are still missing, without duplicates.
fn all_pointers(
    object_source: &mut dyn ObjectSource,
    wanted: &PackRequest,
    still_missing: &[Pointer],
    format: Format,
    spill: &Spill,
) -> Result<Vec<Pointer>, MirrorError> {
    let mut pointers =
        if wanted.wants.is_empty() { Vec::new() } else { find_pointers(object_source, wanted, format, spill)? };
    let found: HashSet<LfsOid> = pointers.iter().map(|pointer| pointer.oid).collect();
    pointers.extend(still_missing.iter().filter(|pointer| !found.contains(&pointer.oid)));
    Ok(pointers)
}

/// Predicts a transfer, and changes nothing. Blocking.
pub fn forecast(
    (source, target): (&End, &End),
    object_source: &mut dyn ObjectSource,
    (wanted, still_missing): (&PackRequest, &[Pointer]),
    format: Format,
    runtime: &Handle,
) -> Result<LfsForecast, MirrorError> {
    let bytes_of = |pointers: &[Pointer]| pointers.iter().map(|pointer| pointer.size).sum::<u64>();
    let pointers = all_pointers(object_source, wanted, still_missing, format, &spill_of(source))?;
    let mut forecast =
        LfsForecast { objects: pointers.len() as u64, bytes: bytes_of(&pointers), ..LfsForecast::default() };
    // A region without the repository lacks all objects.
    let Some(target) = LfsEnd::of(target, String::new())? else {
        forecast.lacking = forecast.objects;
        forecast.lacking_bytes = forecast.bytes;
        return Ok(forecast);
    };
    for some in pointers.chunks(MAX_BATCH_OBJECTS) {
        let (lacks, _) = runtime.block_on(target.find_lacking(some))?;
        let lacks: Vec<Pointer> = lacks.into_iter().map(|(pointer, _)| pointer).collect();
        forecast.lacking += lacks.len() as u64;
        forecast.lacking_bytes += bytes_of(&lacks);
    }
    Ok(forecast)
}

impl LfsTransfer for LfsTask {
    fn scans_all_history(&self) -> bool {
        self.scans_all_history
    }

    fn still_missing(&self) -> &[Pointer] {
        &self.still_missing
    }

    fn transfer(
        &self,
        object_source: &mut dyn ObjectSource,
        wanted: &PackRequest,
        format: Format,
        outcome: &mut MirrorOutcome,
    ) -> Result<(), MirrorError> {
        let pointers = all_pointers(object_source, wanted, &self.still_missing, format, &self.spill)?;
        if pointers.is_empty() {
            return Ok(());
        }
        let mut moved = Moved::default();
        let result = self.runtime.block_on(self.move_all(&pointers, &mut moved));
        outcome.lfs_objects += moved.objects;
        outcome.lfs_bytes += moved.bytes;
        result?;
        self.report(&moved, outcome)
    }
}
