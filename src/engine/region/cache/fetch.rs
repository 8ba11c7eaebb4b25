//! Fetching an object into a file by concurrent ranges, few of them in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Semaphore;

use crate::region::{Result, blocking};
use gitferry_store::objects::{Crc64, ObjectStore, PART_BYTES};

/// Ranges of one file that are fetched concurrently.
pub const RANGES_IN_FLIGHT: usize = 4;

/// Writes an object of known size to a new file. Returns the CRC-64/NVME.
pub(in crate::region) async fn fetch(
    store: &dyn ObjectStore,
    key: &str,
    size: u64,
    to: &Path,
    memory: &Semaphore,
) -> Result<Crc64> {
    let file = Arc::new(File::create_new(to)?);
    let ranges = (0..size.div_ceil(PART_BYTES)).map(|number| {
        let start = number * PART_BYTES;
        fetch_range(store, key, start, (size - start).min(PART_BYTES), file.clone(), memory)
    });
    let pieces = stream::iter(ranges).buffered(RANGES_IN_FLIGHT);
    pieces
        .try_fold(Crc64::default(), |whole, (crc64, length)| async move { Ok(whole.followed_by(crc64, length)) })
        .await
}

async fn fetch_range(
    store: &dyn ObjectStore,
    key: &str,
    start: u64,
    length: u64,
    file: Arc<File>,
    memory: &Semaphore,
) -> Result<(Crc64, u64)> {
    let _permit = memory.acquire().await;
    let bytes = store.get(key, start..start + length).await?;
    if bytes.len() as u64 != length {
        let reason = format!("object {key} is shorter than its manifest records");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason).into());
    }
    blocking(move || {
        file.write_all_at(&bytes, start)?;
        Ok((Crc64::of(&bytes), length))
    })
    .await
}
