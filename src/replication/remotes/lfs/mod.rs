//! The objects of Git LFS on links with a remote: they are at the target before any ref moves.
//!
//! The pointers among what a pass brings are found first (`find.rs`). What the target lacks of their objects flows from
//! the source's LFS server into the target's, or from and to a region's store (`ends.rs`); then the target is asked
//! again, so that nobody's word is taken for it.

mod ends;
mod find;

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use gix::hash::Kind as Format;
use serde::Serialize;
use tokio::runtime::Handle;

use self::ends::{LfsEnd, Refusals, To};
pub use self::find::Spill;
use self::find::find_pointers;
use super::checkpoint::MAX_MISSING;
use super::ends::End;
use super::error::RemotesError;
use super::report::Carried;
use super::supply::{Supply, Wanted};
use crate::progress::Progress;
use gitferry_base::fault::crash_point;
use gitferry_base::retry::Attempts;
use gitferry_engine::region::push::{MAX_TOLD_LFS, Missing};
use gitferry_git::lfs::{LfsOid, Pointer};
use gitferry_remote::lfs::{LfsError, MAX_BATCH_OBJECTS, MAX_REDIRECTS, checked};

/// Objects of one repository that flow at a time.
const OBJECTS_IN_FLIGHT: usize = 8;
/// Most bytes of commits, trees and small files in which pointers are looked for, where the remote's limits say nothing.
pub const MAX_SPILL_BYTES: u64 = 8 << 30;

/// What brings the objects of Git LFS to a target before its refs move.
pub trait LfsCarrier: Sync {
    /// Whether all that the link carries is to be looked at, and not only what is new.
    fn looks_at_all(&self) -> bool;

    /// Objects that a pass before went on without.
    fn remembered(&self) -> &[Pointer];

    /// Brings the objects that those of a push point to (none where nothing is wanted), and those that are remembered.
    /// Blocking.
    fn carry(
        &self,
        supply: &mut dyn Supply,
        wanted: &Wanted,
        format: Format,
        carried: &mut Carried,
    ) -> Result<(), RemotesError>;
}

/// The LFS objects of a repository on their way from one end to the other.
pub struct LfsTask {
    source: LfsEnd,
    target: LfsEnd,
    /// What becomes of a pass whose objects are missing at the source.
    missing: Missing,
    looks_at_all: bool,
    remembered: Vec<Pointer>,
    spill: Spill,
    progress: Arc<Progress>,
    runtime: Handle,
}

/// What a pass would find, and bring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LfsForecast {
    /// Objects that what is new points to.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that the target lacks.
    pub lacking: u64,
    /// Their bytes.
    pub lacking_bytes: u64,
}

/// How far some objects have got.
#[derive(Default)]
struct Moved {
    objects: u64,
    bytes: u64,
    missing: Listed,
    refused: Listed,
}

