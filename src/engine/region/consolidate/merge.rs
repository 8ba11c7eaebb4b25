//! Merging packs into one, and finding damaged ones.

use std::io;
use std::path::PathBuf;

use super::super::local::{LocalPack, LocalPacks};
use super::super::manifest::LivePack;
use super::super::new_pack::NewPack;
use super::super::{Region, RegionError, Result, blocking};
use gitferry_base::Kind;
use gitferry_base::checksum::file_crc64;
use gitferry_git::pack::{CheckOptions, CheckProgress, PackSet, check_pack, gather};

/// Packs sorted by the state of their bytes.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// Packs whose bytes match the manifest.
    pub sound: Vec<LivePack>,
    /// Other packs, with the reason.
    pub damaged: Vec<(LivePack, String)>,
}

/// State of the bytes of one pack.
#[derive(Debug)]
pub(super) enum Bytes {
    /// The bytes match the manifest.
    Sound,
    /// The bytes are missing or differ from the manifest.
    Damaged(String),
    /// Reading failed; either the pack or its environment may be the cause.
    Unreadable(io::Error),
}

/// Reads and merges the packs of a region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merger<'a> {
    region: &'a Region,
}

impl<'a> Merger<'a> {
    pub(super) fn new(region: &'a Region) -> Self {
        Merger { region }
    }

    /// Reads packs one by one and compares them with the manifest: a damaged one does not stop the others.
    ///
    /// # Errors
    /// The store's error if no pack can be read: then the store is at fault, and not the packs.
    pub(super) async fn examine(self, packs: &[LivePack]) -> Result<Examined> {
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

    pub(super) async fn examine_one(self, pack: &LivePack) -> Result<Bytes> {
        match self.region.packs().local(std::slice::from_ref(pack)).await {
            Ok(local) => {
                let compared =
                    move || Ok::<_, RegionError>(local.packs.first().map_or(Bytes::Sound, |pack| compare(pack)));
                blocking(compared).await
            }
            Err(error) if error.kind() == Kind::Corrupt => Ok(Bytes::Damaged(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Merges sound packs into one.
    pub(super) async fn merge(self, packs: &[LivePack], format: gix::hash::Kind) -> Result<NewPack> {
        let local = self.region.packs().local(packs).await?;
        let spool = self.region.spool_dir();
        let mut merged = blocking(move || merge(&local, format, spool)).await?;
        merged.closed = packs.iter().all(|pack| pack.closed);
        Ok(merged)
    }

    /// Checks packs in full, one by one, after they could not be merged. Returns those that fail, with reasons.
    pub(super) async fn check_each(
        self,
        packs: &[LivePack],
        format: gix::hash::Kind,
    ) -> Result<Vec<(LivePack, String)>> {
        let local = self.region.packs().local(packs).await?;
        let spool = self.region.spool_dir();
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
            Ok(_) => return Bytes::Damaged(format!("the CRC-64/NVME of the {what} differs from the manifest")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Bytes::Damaged(format!("the {what} is missing"));
            }
            Err(error) => return Bytes::Unreadable(error),
        }
    }
    Bytes::Sound
}

/// Writes all objects of the packs into one new pack. Blocking.
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
    let gathered = gather(&wanted, &set, &mut |_| Ok(None), &path)?;
    let file = tempfile::NamedTempFile::new_in(&spool)?.into_temp_path();
    std::fs::rename(&path, &file)?;
    let crc64 = file_crc64(&file)?;
    NewPack::check_gathered(file, crc64, &gathered, format, &CheckProgress::default())
}
