//! Encryption at rest: the KMS key of a repository in its region, and the objects that are encrypted under another one.
//!
//! KMS keys belong to an AWS region, so the key of a repository is a row of its region's table and no part of the ledger,
//! which all regions share. The object store asks [`RepositoryKeys`] for the key of each object that it creates: code
//! that writes objects knows no keys, and cannot forget one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize as _, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::{Region, RegionError, Result};
use crate::ledger::head::{HeadItem, RepositoryId};
use crate::ledger::keys;
use gitferry_store::objects::{KmsKeys, MAX_LIST_KEYS, ObjectError, Reencrypted};
use gitferry_store::table::{Condition, Table, Write};

/// Time for which a process uses the KMS key of a repository without reading the row again.
pub const KEPT_FOR: Duration = Duration::from_secs(30);
/// Most repositories whose KMS keys a process keeps.
const MAX_KEPT: usize = 10_000;
/// Objects whose encryption is looked up concurrently.
const LOOKUPS_IN_FLIGHT: usize = 16;
/// Objects that are encrypted anew concurrently.
const COPIES_IN_FLIGHT: usize = 4;
/// Member of the row with the ARN.
const KMS_KEY: &str = "kms_key";

/// KMS keys of the repositories of a region, by the rows of its table. Shared by a region and its object store.
pub struct RepositoryKeys {
    table: Arc<dyn Table>,
    kept: Mutex<HashMap<RepositoryId, (Instant, Option<String>)>>,
}

impl RepositoryKeys {
    /// Keys in the rows of a table.
    pub fn new(table: Arc<dyn Table>) -> Arc<Self> {
        Arc::new(RepositoryKeys { table, kept: Mutex::default() })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<RepositoryId, (Instant, Option<String>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// KMS key of a repository, from the row or as it was read within [`KEPT_FOR`].
    async fn of(&self, id: RepositoryId) -> std::result::Result<Option<String>, String> {
        let kept = self.kept().get(&id).cloned();
        if let Some((read, key)) = kept
            && read.elapsed() < KEPT_FOR
        {
            return Ok(key);
        }
        let began = Instant::now();
        let key = self.read(id).await?;
        let mut kept = self.kept();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(id, (began, key.clone()));
        Ok(key)
    }

    async fn read(&self, id: RepositoryId) -> std::result::Result<Option<String>, String> {
        let row = self.table.get(&keys::kms_key(id)).await.map_err(|error| error.to_string())?;
        let Some(row) = row else { return Ok(None) };
        let arn = row.document.get(KMS_KEY).map(String::deserialize);
        match arn {
            Some(Ok(arn)) if !arn.is_empty() => Ok(Some(arn)),
            _ => Err(format!("the row `{}` is damaged: it names no KMS key", keys::kms_key(id))),
        }
    }

    async fn write(&self, id: RepositoryId, key: Option<&str>) -> Result<()> {
        let row = keys::kms_key(id);
        let write = match key {
            Some(arn) => Write::put(row, Condition::Any, json!({ KMS_KEY: arn })),
            None => Write::delete(row, Condition::Any),
        };
        self.table.transact(vec![write]).await?;
        self.kept().remove(&id);
        Ok(())
    }
}

impl fmt::Debug for RepositoryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepositoryKeys({} kept)", self.kept().len())
    }
}

#[async_trait]
impl KmsKeys for RepositoryKeys {
    async fn kms_key(&self, key: &str) -> std::result::Result<Option<String>, ObjectError> {
        let Some(id) = keys::repository_of(key) else { return Ok(None) };
        self.of(id).await.map_err(|reason| ObjectError::Unavailable {
            store: self.table.name().to_owned(),
            key: key.to_owned(),
            reason: format!("the KMS key of its repository cannot be read: {reason}"),
            ambiguous: false,
        })
    }
}

/// Object of a repository that is encrypted under another key than the repository has, or under none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stray {
    key: String,
    size: u64,
    found: Option<String>,
}

/// Objects of a repository that were encrypted under its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reencryption {
    /// KMS key of the repository.
    pub kms_key: String,
    /// Objects that were examined.
    pub objects: u64,
    /// Objects that were under another key, and are under this one; with a dry run, would be.
    pub reencrypted: u64,
    /// Bytes of these objects.
    pub bytes: u64,
    /// Keys of the objects that are too large to be copied at once. They are as they were.
    pub too_large: Vec<String>,
}

/// Encryption of the objects of a region's repositories.
#[derive(Clone, Copy, Debug)]
pub struct Encryption<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the encryption of this region.
    pub fn encryption(&self) -> Encryption<'_> {
        Encryption { region: self }
    }
}

