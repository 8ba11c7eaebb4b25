//! Proof that the stores of a region belong together, and that neither was lost, swapped or rolled back.
//!
//! Every start reads the identity in both stores: a store that is missing, empty, of another region or older than the
//! other is an error that names the store, never an empty region. A writing process raises a mark from time to time,
//! first in the table, then in the object store: an object store with a higher mark than its table proves that the table
//! was rolled back (`docs/decisions/0019-identities-and-formats.md`).
//!
//! A store can also be lost, swapped or rolled back while a process has it open. All handles of a region in one process
//! share the outcome of the last check ([`Standing`](super::standing::Standing)). A check reads two rows and one small
//! object, and runs at most once in [`CHECK_INTERVAL`](super::standing::CHECK_INTERVAL), however many callers ask.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::identity::{FORMAT, Identity};
use super::standing::Seen;
use super::{Region, RegionError, Result};
use crate::ledger::heads::read_heads;
use crate::ledger::keys;
use gitferry_store::objects::{MAX_LIST_KEYS, ObjectError};
use gitferry_store::table::{Condition, Item, Key, Query, TableError, Write};

/// Object key of the identity. Keys of repositories never begin with it.
const IDENTITY: &str = "identity";
/// Prefix of the object keys of marks.
const MARKS: &str = "marks/";
/// Longest identity, in bytes.
const MAX_IDENTITY_BYTES: u64 = 4 * 1024;
/// Most repositories that are examined for packs in a table without an identity.
const MAX_EXAMINED: usize = 1_000;
/// Longest wait for the answers of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Condition of a region's stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Both stores have the identity of this region.
    Region(Identity),
    /// Both stores hold repositories of a build that wrote no identities.
    Unidentified,
    /// Both stores are reachable and empty.
    Empty,
    /// `region init` was interrupted: the object store has the identity, and both stores are otherwise empty.
    HalfMade(Identity),
}

fn identity_key() -> Key {
    Key::new("identity", "-")
}

fn mark_key() -> Key {
    Key::new("identity", "mark")
}

fn mark_of(row: Option<&Item>) -> u64 {
    row.and_then(|row| row.document.get("mark")?.as_u64()).unwrap_or(0)
}

/// Both stores of a region, compared with their identity.
#[derive(Clone, Copy, Debug)]
pub struct Stores<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the checks of both stores.
    pub fn stores(&self) -> Stores<'_> {
        Stores { region: self }
    }
}

