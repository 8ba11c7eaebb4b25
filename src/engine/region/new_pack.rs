//! Packs on their way into a region, checked in the spool. [`super::uploads`] puts them into the object store.

use std::fs::File;
use std::path::Path;

use tempfile::TempPath;

use super::Result;
use super::manifest::{LivePack, PackClass};
use gitferry_base::checksum::file_crc64;
use gitferry_git::pack::{CheckOptions, CheckProgress, CheckedPack, Gathered, PackError, check_gathered, check_pack};
use gitferry_store::objects::Crc64;

/// A checked pack in the spool.
#[derive(Debug)]
pub struct NewPack {
    /// Path of the pack.
    pub file: TempPath,
    /// Path of the index.
    pub index: TempPath,
    /// Result of the check.
    pub checked: CheckedPack,
    /// True if every link of the pack leads into closed packs; see [`crate::ledger::change::ChangePack::closed`].
    pub closed: bool,
    /// CRC-64/NVME of the pack.
    pub crc64: Crc64,
    /// CRC-64/NVME of the index.
    pub index_crc64: Crc64,
}

impl NewPack {
    /// Checks a pack in full and writes its index, while the bytes are synced to disk. `closed` is false until the
    /// caller proves it. Blocking.
    pub fn check(
        file: TempPath,
        crc64: Crc64,
        hint: Option<&Path>,
        format: gix::hash::Kind,
        progress: &CheckProgress,
    ) -> Result<NewPack> {
        NewPack::checked(file, crc64, |pack, index| check_pack(pack, hint, &CheckOptions::new(format), index, progress))
    }

    /// Checks a pack like [`NewPack::check`] that was just gathered into `file`.
    pub fn check_gathered(
        file: TempPath,
        crc64: Crc64,
        gathered: &Gathered,
        format: gix::hash::Kind,
        progress: &CheckProgress,
    ) -> Result<NewPack> {
        let options = CheckOptions::new(format);
        NewPack::checked(file, crc64, |pack, index| check_gathered(pack, gathered, &options, index, progress))
    }

    fn checked(
        file: TempPath,
        crc64: Crc64,
        check: impl FnOnce(&Path, &Path) -> std::result::Result<CheckedPack, PackError>,
    ) -> Result<NewPack> {
        let dir = file.parent().unwrap_or(Path::new("."));
        let index = tempfile::NamedTempFile::new_in(dir)?.into_temp_path();
        let checked = std::thread::scope(|scope| {
            scope.spawn(|| File::open(&file).and_then(|file| file.sync_data()));
            check(&file, &index)
        })?;
        let index_crc64 = file_crc64(&index)?;
        Ok(NewPack { file, index, checked, closed: false, crc64, index_crc64 })
    }

    /// Returns the manifest entry of the pack under `key`.
    pub fn live(&self, key: String) -> LivePack {
        LivePack {
            key,
            class: PackClass::Live,
            id: self.checked.id,
            bytes: self.checked.bytes,
            objects: self.checked.objects,
            crc64: self.crc64,
            index_bytes: self.checked.index_bytes,
            index_crc64: self.index_crc64,
            closed: self.closed,
        }
    }
}
