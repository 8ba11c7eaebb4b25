//! Git LFS objects in imports: objects that pointers name are copied from the LFS folder of the source, checked by size
//! and SHA-256. Missing ones may come later.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tempfile::TempPath;

use super::Importer;
use crate::ledger::change::LfsObject;
use crate::ledger::head::RepositoryId;
use crate::region::lfs::{LfsSpool, SettledPointers, path_of};
use crate::region::{RegionError, Result, blocking};
use gitferry_git::lfs::Pointer;
use gitferry_git::local::SourceRepository;

/// Objects that are copied concurrently.
const OBJECTS_IN_FLIGHT: usize = 4;
/// Size of the copy buffer in bytes.
const COPY_BYTES: usize = 1024 * 1024;

/// Outcome of importing LFS objects.
#[derive(Debug, Default)]
pub(super) struct TakenLfs {
    /// Objects that the region holds now; the change has to name them.
    pub held: Vec<LfsObject>,
    /// Number of objects copied from the source.
    pub taken: u64,
    /// Size of the copied objects in bytes.
    pub taken_bytes: u64,
    /// Number of objects that neither the region nor the source has.
    pub missing: u64,
    /// Held objects whose rows still note them as missing, until a change has named them.
    pub noted: Vec<LfsObject>,
}

impl Importer<'_> {
    /// Copies the objects of `pointers` that the region does not hold.
    pub(super) async fn take_lfs(
        self,
        id: RepositoryId,
        source: &Arc<SourceRepository>,
        pointers: &[Pointer],
    ) -> Result<TakenLfs> {
        if pointers.is_empty() {
            return Ok(TakenLfs::default());
        }
        let mut settled = self.region.lfs().settle_pointers(id, pointers).await?;
        let taking: Vec<_> = settled.missing.iter().map(|pointer| self.take_one(id, source, *pointer)).collect();
        let found: Vec<Option<LfsObject>> = stream::iter(taking).buffered(OBJECTS_IN_FLIGHT).try_collect().await?;
        let mut taken = TakenLfs::default();
        let mut missing = Vec::new();
        for (pointer, object) in settled.missing.iter().zip(found) {
            match object {
                Some(object) => {
                    taken.taken += 1;
                    taken.taken_bytes += object.size;
                    taken.held.push(object);
                }
                None => missing.push(*pointer),
            }
        }
        settled.missing = missing;
        self.region.lfs().await_missing(id, &mut settled).await?;
        let SettledPointers { held, missing, wrong, noted } = settled;
        taken.noted = noted;
        taken.held.extend(held);
        taken.missing = (missing.len() + wrong.len()) as u64;
        Ok(taken)
    }

    /// Copies one object; `None` if the source does not have it with this content.
    async fn take_one(
        self,
        id: RepositoryId,
        source: &Arc<SourceRepository>,
        pointer: Pointer,
    ) -> Result<Option<LfsObject>> {
        let from = path_of(source.common_dir(), pointer.oid);
        let spool = self.region.spool_dir();
        let source = source.clone();
        let copied = blocking(move || copy(&source, &from, pointer.size, &spool)).await?;
        let Some((file, object)) = copied else { return Ok(None) };
        if (object.oid, object.size) != (pointer.oid, pointer.size) {
            tracing::warn!(oid = %pointer.oid, found = %object.oid, "an LFS object of the source is damaged");
            return Ok(None);
        }
        self.region.lfs().put(id, object, file).await?;
        Ok(Some(object))
    }
}

/// Copies a file of the expected size; `None` if there is no such file.
fn copy(source: &SourceRepository, from: &Path, size: u64, spool: &Path) -> Result<Option<(TempPath, LfsObject)>> {
    let opened = source.open_file(from).and_then(|file| Ok((file.metadata()?, file)));
    let mut file = match opened {
        Ok((meta, file)) if meta.is_file() && meta.len() == size => file,
        Ok(_) => return Ok(None),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(RegionError::Io(error)),
    };
    let mut spool = LfsSpool::new_in(spool)?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(spool.finish())),
            count => spool.write(&buffer[..count])?,
        }
    }
}