impl Stores<'_> {
    /// Examines both stores.
    ///
    /// # Errors
    /// [`RegionError::WrongStore`] if a store lost its content, is of another region, or is older than the other.
    pub async fn examine(self) -> Result<Found> {
        let row = self.region.table().get(&identity_key()).await?;
        let in_table = row.map(|row| self.parse(row.document, "table")).transpose()?;
        let in_objects = self.identity_of_objects().await?;
        match (in_table, in_objects) {
            (Some(identity), Some(other)) if identity == other => {
                self.check_name(&identity)?;
                self.check_mark().await?;
                Ok(Found::Region(identity))
            }
            (Some(identity), Some(other)) => Err(self.mismatched(&identity, &other)),
            (Some(_), None) => Err(self.objects_lack_identity()),
            (None, Some(identity)) => {
                self.check_name(&identity)?;
                let is_in_use =
                    self.table_holds_data().await? || self.objects_hold_data().await? || self.newest_mark().await? > 0;
                if is_in_use { Err(self.table_lacks_identity()) } else { Ok(Found::HalfMade(identity)) }
            }
            (None, None) => self.examine_unidentified().await,
        }
    }

    /// Compares the stores of an open region with each other and with their last observed state. Reads each store once.
    pub(super) async fn compare(self, seen: &Seen) -> Result<Seen> {
        // Object store first: a mark is raised in the table first, so a race cannot make the table look older.
        let in_objects = self.identity_of_objects().await?;
        let mut rows = self.region.table().get_many(&[identity_key(), mark_key()]).await?.into_iter();
        let row = rows.next().flatten();
        let mark = mark_of(rows.next().flatten().as_ref());
        let in_table = row.map(|row| self.parse(row.document, "table")).transpose()?;
        let identity = match (in_table, in_objects) {
            (Some(identity), Some(other)) if identity == other => Some(identity),
            (Some(identity), Some(other)) => return Err(self.mismatched(&identity, &other)),
            (Some(_), None) => return Err(self.objects_lack_identity()),
            (None, Some(_)) => return Err(self.table_lacks_identity()),
            (None, None) if seen.identity.is_some() => {
                return Err(self.wrong("both its stores are empty, and had an identity when this process opened them"));
            }
            // The stores are of a build without identities.
            (None, None) => None,
        };
        if let Some(identity) = &identity {
            self.check_name(identity)?;
            if seen.identity.as_ref().is_some_and(|seen| seen != identity) {
                return Err(self.wrong(format!(
                    "its stores are of another installation ({}) than when this process opened them",
                    identity.installation
                )));
            }
        }
        if mark < seen.mark {
            return Err(self.table_rolled_back(mark, seen.mark));
        }
        Ok(Seen { identity, mark })
    }

    async fn examine_unidentified(self) -> Result<Found> {
        match (self.table_holds_data().await?, self.objects_hold_data().await?) {
            (true, true) => Ok(Found::Unidentified),
            (false, false) => Ok(Found::Empty),
            (true, false) if !self.table_names_packs().await? => Ok(Found::Unidentified),
            (true, false) => Err(self.wrong(
                "its table names packs, and its object store is empty: mount or name the right one, or restore it",
            )),
            (false, true) => Err(self.wrong(
                "its object store holds repositories, and its table is empty: mount or name the right one, or restore it",
            )),
        }
    }

    /// Checks, before reading, that the stores are this region or of a build without identities.
    pub async fn check_identity(self) -> Result<()> {
        match self.examine().await? {
            Found::Region(_) | Found::Unidentified => Ok(()),
            Found::Empty | Found::HalfMade(_) => Err(self.not_made()),
        }
    }

    /// Checks, before writing, that the stores are this region, and gives an identity to stores of a build without one.
    pub async fn adopt_identity(self) -> Result<()> {
        match self.examine().await? {
            Found::Region(_) => Ok(()),
            Found::Unidentified => {
                let identity = self.write_identity(None).await?;
                let installation = identity.installation;
                tracing::warn!(region = self.region.name(), %installation, "the region has an identity now");
                Ok(())
            }
            Found::Empty | Found::HalfMade(_) => Err(self.not_made()),
        }
    }

    /// Creates the region in empty stores. Returns false if it exists already; nothing is changed then.
    pub async fn make_identity(self) -> Result<bool> {
        match self.examine().await? {
            Found::Region(_) => Ok(false),
            Found::HalfMade(identity) => self.write_identity(Some(identity)).await.map(|_| true),
            Found::Unidentified | Found::Empty => self.write_identity(None).await.map(|_| true),
        }
    }

    /// Writes the identity, first to the object store: an identity in the table proves that both stores have it.
    async fn write_identity(self, half_made: Option<Identity>) -> Result<Identity> {
        let identity = match half_made {
            Some(identity) => identity,
            None => {
                let installation = self.region.clock().new_id();
                let identity = Identity { format: FORMAT, installation, region: self.region.name().to_owned() };
                let text = serde_json::to_vec(&identity).map_err(std::io::Error::from)?;
                match self.region.objects().put(IDENTITY, Bytes::from(text)).await {
                    Ok(_) => identity,
                    // Another process was faster: its identity counts.
                    Err(ObjectError::Exists { store, key }) => {
                        let other = self.identity_of_objects().await?;
                        other.ok_or(ObjectError::NotFound { store, key })?
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let document = serde_json::to_value(&identity).map_err(std::io::Error::from)?;
        self.region.table().transact(vec![Write::put(identity_key(), Condition::Any, document)]).await?;
        Ok(identity)
    }

    /// Raises the mark in the table, then in the object store.
    pub async fn raise_mark(self) -> Result<()> {
        self.check_mark().await?;
        let row = self.region.table().get(&mark_key()).await?;
        let condition = row.as_ref().map_or(Condition::Absent, |row| Condition::Revision(row.revision));
        let next = mark_of(row.as_ref()).saturating_add(1);
        self.set_mark(condition, next).await
    }

    /// Accepts a table that is older than the object store's mark, on an operator's request.
    pub async fn accept_table(self) -> Result<()> {
        let next = self.newest_mark().await?.saturating_add(1);
        self.set_mark(Condition::Any, next).await
    }

    async fn set_mark(self, condition: Condition, mark: u64) -> Result<()> {
        let write = Write::put(mark_key(), condition, json!({ "mark": mark }));
        match self.region.table().transact(vec![write]).await {
            Ok(()) => {}
            // Another process raises the mark.
            Err(TableError::ConditionFailed { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let key = format!("{MARKS}{mark:020}");
        match self.region.objects().put(&key, Bytes::from_static(b"mark\n")).await {
            Ok(_) | Err(ObjectError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let page = self.region.objects().list(MARKS, None, MAX_LIST_KEYS).await?;
        for older in page.objects.iter().filter(|object| object.key < key) {
            self.region.objects().delete(&older.key).await?;
        }
        Ok(())
    }

    async fn newest_mark(self) -> Result<u64> {
        let page = self.region.objects().list(MARKS, None, MAX_LIST_KEYS).await?;
        let marks = page.objects.iter().filter_map(|object| object.key.strip_prefix(MARKS)?.parse().ok());
        Ok(marks.max().unwrap_or(0))
    }

    /// Checks that the table is not older than the object store's mark. The mark is raised in the table first, so
    /// reading the object store first excludes a false alarm by a race.
    async fn check_mark(self) -> Result<()> {
        let in_objects = self.newest_mark().await?;
        let in_table = mark_of(self.region.table().get(&mark_key()).await?.as_ref());
        if in_objects <= in_table {
            return Ok(());
        }
        Err(self.table_rolled_back(in_table, in_objects))
    }

    fn table_rolled_back(self, in_table: u64, newer: u64) -> RegionError {
        self.wrong(format!(
            "its table was rolled back: it is at mark {in_table}, and was at mark {newer} before. Changes that were \
             acknowledged since are not in it. Restore the newer table; or, if it is lost, take this one with `gitferry \
             region init {} --accept-older-table`, and compare with the replicas (`gitferry verify LINK`)",
            self.region.name()
        ))
    }

    fn mismatched(self, in_table: &Identity, in_objects: &Identity) -> RegionError {
        self.wrong(format!(
            "its table is of region {} (installation {}), its object store of region {} (installation {}): \
             gitferry.toml pairs stores that do not belong together",
            in_table.region, in_table.installation, in_objects.region, in_objects.installation
        ))
    }

    fn objects_lack_identity(self) -> RegionError {
        self.wrong(
            "its object store lacks the identity that its table has: it is empty, or another store. Mount or name the \
             right one, or restore it",
        )
    }

    fn table_lacks_identity(self) -> RegionError {
        self.wrong(
            "its table lacks the identity that its object store has: it is empty, or another table. Mount or name the \
             right one, or restore it",
        )
    }

    async fn identity_of_objects(self) -> Result<Option<Identity>> {
        let bytes = match self.region.objects().get(IDENTITY, 0..MAX_IDENTITY_BYTES).await {
            Ok(bytes) => bytes,
            Err(ObjectError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let document =
            serde_json::from_slice(&bytes).map_err(|_| self.wrong("its object store's identity is damaged"))?;
        self.parse(document, "object store").map(Some)
    }

    fn parse(self, document: serde_json::Value, store: &str) -> Result<Identity> {
        let format = document.get("format").and_then(serde_json::Value::as_u64);
        if let Some(format) = format.filter(|format| *format > FORMAT) {
            return Err(self.wrong(format!(
                "its {store} was made by a newer gitferry (format {format}, this build reads up to {FORMAT}): upgrade"
            )));
        }
        serde_json::from_value(document).map_err(|_| self.wrong(format!("its {store}'s identity is damaged")))
    }

    fn check_name(self, identity: &Identity) -> Result<()> {
        if identity.region == self.region.name() {
            return Ok(());
        }
        Err(self.wrong(format!("its stores are those of region {}; correct gitferry.toml", identity.region)))
    }

    async fn table_holds_data(self) -> Result<bool> {
        for shard in 0..keys::SHARDS {
            let mut query = Query::prefix(keys::listing_partition(shard), "");
            query.limit = 1;
            if !self.region.table().query(&query).await?.rows.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn objects_hold_data(self) -> Result<bool> {
        Ok(!self.region.objects().list(keys::OBJECTS_PREFIX, None, 1).await?.objects.is_empty())
    }

    /// Returns true if any of the first [`MAX_EXAMINED`] repositories has packs or a snapshot.
    async fn table_names_packs(self) -> Result<bool> {
        let mut ids = self.region.repositories().list().await?;
        ids.truncate(MAX_EXAMINED);
        let heads = read_heads(self.region.table(), &ids).await?;
        let mut heads = heads.into_iter().filter_map(|head| head.ok().flatten());
        Ok(heads.any(|item| item.head.manifest > 0 || item.head.snapshot.is_some()))
    }

    fn not_made(self) -> RegionError {
        self.wrong(format!(
            "its stores are empty. If it is new, make it with `gitferry region init {}`; if not, its disk is not mounted, \
             or gitferry.toml names other stores",
            self.region.name()
        ))
    }

    fn wrong(self, reason: impl Into<String>) -> RegionError {
        RegionError::WrongStore { region: self.region.name().to_owned(), reason: reason.into() }
    }

    /// Checks that the stores are still those that were opened, unless a check ended within the interval. After a
    /// mismatch, commits are refused until a check succeeds.
    ///
    /// # Errors
    /// The reason why the stores cannot be used.
    pub async fn check(self) -> std::result::Result<(), Arc<str>> {
        let mut last = self.region.standing().last.lock().await;
        if let Some((at, outcome)) = &last.look
            && at.elapsed() < self.region.standing().interval
        {
            return outcome.clone().map_or(Ok(()), Err);
        }
        let checked = timeout(CHECK_TIMEOUT, self.compare(&last.seen)).await;
        let outcome: Option<Arc<str>> = match checked {
            Ok(Ok(seen)) => {
                last.seen = seen;
                self.region.standing().set_wrong(None);
                None
            }
            Ok(Err(error)) => {
                let reason: Arc<str> = error.to_string().into();
                if matches!(error, RegionError::WrongStore { .. }) {
                    self.region.standing().set_wrong(Some(reason.clone()));
                }
                Some(reason)
            }
            Err(_) => {
                Some(format!("the stores of {} did not answer within {CHECK_TIMEOUT:?}", self.region.name()).into())
            }
        };
        let before = last.look.take().and_then(|(_, outcome)| outcome);
        match (&before, &outcome) {
            (None, Some(reason)) => tracing::error!(region = self.region.name(), "the region cannot be used: {reason}"),
            (Some(_), None) => tracing::warn!(region = self.region.name(), "the region can be used again"),
            _ => {}
        }
        last.look = Some((Instant::now(), outcome.clone()));
        outcome.map_or(Ok(()), Err)
    }

    /// Checks periodically, for processes that write the region and must stop when its stores change.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(self.region.standing().interval).await;
            // The outcome is logged, and kept for commits.
            let _ = self.check().await;
        }
    }
}
