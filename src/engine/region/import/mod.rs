//! Import of a local Git repository: brings only what changed, as one change.
//!
//! Refs are read first, then loose objects, then packs, as [`SourceRepository`] requires: every object that a ref names
//! is found even while Git works on the source.

mod lfs;
mod objects;
mod refs;
mod spool;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::commit::{MAX_COMMIT_ATTEMPTS, Subject};
use super::manifest::{LivePack, Manifest};
use super::new_pack::NewPack;
use super::{Region, RegionError, Result, blocking};
use crate::ledger::LedgerError;
use crate::ledger::change::MAX_LFS_OBJECTS;
use crate::ledger::head::HeadItem;
use gitferry_git::lfs::{LfsOid, Pointer};
use gitferry_git::local::{RefPatterns, SourceRepository};
use gitferry_git::refs::RefValue;

use lfs::TakenLfs;
pub use objects::ImportProgress;
use objects::Intake;
use refs::RefsDiff;
use spool::ImportSpool;

/// Options of an import.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Refs to import; others stay as they are in the region.
    pub patterns: RefPatterns,
    /// Allows an import that would delete every ref.
    pub allow_empty: bool,
    /// User in whose name the change is made.
    pub actor: String,
}

/// Outcome of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Name of the repository.
    pub repository: String,
    /// Id of the repository.
    pub id: String,
    /// Sequence number of the change; `None` if nothing had changed.
    pub change: Option<u64>,
    /// Refs created.
    pub created: u64,
    /// Refs updated.
    pub updated: u64,
    /// Refs deleted.
    pub deleted: u64,
    /// Refs afterwards.
    pub refs: u64,
    /// Packs added.
    pub packs: u64,
    /// Objects in the added packs.
    pub objects: u64,
    /// Size of the added packs and their indexes in bytes.
    pub bytes: u64,
    /// Git LFS objects copied from the source.
    pub lfs_objects: u64,
    /// Size of these LFS objects in bytes.
    pub lfs_bytes: u64,
    /// Git LFS objects that pointers name and that neither the region nor the source has.
    pub lfs_missing: u64,
}

/// Imports local Git repositories into a region.
#[derive(Clone, Copy, Debug)]
pub struct Importer<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the importer of this region.
    pub fn importer(&self) -> Importer<'_> {
        Importer { region: self }
    }
}

