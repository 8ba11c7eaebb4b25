//! Repair of one repository: copies packs and LFS objects that are missing or damaged in a region from another region.
//! Ledgers are not changed: a copy has to match size and CRC-64/NVME in the damaged region's own manifest and ledger.
//!
//! A pack is copied under a new key, and one conditional write puts that key into the manifest: an interrupted repair
//! leaves the old state, and running hosts read the manifest again.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::error::{InRegion as _, ReplicationError};
use super::progress::Progress;
use super::transfer::{CopiedPack, PARTS_IN_MEMORY, Transfer};
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::advance::{Advance, advance_head};
use gitferry_engine::ledger::change::LfsObject;
use gitferry_engine::ledger::head::{Frontier, HeadItem};
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::ledger::keys;
use gitferry_engine::ledger::log::read_chain;
use gitferry_engine::region::commit::MAX_COMMIT_ATTEMPTS;
use gitferry_engine::region::fold::fold;
use gitferry_engine::region::manifest::{LivePack, Manifest};
use gitferry_engine::region::{Region, RegionError, blocking};
use gitferry_git::lfs::LfsOid;
use gitferry_store::objects::{Crc64, ObjectError, ObjectStore, PART_BYTES};
use gitferry_store::table::{Condition, Query, Write};

/// Outcome of a repair.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Repaired {
    /// Name of the repository.
    pub repository: String,
    /// Region that was repaired.
    pub region: String,
    /// Region that the copies come from.
    pub from: String,
    /// Packs whose bytes were read and compared.
    pub packs: u64,
    /// LFS objects whose bytes were read and compared.
    pub lfs_objects: u64,
    /// Packs that were missing or damaged and are now replaced, each with its damage.
    pub repaired_packs: Vec<String>,
    /// LFS objects that were missing or damaged and are now replaced, each with its damage.
    pub repaired_lfs_objects: Vec<String>,
    /// Packs and LFS objects that are still missing or damaged, each with the reason why it could not be repaired.
    pub left: Vec<String>,
}

/// Repair of one region from another.
#[derive(Debug)]
pub struct Repair {
    target: Region,
    source: Region,
}

impl Repair {
    /// Prepares to repair `target` with copies from `source`.
    pub fn new(target: Region, source: Region) -> Self {
        Repair { target, source }
    }

    /// Reads all packs and LFS objects of a repository (name or id) and replaces those that are missing or damaged.
    /// Idempotent: safe to run again at any time.
    pub async fn run(&self, name: &str) -> Result<Repaired, ReplicationError> {
        let item = self.target.repositories().get(name).await.in_region(&self.target)?;
        let mut repaired = Repaired {
            repository: item.head.name.clone(),
            region: self.target.name().to_owned(),
            from: self.source.name().to_owned(),
            ..Repaired::default()
        };
        self.packs(&item, &mut repaired).await?;
        self.lfs(&item, &mut repaired).await?;
        Ok(repaired)
    }

    fn transfer(&self, item: &HeadItem) -> Transfer {
        Transfer {
            source: self.source.clone(),
            target: self.target.clone(),
            id: item.id,
            repository: item.head.name.clone(),
            memory: Arc::new(Semaphore::new(PARTS_IN_MEMORY)),
            progress: Arc::new(Progress::default()),
        }
    }

