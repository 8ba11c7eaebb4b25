//! One pack out of many, and which of them are damaged.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::local::{LocalPack, LocalPacks};
use super::super::manifest::LivePack;
use super::super::new_pack::NewPack;
use super::super::{Region, RegionError, Result, blocking};
use gitferry_base::Kind;
use gitferry_base::checksum::file_crc64;
use gitferry_git::pack::{CheckOptions, CheckProgress, PackSet, check_pack, gather};

/// Packs that were read before they become one.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// Their bytes are those that the manifest records.
    pub sound: Vec<LivePack>,
    /// They are not; with the reason.
    pub damaged: Vec<(LivePack, String)>,
}

/// The state of the bytes of one pack.
#[derive(Debug)]
pub(super) enum Bytes {
    /// As the manifest records them.
    Sound,
    /// Missing, or others than the manifest records.
    Damaged(String),
    /// They could not be read, for a reason that may lie in the pack or around it.
    Unreadable(io::Error),
}

impl Region {
    /// Reads packs and compares them with what the manifest records, one by one: a damaged one stops no other.
    ///
    /// # Errors
    /// The store's own when no pack can be read: then none of them is to blame.
    pub(super) async fn examine(&self, packs: &[LivePack]) -> Result<Examined> {
        let mut examined = Examined::default();
        let mut unreadable = Vec::new();
        for pack in packs {
            match self.examine_one(pack).await? {
                Bytes::Sound => examined.sound.push(pack.clone()),
                Bytes::Damaged(reason) => examined.damaged.push((pack.clone(), reason)),
                Bytes::Unreadable(error) => unreadable.push((pack.clone(), error)),
            }
        }
        if examined.sound.is_empty()
            && let Some((_, error)) = unreadable.pop()
        {
            return Err(error.into());
        }
        let unreadable = unreadable.into_iter().map(|(pack, error)| (pack, format!("it cannot be read: {error}")));
        examined.damaged.extend(unreadable);
        Ok(examined)
    }

    pub(super) async fn examine_one(&self, pack: &LivePack) -> Result<Bytes> {
        match self.local_packs(std::slice::from_ref(pack)).await {
            Ok(local) => {
                let compared = move || Ok::<_, RegionError>(local.packs.first().map_or(Bytes::Sound, compare));
                blocking(compared).await
            }
            Err(error) if error.kind() == Kind::Corrupt => Ok(Bytes::Damaged(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Makes one pack of many that are sound.
    pub(super) async fn merge(&self, packs: &[LivePack], format: gix::hash::Kind) -> Result<NewPack> {
        let (local, spool) = (self.local_packs(packs).await?, self.spool_dir());
        let mut merged = blocking(move || merge(&local, format, spool)).await?;
        merged.closed = packs.iter().all(|pack| pack.closed);
        Ok(merged)
    }

    /// Checks packs in full, one by one, after they could not be merged; the reasons of those that fail.
    pub(super) async fn check_each(
        &self,
        packs: &[LivePack],
        format: gix::hash::Kind,
    ) -> Result<Vec<(LivePack, String)>> {
        let (local, spool) = (self.local_packs(packs).await?, self.spool_dir());
        blocking(move || {
            let mut damaged = Vec::new();
            for pack in &local.packs {
                let index = tempfile::NamedTempFile::new_in(&spool)?.into_temp_path();
                let options = CheckOptions::new(format);
                match check_pack(&pack.pack, Some(&pack.index), &options, &index, &CheckProgress::default()) {
                    Ok(_) => {}
                    Err(error) if error.kind() == Kind::Corrupt => damaged.push((pack.live.clone(), error.to_string())),
                    Err(error) => return Err(RegionError::from(error)),
                }
            }
            Ok(damaged)
        })
        .await
    }
}

/// Compares the files of a pack with what the manifest records. Blocking.
fn compare(local: &LocalPack) -> Bytes {
    let live = &local.live;
    for (what, path, recorded) in [("pack", &local.pack, live.crc64), ("index", &local.index, live.index_crc64)] {
        match file_crc64(path) {
            Ok(crc64) if crc64 == recorded => {}
            Ok(_) => return Bytes::Damaged(format!("the {what} has not the CRC-64/NVME that the manifest records")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Bytes::Damaged(format!("the {what} is missing"));
            }
            Err(error) => return Bytes::Unreadable(error),
        }
    }
    Bytes::Sound
}

/// Makes one pack of many. Blocking.
fn merge(local: &LocalPacks, format: gix::hash::Kind, spool: PathBuf) -> Result<NewPack> {
    let mut set = PackSet::new(format).with_spool(spool.clone());
    for pack in &local.packs {
        set.add(&pack.pack, &pack.index)?;
    }
    let mut wanted: Vec<gix::ObjectId> =
        set.indices().flat_map(|index| (0..index.objects()).map(|row| index.id(row).to_owned())).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let dir = tempfile::TempDir::new_in(&spool)?;
    let path = dir.path().join("consolidated.pack");
    gather(&wanted, &set, &mut |_| Ok(None), &path)?;
    let file = tempfile::NamedTempFile::new_in(&spool)?.into_temp_path();
    std::fs::rename(&path, &file)?;
    let crc64 = file_crc64(&file)?;
    NewPack::check(file, crc64, None, format, &Arc::new(CheckProgress::default()))
}