impl Importer<'_> {
    /// Imports a local repository under a name, creating the repository if there is none.
    pub async fn import(
        self,
        source: &Path,
        name: &str,
        options: &ImportOptions,
        progress: Arc<ImportProgress>,
    ) -> Result<Imported> {
        let path = source.to_owned();
        let source = Arc::new(blocking(move || Ok::<_, RegionError>(SourceRepository::open(path)?)).await?);
        let mut existing = self.region.repositories().find(name).await?;
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            match self.import_once(source.clone(), name, existing.clone(), options, progress.clone()).await {
                Err(RegionError::Ledger(LedgerError::Lost { .. }) | RegionError::Moved { .. }) => {}
                // Another import has created the repository meanwhile: import into it.
                Err(RegionError::NameTaken { .. }) if existing.is_none() => {}
                Err(RegionError::Full { .. }) => {
                    if let Some(item) = &existing {
                        self.region.consolidator().make_room(item).await?;
                    }
                }
                result => return result,
            }
            existing = match existing {
                Some(item) => Some(self.region.repositories().same(name, item.id).await?),
                None => self.region.repositories().find(name).await?,
            };
        }
        Err(RegionError::Moved { repository: name.into() })
    }

    async fn import_once(
        self,
        source: Arc<SourceRepository>,
        name: &str,
        existing: Option<HeadItem>,
        options: &ImportOptions,
        progress: Arc<ImportProgress>,
    ) -> Result<Imported> {
        let subject = self.subject(&source, name, existing.as_ref())?;
        let (head, diff) = self.compare(source.clone(), existing.as_ref(), options).await?;
        let head_moves = existing.as_ref().is_some_and(|item| item.head.head != head);
        if let Some(item) = &existing
            && diff.edits.is_empty()
            && !head_moves
        {
            return self.import_late_lfs(&source, item.clone(), options).await;
        }
        if diff.deletes_all() && !options.allow_empty {
            let reason =
                "the source has none of the refs, so the import would delete them all; --allow-empty allows that";
            return Err(RegionError::Refused { repository: name.into(), reason: reason.into() });
        }
        let manifest = match &existing {
            Some(item) => self.region.reader().manifest(item).await?.0,
            None => Manifest::default(),
        };
        let mut tips = diff.tips.clone();
        tips.extend(head.object());
        let folder = self.region.spool_dir();
        let spool = blocking(move || ImportSpool::open(&folder)).await?;
        let intake = Intake {
            source: source.clone(),
            repository: name.into(),
            held: self.region.packs().local(&manifest.packs).await?,
            tips,
            spool: spool.path().to_owned(),
            progress,
        };
        let (packs, pointers) = blocking(move || intake.run()).await?;
        let lfs = self.take_new_lfs(&subject, &source, pointers).await?;
        let mut imported = Imported { repository: name.into(), ..counts(&diff, &packs, &lfs) };
        let packs = self.region.uploads().put(subject.id(), packs).await?;
        drop(spool);
        gitferry_base::fault::crash_point("import-put-packs");
        imported.bytes = packs.iter().map(|pack| pack.bytes + pack.index_bytes).sum();
        let item = self.commit(&subject, head, diff, &packs, &lfs, &options.actor).await?;
        let item = self.region.snapshots().maintain(item).await;
        self.region.consolidator().maintain_packs(item.id, manifest.packs.len() + packs.len()).await;
        imported.id = item.id.to_string();
        imported.change = Some(item.head.frontier.seq);
        imported.refs = item.head.refs;
        Ok(imported)
    }

    /// Returns the repository that the import changes or creates.
    fn subject(self, source: &SourceRepository, name: &str, existing: Option<&HeadItem>) -> Result<Subject> {
        let committer = self.region.committer();
        let Some(item) = existing else { return committer.new_subject(name, source.object_format()) };
        committer.check_writable(item)?;
        check_format(item, source)?;
        Ok(Subject::Existing(Box::new(item.clone())))
    }

    /// Copies the LFS objects of new pointers, and those that earlier imports did not find.
    async fn take_new_lfs(
        self,
        subject: &Subject,
        source: &Arc<SourceRepository>,
        mut pointers: Vec<Pointer>,
    ) -> Result<TakenLfs> {
        let awaited = match subject {
            Subject::Existing(item) => self.region.lfs().awaited(item.id).await?,
            Subject::New { .. } => Vec::new(),
        };
        pointers.extend(&awaited);
        pointers.sort_unstable();
        pointers.dedup();
        let mut lfs = self.take_lfs(subject.id(), source, &pointers).await?;
        let awaited: HashSet<LfsOid> = awaited.iter().map(|pointer| pointer.oid).collect();
        lfs.noted.extend(lfs.held.iter().filter(|object| awaited.contains(&object.oid)));
        Ok(lfs)
    }

    /// Commits the new refs with their packs and LFS objects. LFS objects beyond the limit of one change follow in
    /// changes of their own.
    async fn commit(
        self,
        subject: &Subject,
        head: RefValue,
        diff: RefsDiff,
        packs: &[LivePack],
        lfs: &TakenLfs,
        actor: &str,
    ) -> Result<HeadItem> {
        let (with_refs, later) = lfs.held.split_at(lfs.held.len().min(MAX_LFS_OBJECTS));
        let mut proposal = self.region.committer().proposal(actor);
        proposal.head = Some(head);
        proposal.refs_added = diff.refs_added();
        proposal.edits = diff.edits;
        proposal.packs = packs.to_vec();
        proposal.lfs = with_refs.to_vec();
        let item = match self.region.committer().commit(subject, proposal).await {
            Ok(item) => item,
            Err(error) => {
                self.region.uploads().drop_packs(packs, &error).await;
                return Err(error);
            }
        };
        self.region.uploads().drop_duplicates(&item, packs).await;
        let item = self.region.lfs().name(item.id, later, actor).await?.unwrap_or(item);
        if let Err(error) = self.region.lfs().forget_missing(item.id, &lfs.noted).await {
            tracing::warn!(
                %error, repository = %item.id,
                "could not remove the notes of LFS objects that have come; the next sweep names the objects again"
            );
        }
        Ok(item)
    }

    /// Names LFS objects that have come to the source since an earlier import, when no ref has changed.
    async fn import_late_lfs(
        self,
        source: &Arc<SourceRepository>,
        item: HeadItem,
        options: &ImportOptions,
    ) -> Result<Imported> {
        let awaited = self.region.lfs().awaited(item.id).await?;
        let lfs = self.take_lfs(item.id, source, &awaited).await?;
        let named = self.region.lfs().name(item.id, &lfs.held, &options.actor).await?;
        let mut imported = unchanged(item);
        imported.change = named.map(|item| item.head.frontier.seq);
        imported.lfs_objects = lfs.taken;
        imported.lfs_bytes = lfs.taken_bytes;
        imported.lfs_missing = lfs.missing;
        Ok(imported)
    }

    /// Returns HEAD of the source, and the edits that make the repository's refs equal to the source's.
    async fn compare(
        self,
        source: Arc<SourceRepository>,
        existing: Option<&HeadItem>,
        options: &ImportOptions,
    ) -> Result<(RefValue, RefsDiff)> {
        let ledger = match existing {
            Some(item) => Some(self.region.reader().refs(item).await?),
            None => None,
        };
        let spool = self.region.committer().edit_spool();
        let patterns = options.patterns.clone();
        blocking(move || {
            let head = source.head()?;
            let new = source.refs(&patterns)?;
            let diff = match ledger {
                Some(ledger) => refs::diff(new, ledger.open()?, &patterns, spool)?,
                None => refs::diff(new, std::iter::empty(), &patterns, spool)?,
            };
            Ok((head, diff))
        })
        .await
        .map_err(|error: RegionError| error.locate(self.region.name(), existing.map_or("", |item| &item.head.name)))
    }
}

fn check_format(item: &HeadItem, source: &SourceRepository) -> Result<()> {
    let ours = item.head.format;
    let theirs = source.object_format();
    if ours == theirs {
        return Ok(());
    }
    let reason = format!("it is a {ours} repository, the source is {theirs}; import it under another name");
    Err(RegionError::Refused { repository: item.head.name.clone(), reason })
}

/// Counts what an import brings.
fn counts(diff: &RefsDiff, packs: &[NewPack], lfs: &TakenLfs) -> Imported {
    Imported {
        created: diff.created,
        updated: diff.updated,
        deleted: diff.deleted,
        packs: packs.len() as u64,
        objects: packs.iter().map(|pack| u64::from(pack.checked.objects)).sum(),
        lfs_objects: lfs.taken,
        lfs_bytes: lfs.taken_bytes,
        lfs_missing: lfs.missing,
        ..Imported::default()
    }
}

fn unchanged(item: HeadItem) -> Imported {
    Imported { repository: item.head.name, id: item.id.to_string(), refs: item.head.refs, ..Imported::default() }
}