    async fn packs(&self, item: &HeadItem, repaired: &mut Repaired) -> Result<(), ReplicationError> {
        let (manifest, _) = self.target.reader().manifest(item).await.in_region(&self.target)?;
        let mut bad = Vec::new();
        for pack in &manifest.packs {
            repaired.packs += 1;
            if let Some(problem) = pack_problem(self.target.objects(), pack).await.in_region(&self.target)? {
                bad.push((pack.clone(), problem));
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        let theirs = match read_head(self.source.table(), item.id).await.in_region(&self.source)? {
            Some(other) => self.source.reader().manifest(&other).await.in_region(&self.source)?.0,
            None => Manifest::default(),
        };
        let transfer = self.transfer(item);
        let mut replaced: Vec<(LivePack, CopiedPack)> = Vec::new();
        for (pack, problem) in bad {
            let text = format!("pack {} ({}): {problem}", pack.id, pack.key);
            let Some(held) = theirs.packs.iter().find(|other| is_same(other, &pack)) else {
                repaired.left.push(format!("{text}; {} does not hold this pack", self.source.name()));
                continue;
            };
            // The record of the damaged region decides: the copy is checked against its size and checksum.
            let wanted = LivePack { key: held.key.clone(), ..pack.clone() };
            match transfer.copy_packs(&[wanted]).await {
                Ok(copied) => {
                    replaced.extend(copied.into_iter().map(|copied| (pack.clone(), copied)));
                    repaired.repaired_packs.push(text);
                }
                Err(error @ ReplicationError::BadObject { .. }) => {
                    repaired.left.push(format!("{text}; {}: {error}", self.source.name()));
                }
                Err(error) => return Err(error),
            }
        }
        if replaced.is_empty() {
            return Ok(());
        }
        self.swap(item, &replaced).await
    }

    /// Replaces the bad packs in the manifest with their copies; retries when a commit or consolidation wins the race.
    async fn swap(&self, item: &HeadItem, replaced: &[(LivePack, CopiedPack)]) -> Result<(), ReplicationError> {
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            match self.swap_once(item, replaced).await {
                Err(
                    RegionError::Moved { .. }
                    | RegionError::Ledger(LedgerError::Lost { .. } | LedgerError::ManifestMoved { .. }),
                ) => {}
                result => return result.in_region(&self.target),
            }
        }
        Err(RegionError::Moved { repository: item.head.name.clone() }).in_region(&self.target)
    }

    async fn swap_once(&self, item: &HeadItem, replaced: &[(LivePack, CopiedPack)]) -> Result<(), RegionError> {
        let target = &self.target;
        let gone = || RegionError::Moved { repository: item.head.name.clone() };
        let now = read_head(target.table(), item.id).await?.ok_or_else(gone)?;
        let held = target.claims().held_packs(item.id, Some(&now), &item.head.name).await?;
        let packs: Vec<LivePack> = replaced.iter().map(|(_, copied)| copied.pack.clone()).collect();
        let admitted = target.claims().admit_uploads(&held, &item.head.name, &packs).await?;
        let mut manifest = held.manifest;
        let revision = held.revision;
        let mut with = Vec::new();
        for (bad, copied) in replaced {
            // If consolidation has merged the bad pack meanwhile, a sweep removes the unused copy.
            let Some(entry) = manifest.packs.iter_mut().find(|pack| pack.key == bad.key) else { continue };
            entry.key = copied.pack.key.clone();
            let retired = json!({ "key": bad.key });
            with.push(Write::put(keys::retired(item.id, &bad.key), Condition::Any, retired));
            with.extend(copied.staging.clone().map(|row| Write::delete(row, Condition::Any)));
        }
        if with.is_empty() {
            return Ok(());
        }
        with.push(admitted);
        manifest.generation += 1;
        let mut after = now.head.clone();
        after.manifest = manifest.generation;
        let document = serde_json::to_value(&manifest).map_err(std::io::Error::from)?;
        let step = Advance { id: item.id, before: Some(now), after, manifest: Some((document, revision)), with };
        advance_head(target.table(), step).await?;
        Ok(())
    }

    async fn lfs(&self, item: &HeadItem, repaired: &mut Repaired) -> Result<(), ReplicationError> {
        let mut named = self.named_lfs(item).await?;
        let mut query = Query::prefix(keys::repository(item.id), keys::LFS_PREFIX);
        loop {
            let page = self.target.table().query(&query).await.in_region(&self.target)?;
            let oids: Vec<LfsOid> = page
                .keys()
                .filter_map(|key| key.sk.strip_prefix(keys::LFS_PREFIX).and_then(|oid| oid.parse().ok()))
                .collect();
            let held = self.target.lfs().objects(item.id, &oids).await.in_region(&self.target)?;
            for row in held.into_iter().flatten() {
                // For an object that no change names yet, the row is the only record.
                let object = named.remove(&row.oid).unwrap_or(row);
                let problem = (object != row).then_some("its row has another size or checksum than the change");
                self.lfs_object(item, object, problem, repaired).await?;
            }
            match page.next {
                None => break,
                next => query.after = next,
            }
        }
        for object in named.into_values() {
            self.lfs_object(item, object, Some("has no row in the table"), repaired).await?;
        }
        Ok(())
    }

    /// Returns the LFS objects that the changes of the damaged region name.
    async fn named_lfs(&self, item: &HeadItem) -> Result<BTreeMap<LfsOid, LfsObject>, ReplicationError> {
        let target = &self.target;
        let rows = read_chain(target.table(), item.id, Frontier::ORIGIN, item.head.frontier).await.in_region(target)?;
        let log = target.log();
        let id = item.id;
        let folding = move || Ok::<_, std::io::Error>(fold(&log, id, None, &rows));
        let folded = blocking(folding).await.in_region(target)?;
        let folded = folded.map_err(|error| ReplicationError::of_fold(error, &item.head.name, target.name()))?;
        Ok(folded.lfs)
    }

    /// Reads one object and repairs the object or its row.
    async fn lfs_object(
        &self,
        item: &HeadItem,
        object: LfsObject,
        row_problem: Option<&str>,
        repaired: &mut Repaired,
    ) -> Result<(), ReplicationError> {
        repaired.lfs_objects += 1;
        let key = keys::lfs_object(item.id, object.oid);
        let LfsObject { oid, size, crc64 } = object;
        let problem = object_problem(self.target.objects(), &key, size, crc64).await.in_region(&self.target)?;
        let text = match (&problem, row_problem) {
            (None, None) => return Ok(()),
            (Some(problem), _) => format!("LFS object {oid}: {problem}"),
            (None, Some(problem)) => format!("LFS object {oid}: {problem}"),
        };
        if problem.is_none() {
            self.target.lfs().put_rows(item.id, &[object]).await.in_region(&self.target)?;
            repaired.repaired_lfs_objects.push(text);
            return Ok(());
        }
        // The copy gets the key of the damaged object, so that one is deleted first, but only after the source's object
        // was read and found sound.
        let theirs = object_problem(self.source.objects(), &key, size, crc64).await.in_region(&self.source)?;
        if let Some(theirs) = theirs {
            repaired.left.push(format!("{text}; in {}: {theirs}", self.source.name()));
            return Ok(());
        }
        self.target.objects().delete(&key).await.in_region(&self.target)?;
        self.transfer(item).copy_lfs(&[object]).await?;
        repaired.repaired_lfs_objects.push(text);
        Ok(())
    }
}

/// Returns true if two manifest entries record the same bytes: ids, sizes and checksums of pack and index are equal.
fn is_same(one: &LivePack, other: &LivePack) -> bool {
    let recorded = |pack: &LivePack| (pack.id, pack.bytes, pack.crc64, pack.index_bytes, pack.index_crc64);
    recorded(one) == recorded(other)
}

async fn pack_problem(store: &dyn ObjectStore, pack: &LivePack) -> Result<Option<String>, ObjectError> {
    if let Some(problem) = object_problem(store, &pack.key, pack.bytes, pack.crc64).await? {
        return Ok(Some(problem));
    }
    let index = keys::index_of(&pack.key);
    let problem = object_problem(store, &index, pack.index_bytes, pack.index_crc64).await?;
    Ok(problem.map(|problem| format!("its index {problem}")))
}

/// Reads a stored object to its end and returns its damage in words, if there is any.
async fn object_problem(
    store: &dyn ObjectStore,
    key: &str,
    size: u64,
    crc64: Crc64,
) -> Result<Option<String>, ObjectError> {
    match store.head(key).await? {
        None => return Ok(Some("is missing".into())),
        Some(meta) if meta.size != size => return Ok(Some(format!("has {} bytes, not {size}", meta.size))),
        Some(_) => {}
    }
    let mut found = Crc64::default();
    let mut start = 0;
    while start < size {
        let bytes = match store.get(key, start..size.min(start + PART_BYTES)).await {
            Ok(bytes) => bytes,
            Err(ObjectError::NotFound { .. }) => return Ok(Some("is missing".into())),
            Err(ObjectError::Corrupt { reason, .. }) => return Ok(Some(reason)),
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            return Ok(Some(format!("ends after {start} bytes of {size}")));
        }
        found = found.followed_by(Crc64::of(&bytes), bytes.len() as u64);
        start += bytes.len() as u64;
    }
    Ok((found != crc64).then(|| format!("has the CRC-64/NVME {found}, not {crc64}")))
}