/// Some objects, of which the first are named.
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
        if self.first.len() < MAX_TOLD_LFS {
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
    /// From one end of a link to the other.
    pub fn new(
        (source, target): (&End, &End),
        missing: Missing,
        (looks_at_all, remembered): (bool, Vec<Pointer>),
        actor: &str,
        progress: Arc<Progress>,
        runtime: Handle,
    ) -> Result<LfsTask, RemotesError> {
        let end = |end: &End| {
            let absent = || RemotesError::Internal("a region lacks the repository that is carried".into());
            LfsEnd::of(end, actor.into())?.ok_or_else(absent)
        };
        let spill = spill_of(source);
        let (source, target) = (end(source)?, end(target)?);
        Ok(LfsTask { source, target, missing, looks_at_all, remembered, spill, progress, runtime })
    }

    /// Brings all objects that the target lacks. What is missing or refused is told at the end, so that the list of it
    /// is whole and the rest need not move again.
    async fn move_all(&self, pointers: &[Pointer], moved: &mut Moved) -> Result<(), RemotesError> {
        for some in pointers.chunks(MAX_BATCH_OBJECTS) {
            self.move_some(some, moved).await?;
            crash_point("lfs-moved");
            self.target.settle(some).await?;
            crash_point("lfs-settled");
        }
        Ok(())
    }

    /// Brings what one request can name. Repeated until the target lacks nothing of it.
    async fn move_some(&self, pointers: &[Pointer], moved: &mut Moved) -> Result<(), RemotesError> {
        let (mut left, mut sent) = (pointers.to_vec(), HashSet::new());
        let mut attempts = Attempts::default();
        while !left.is_empty() {
            match self.round(&mut left, &mut sent, moved).await {
                Ok(()) => {}
                Err(error) if attempts.again(error.kind()).await => {
                    tracing::info!(%error, objects = left.len(), "LFS objects are tried again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks the target what it lacks of `left`, and brings that. What it has, what cannot be had and what it refuses is
    /// taken out; what was `sent` stays until the target says that it is there, or gives it out.
    async fn round(
        &self,
        left: &mut Vec<Pointer>,
        sent: &mut HashSet<LfsOid>,
        moved: &mut Moved,
    ) -> Result<(), RemotesError> {
        let (mut lacks, refused) = self.target.lacks(left).await?;
        let again: Vec<Pointer> = lacks.iter().map(|(pointer, _)| *pointer).collect();
        let again: Vec<Pointer> = again.into_iter().filter(|pointer| sent.contains(&pointer.oid)).collect();
        let arrived = self.target.gives_out(&again).await?;
        lacks.retain(|(pointer, _)| !arrived.contains(&pointer.oid));
        *left = lacks.iter().map(|(pointer, _)| *pointer).collect();
        moved.refused.add_all(refused);
        // All that was lost may be sent again.
        if let Some(lost) = left.iter().filter(|pointer| sent.remove(&pointer.oid)).last() {
            return Err(RemotesError::LfsLost { target_url: self.target.url().into(), oid: lost.oid });
        }
        let (gives, refused) = self.source.gives(left).await?;
        let mut gone: HashSet<LfsOid> = refused.iter().map(|(pointer, _)| pointer.oid).collect();
        moved.missing.add_all(refused);
        let mut moves = Vec::with_capacity(lacks.len());
        for ((pointer, to), from) in lacks.into_iter().zip(gives) {
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
                Err(RemotesError::LfsServer(error)) if error.is_missing() => {
                    gone.insert(pointer.oid);
                    moved.missing.add(pointer, Some(&error.to_string()));
                }
                // What does not pass by itself counts most.
                Err(error) if !error.kind().is_retryable() => failed = Some(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        left.retain(|pointer| !gone.contains(&pointer.oid));
        failed.map_or(Ok(()), Err)
    }

    async fn move_one(&self, pointer: Pointer, from: ends::From, mut to: To) -> (Pointer, Result<(), RemotesError>) {
        let moving = async {
            // A body that has flown is read anew for the place where it is wanted instead.
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
            let (server, reason) =
                (self.target.url().into(), format!("more than {MAX_REDIRECTS} redirects of an upload"));
            Err(LfsError::Protocol { server, reason }.into())
        };
        (pointer, moving.await)
    }

    fn judge(&self, moved: &Moved, carried: &mut Carried) -> Result<(), RemotesError> {
        if moved.refused.count > 0 {
            let (target_url, count) = (self.target.url().into(), moved.refused.count);
            return Err(RemotesError::LfsRefused { target_url, count, objects: moved.refused.text() });
        }
        let (count, objects) = (moved.missing.count, moved.missing.text());
        match (count, self.missing) {
            (0, _) => Ok(()),
            (_, Missing::Refuse) => {
                Err(RemotesError::LfsMissing { source_url: self.source.url().into(), count, objects })
            }
            (_, Missing::Allow) => {
                let remark = format!("{count} LFS objects are missing at the source: {objects}");
                tracing::warn!(source = self.source.url(), "{remark}");
                carried.remark(&remark);
                carried.lfs_missing = (count, moved.missing.pointers.clone());
                Ok(())
            }
        }
    }
}

/// Where packs of a source lie while pointers are looked for in them.
fn spill_of(source: &End) -> Spill {
    match source {
        End::Remote(repository) => Spill { dir: std::env::temp_dir(), bytes: repository.limits().spool_bytes },
        End::Region(server) => Spill { dir: server.region().spool_dir(), bytes: MAX_SPILL_BYTES },
    }
}

/// The pointers among what is wanted, if anything is, and those that are remembered, each once.
fn all_pointers(
    supply: &mut dyn Supply,
    wanted: &Wanted,
    remembered: &[Pointer],
    format: Format,
    spill: &Spill,
) -> Result<Vec<Pointer>, RemotesError> {
    let mut pointers = match wanted.wants.is_empty() {
        true => Vec::new(),
        false => find_pointers(supply, wanted, format, spill)?,
    };
    let found: HashSet<LfsOid> = pointers.iter().map(|pointer| pointer.oid).collect();
    pointers.extend(remembered.iter().filter(|pointer| !found.contains(&pointer.oid)));
    Ok(pointers)
}

/// Looks for what a pass would bring, and brings nothing. Blocking.
pub fn forecast(
    (source, target): (&End, &End),
    supply: &mut dyn Supply,
    (wanted, remembered): (&Wanted, &[Pointer]),
    format: Format,
    runtime: &Handle,
) -> Result<LfsForecast, RemotesError> {
    let bytes_of = |pointers: &[Pointer]| pointers.iter().map(|pointer| pointer.size).sum::<u64>();
    let pointers = all_pointers(supply, wanted, remembered, format, &spill_of(source))?;
    let mut forecast =
        LfsForecast { objects: pointers.len() as u64, bytes: bytes_of(&pointers), ..LfsForecast::default() };
    // A region that does not have the repository yet lacks everything.
    let Some(target) = LfsEnd::of(target, String::new())? else {
        (forecast.lacking, forecast.lacking_bytes) = (forecast.objects, forecast.bytes);
        return Ok(forecast);
    };
    for some in pointers.chunks(MAX_BATCH_OBJECTS) {
        let (lacks, _) = runtime.block_on(target.lacks(some))?;
        let lacks: Vec<Pointer> = lacks.into_iter().map(|(pointer, _)| pointer).collect();
        forecast.lacking += lacks.len() as u64;
        forecast.lacking_bytes += bytes_of(&lacks);
    }
    Ok(forecast)
}

impl LfsCarrier for LfsTask {
    fn looks_at_all(&self) -> bool {
        self.looks_at_all
    }

    fn remembered(&self) -> &[Pointer] {
        &self.remembered
    }

    fn carry(
        &self,
        supply: &mut dyn Supply,
        wanted: &Wanted,
        format: Format,
        carried: &mut Carried,
    ) -> Result<(), RemotesError> {
        let pointers = all_pointers(supply, wanted, &self.remembered, format, &self.spill)?;
        if pointers.is_empty() {
            return Ok(());
        }
        let mut moved = Moved::default();
        let result = self.runtime.block_on(self.move_all(&pointers, &mut moved));
        carried.lfs_objects += moved.objects;
        carried.lfs_bytes += moved.bytes;
        result?;
        self.judge(&moved, carried)
    }
}
