//! Whether a store keeps the promises that everything here rests on. Some servers that speak S3's or DynamoDB's
//! protocol accept preconditions and ignore them: with those, two writers would both win.

use bytes::Bytes;
use serde_json::json;

use super::{RegionError, Result};
use gitferry_base::clock::Clock;
use gitferry_store::objects::{Crc64, ObjectError, ObjectStore};
use gitferry_store::table::{Condition, EXPIRES_MEMBER, Key, Table, TableError, Write};

/// A probe that its process left behind may be removed after this many seconds.
const PROBE_SECONDS: i64 = 24 * 60 * 60;

/// Asks a table to break its promises: a condition that does not hold must stop all of its transaction.
///
/// # Errors
/// [`RegionError::BrokenPromise`] when it does; what the table says when it cannot be asked.
pub async fn table(table: &dyn Table, clock: &dyn Clock) -> Result<()> {
    let probe = format!("probe/{}", clock.new_id());
    let (taken, other) = (Key::new(&probe, "taken"), Key::new(&probe, "other"));
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
            Ok(()) => return broken("it took a write whose condition did not hold"),
        }
    }
    match found? {
        None => Ok(()),
        Some(_) => broken("it did one half of a transaction whose other half it refused"),
    }
}

/// Asks an object store to break its promises: what is there is never overwritten, at once or in parts.
///
/// # Errors
/// [`RegionError::BrokenPromise`] when it does; what the store says when it cannot be asked.
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
                let reason = format!("it overwrote an object that was there, put {how}");
                return Err(RegionError::BrokenPromise { store: store.name().into(), reason });
            }
        }
    }
    Ok(())
}

async fn put_in_parts(store: &dyn ObjectStore, key: &str) -> std::result::Result<(), ObjectError> {
    let bytes = Bytes::from_static(b"third");
    let (size, crc64) = (bytes.len() as u64, Crc64::of(&bytes));
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
