//! Writes LFS objects to the places where git-lfs keeps them: `lfs/objects/<first two>/<next two>/<id>`.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::runtime::Handle;

use super::{LfsSpool, LfsStore, object_of};
use crate::ledger::LedgerError;
use crate::ledger::change::LfsObject;
use crate::ledger::head::HeadItem;
use crate::ledger::keys;
use crate::region::{RegionError, Result, blocking};
use gitferry_git::lfs::LfsOid;
use gitferry_store::objects::reader::ObjectReader;
use gitferry_store::table::Query;

/// Objects that are written concurrently.
const OBJECTS_IN_FLIGHT: usize = 4;
/// Size of the copy buffer in bytes.
const COPY_BYTES: usize = 1024 * 1024;

/// Returns the path of an object in a repository of git-lfs.
pub(crate) fn path_of(git_dir: &Path, oid: LfsOid) -> PathBuf {
    let oid = oid.to_string();
    git_dir.join("lfs/objects").join(&oid[..2]).join(&oid[2..4]).join(oid)
}

impl LfsStore<'_> {
    /// Writes all held LFS objects into a repository; the files are synced, their folders are not. Objects that exist
    /// with the right size are left alone. Returns the number of objects written and their bytes.
    pub async fn export(self, item: &HeadItem, git_dir: &Path) -> Result<(u64, u64)> {
        let mut query = Query::prefix(keys::repository(item.id), keys::LFS_PREFIX);
        let mut count = 0;
        let mut bytes = 0;
        loop {
            let mut page = self.region.table().query(&query).await?;
            let next = page.next.take();
            let rows = page.whole()?;
            let mut objects = Vec::with_capacity(rows.len());
            for row in &rows {
                let oid = row.key.sk.strip_prefix(keys::LFS_PREFIX).and_then(|oid| oid.parse().ok());
                let damaged =
                    || RegionError::corrupt(self.region.name(), &item.head.name, format!("{} is no id", row.key));
                objects.push(object_of(oid.ok_or_else(damaged)?, row)?);
            }
            let writing: Vec<_> = objects.into_iter().map(|object| self.export_one(item, object, git_dir)).collect();
            let written: Vec<u64> = stream::iter(writing).buffer_unordered(OBJECTS_IN_FLIGHT).try_collect().await?;
            count += written.iter().filter(|size| **size > 0).count() as u64;
            bytes += written.iter().sum::<u64>();
            match next {
                None => return Ok((count, bytes)),
                next => query.after = next,
            }
        }
    }

    /// Writes one object. Returns the bytes written; 0 if the object exists.
    async fn export_one(self, item: &HeadItem, object: LfsObject, git_dir: &Path) -> Result<u64> {
        let to = path_of(git_dir, object.oid);
        let key = keys::lfs_object(item.id, object.oid);
        let store = self.region.shared_objects().clone();
        let runtime = Handle::current();
        let region = self.region.name().to_owned();
        let repository = item.head.name.clone();
        blocking(move || {
            if fs::symlink_metadata(&to).is_ok_and(|meta| meta.is_file() && meta.len() == object.size) {
                return Ok(0);
            }
            let folder = to.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let bad =
                |what: String| RegionError::corrupt(&region, &repository, format!("LFS object {}: {what}", object.oid));
            let unread = |error| {
                let error = LedgerError::of_stream(&format!("LFS object {}", object.oid), error);
                RegionError::from(error).locate(&region, &repository)
            };
            let mut spool = LfsSpool::new_in(folder)?;
            let mut input = ObjectReader::new(store, &key, runtime);
            let mut buffer = vec![0; COPY_BYTES];
            loop {
                match input.read(&mut buffer).map_err(unread)? {
                    0 => break,
                    read => spool.write(&buffer[..read])?,
                }
            }
            let (file, found) = spool.finish();
            if found != object {
                return Err(bad(format!(
                    "it is damaged: its content is {} of {} bytes ({key})",
                    found.oid, found.size
                )));
            }
            seal(&file)?;
            file.persist(&to).map_err(|error| error.error)?;
            Ok(object.size)
        })
        .await
    }
}

/// Makes a file readable for all who may read the repository, as git-lfs does, and syncs it.
fn seal(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let opened = File::open(file)?;
    opened.set_permissions(fs::Permissions::from_mode(0o444))?;
    opened.sync_all()
}
