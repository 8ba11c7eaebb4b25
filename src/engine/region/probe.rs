//! Probes of the preconditions on which correctness rests. Some servers that speak the S3 or DynamoDB protocol accept
//! preconditions and ignore them: with such a store, two writers would both win.

use bytes::Bytes;
use serde_json::json;

use super::{RegionError, Result};
use gitferry_base::clock::Clock;
use gitferry_store::objects::{Crc64, ObjectError, ObjectStore};
use gitferry_store::table::{Condition, EXPIRES_MEMBER, Key, Table, TableError, Write};

/// Lifetime of probe rows that a dead process left, in seconds.
const PROBE_SECONDS: i64 = 24 * 60 * 60;

/// Checks that a failed condition stops all writes of a transaction.
///
/// # Errors
/// [`RegionError::BrokenPromise`] if it does not; the table's error if the probe fails.
pub async fn table(table: &dyn Table, clock: &dyn Clock) -> Result<()> {
    let probe = format!("probe/{}", clock.new_id());
    let taken = Key::new(&probe, "taken");
    let other = Key::new(&probe, "other");
    let document = json!({ EXPIRES_MEMBER: clock.now().as_second() + PROBE_SECONDS });
    let put = |key: &Key, condition| Write::put(key.clone(), condition, document.clone());
    table.transact(vec![put(&taken, Condition::Absent)]).await?;
    let second = table.transact(vec![put(&other, Condition::Any), put(&taken, Condition::Absent)]).await;
    let third = table.transact(vec![put(&taken, Condition::Revision(2))]).await;
    let found = table.get(&other).await;
    let cleaned = [&taken, &other].map(|key| Write::delete(key.clone(), Condition::Any)).to_vec();
    if let Err(error) = table.transact(cleaned).await {
        tracing::debug!(%error, "could not remove a probe; it expires by itself");
    }
    let broken = |reason: &str| Err(RegionError::BrokenPromise { store: table.name().into(), reason: reason.into() });
    for attempt in [second, third] {
        match attempt {
            Err(TableError::ConditionFailed { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return broken("it accepted a write whose condition did not hold"),
        }
    }
    match found? {
        None => Ok(()),
        Some(_) => broken("it applied one half of a transaction and refused the other half"),
    }
}

/// Checks that an existing object is never overwritten, neither by a single put nor by a multipart upload.
///
/// # Errors
/// [`RegionError::BrokenPromise`] if it is; the store's error if the probe fails.
pub async fn objects(store: &dyn ObjectStore, clock: &dyn Clock) -> Result<()> {
    let key = format!("probes/{}", clock.new_id());
    store.put(&key, Bytes::from_static(b"first")).await?;
    let second = store.put(&key, Bytes::from_static(b"second")).await.map(drop);
    let third = put_in_parts(store, &key).await;
    if let Err(error) = store.delete(&key).await {
        tracing::warn!(%error, "could not remove a probe");
    }
    for (attempt, how) in [(second, "at once"), (third, "in parts")] {
        match attempt {
            Err(ObjectError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => {
                let reason = format!("it overwrote an existing object, put {how}");
                return Err(RegionError::BrokenPromise { store: store.name().into(), reason });
            }
        }
    }
    Ok(())
}

async fn put_in_parts(store: &dyn ObjectStore, key: &str) -> std::result::Result<(), ObjectError> {
    let bytes = Bytes::from_static(b"third");
    let size = bytes.len() as u64;
    let crc64 = Crc64::of(&bytes);
    let upload = store.begin(key).await?;
    let completed = match store.put_part(&upload, 0, bytes).await {
        Ok(part) => store.complete(&upload, &[part], size, crc64).await.map(drop),
        Err(error) => Err(error),
    };
    if completed.is_err()
        && let Err(error) = store.abort(&upload).await
    {
        tracing::debug!(%error, "could not abort the upload of a probe; the store forgets it by itself");
    }
    completed
}