impl Encryption<'_> {
    /// KMS key of new objects of a repository: its own, or that of the region's configuration; `None` if the bucket
    /// decides, or the region has no KMS keys.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn key(self, item: &HeadItem) -> Result<Option<String>> {
        Ok(self.region.objects().kms_key(&prefix(item.id)).await?)
    }

    /// Sets the KMS key of a repository in this region, by its ARN; with `None` the key of the configuration applies again.
    /// Other processes use the new key within [`KEPT_FOR`]. Objects that exist stay as they are until
    /// [`Encryption::reencrypt`].
    ///
    /// # Errors
    /// [`RegionError::Refused`] in a region whose objects are files, or the table cannot be written.
    pub async fn set_key(self, item: &HeadItem, key: Option<&str>) -> Result<()> {
        self.set_key_of(item.id, &item.head.name, key).await
    }

    /// Sets the KMS key like [`Encryption::set_key`], also of a repository that is yet to be created.
    pub(super) async fn set_key_of(self, id: RepositoryId, name: &str, key: Option<&str>) -> Result<()> {
        let Some(keys) = self.region.repository_keys() else {
            let reason = format!("the objects of {} are files: KMS keys are for objects in S3", self.region.name());
            return Err(RegionError::Refused { repository: name.to_owned(), reason });
        };
        keys.write(id, key).await
    }

    /// Encrypts the objects of a repository that are under another key than its own anew: the store copies each onto
    /// itself. May be interrupted, and run again, which continues.
    ///
    /// # Errors
    /// [`RegionError::Refused`] if the repository has no key here, a key cannot be used, or a store fails. Objects that
    /// were done stay done.
    pub async fn reencrypt(self, item: &HeadItem, dry_run: bool) -> Result<Reencryption> {
        let Some(kms_key) = self.key(item).await? else {
            let reason = format!(
                "it has no KMS key in {}: the bucket's default encryption applies, which S3 does not tell",
                self.region.name()
            );
            return Err(RegionError::Refused { repository: item.head.name.clone(), reason });
        };
        let mut done = Reencryption { kms_key: kms_key.clone(), ..Reencryption::default() };
        let mut after = None;
        loop {
            let page = self.page(item.id, &kms_key, after.as_deref()).await?;
            done.objects += page.objects;
            let copies = page.strays.iter().map(|stray| async move {
                let outcome =
                    if dry_run { Reencrypted::Done } else { self.region.objects().reencrypt(&stray.key).await? };
                Ok::<_, RegionError>((stray, outcome))
            });
            let copies: Vec<_> = copies.collect();
            let outcomes: Vec<_> = stream::iter(copies).buffered(COPIES_IN_FLIGHT).try_collect().await?;
            for (stray, outcome) in outcomes {
                match outcome {
                    Reencrypted::Done => {
                        done.reencrypted += 1;
                        done.bytes = done.bytes.saturating_add(stray.size);
                    }
                    Reencrypted::Gone => {}
                    Reencrypted::TooLarge => done.too_large.push(stray.key.clone()),
                }
            }
            match page.next {
                None => return Ok(done),
                next => after = next,
            }
        }
    }

    /// Describes objects of a repository that are under another key than its own, at most `limit`. Without a key of its
    /// own or of the configuration, no object is.
    pub(super) async fn strays(self, item: &HeadItem, limit: usize) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let Some(kms_key) = self.key(item).await? else { return Ok(found) };
        let mut after = None;
        loop {
            let page = self.page(item.id, &kms_key, after.as_deref()).await?;
            for stray in page.strays {
                if found.len() >= limit {
                    return Ok(found);
                }
                let under = stray.found.unwrap_or_else(|| "no KMS key".to_owned());
                found.push(format!("object {} is encrypted under {under}, not under {kms_key}", stray.key));
            }
            match page.next {
                None => return Ok(found),
                next => after = next,
            }
        }
    }

    /// Examines one page of a repository's objects.
    async fn page(self, id: RepositoryId, kms_key: &str, after: Option<&str>) -> Result<Examined> {
        let page = self.region.objects().list(&prefix(id), after, MAX_LIST_KEYS).await?;
        let lookups = page.objects.iter().map(|object| self.region.objects().head(&object.key));
        let lookups: Vec<_> = lookups.collect();
        let metas: Vec<_> = stream::iter(lookups).buffered(LOOKUPS_IN_FLIGHT).try_collect().await?;
        let strays = metas.into_iter().flatten().filter(|meta| !is_under(kms_key, meta.kms_key.as_deref()));
        let strays = strays.map(|meta| Stray { key: meta.key, size: meta.size, found: meta.kms_key }).collect();
        Ok(Examined { objects: page.objects.len() as u64, strays, next: page.next })
    }
}

/// One page of a repository's objects.
struct Examined {
    objects: u64,
    strays: Vec<Stray>,
    next: Option<String>,
}

fn prefix(id: RepositoryId) -> String {
    format!("{}/", keys::object_prefix(id))
}

/// Returns true if `found`, the ARN that S3 reports for an object, is the key `wanted`: an ARN, an id, or an alias, which
/// may name any key.
fn is_under(wanted: &str, found: Option<&str>) -> bool {
    let Some(found) = found else { return false };
    let is_alias = wanted.starts_with("alias/") || wanted.contains(":alias/");
    let is_id = found.rsplit_once("key/").is_some_and(|(_, id)| id == wanted);
    is_alias || is_id || found == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd";

    #[test]
    fn keys_are_the_same_by_arn_and_by_id() {
        for wanted in [ARN, "1234abcd", "alias/any", "arn:aws:kms:eu-west-1:111122223333:alias/any"] {
            assert!(is_under(wanted, Some(ARN)), "{wanted}");
            assert!(!is_under(wanted, None), "{wanted}");
        }
        for wanted in ["abcd", "arn:aws:kms:eu-west-1:111122223333:key/abcd", ""] {
            assert!(!is_under(wanted, Some(ARN)), "{wanted}");
        }
    }
}
