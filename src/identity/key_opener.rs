//! [`KeyOpener`]: data keys opened by key services beside other work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use gitferry_iam::edit::MAX_DATA_KEYS;
use gitferry_iam::secret::{DataKey, KeyService};
use gitferry_iam::{Account, KeyRing};
use tokio::time::Instant;

/// Interval between attempts to open a data key.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Longest time for opening a data key once.
const KEY_TIMEOUT: Duration = Duration::from_secs(10);

/// Outcome for one data key: the key, or the reason for the log.
type Outcome = (String, Result<DataKey, String>);

/// Opens data keys at the same time, each by itself: one whose key service does not answer delays no other. One that does
/// not open is tried again.
pub(crate) struct KeyOpener {
    services: Arc<[Arc<dyn KeyService>]>,
    running: FuturesUnordered<BoxFuture<'static, Outcome>>,
    /// Ids of the data keys in `running`.
    opening: BTreeSet<String>,
    /// Time of the next attempt, by the id of a data key that did not open.
    failed: BTreeMap<String, Instant>,
}

impl KeyOpener {
    pub(crate) fn new(services: Vec<Arc<dyn KeyService>>) -> Self {
        KeyOpener {
            services: services.into(),
            running: FuturesUnordered::new(),
            opening: BTreeSet::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Begins to open the data keys of `account` that `ring` lacks, [`MAX_DATA_KEYS`] at a time, apart from those that
    /// have failed just now.
    pub(crate) fn begin(&mut self, account: &Arc<Account>, ring: &KeyRing) {
        self.failed.retain(|_, again| Instant::now() < *again);
        for id in ring.missing(account) {
            let is_busy = self.opening.contains(&id) || self.failed.contains_key(&id);
            if is_busy || self.opening.len() >= MAX_DATA_KEYS {
                continue;
            }
            self.opening.insert(id.clone());
            self.running.push(Box::pin(open(account.clone(), id, self.services.clone())));
        }
    }

    /// Waits for the next data key that opens, or does not. Returns `None` when one that did not may be tried again. The
    /// caller calls [`KeyOpener::begin`] after each. Never returns if there is nothing to wait for. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Option<Result<DataKey, String>> {
        let again = self.failed.values().min().copied();
        tokio::select! {
            Some((id, outcome)) = self.running.next() => {
                self.opening.remove(&id);
                if outcome.is_err() {
                    self.failed.insert(id, Instant::now() + RETRY_INTERVAL);
                }
                Some(outcome)
            }
            () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => None,
            else => std::future::pending().await,
        }
    }
}

async fn open(account: Arc<Account>, id: String, services: Arc<[Arc<dyn KeyService>]>) -> Outcome {
    let opened = tokio::time::timeout(KEY_TIMEOUT, KeyRing::open_key(&account, &id, &services)).await;
    let outcome = match opened {
        Ok(opened) => opened.map_err(|error| error.to_string()),
        Err(_) => {
            let seconds = KEY_TIMEOUT.as_secs();
            Err(format!("data key {id} does not open: the key services did not answer within {seconds} s"))
        }
    };
    (id, outcome)
}
