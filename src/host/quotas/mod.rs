//! Quotas: repositories, bytes of packs and of LFS objects, requests a minute.
//!
//! No request lists anything. The bytes of a repository come from the manifest that its push reads anyway; those of the
//! region from a count every [`COUNT_EVERY`] and from what this host has accepted since. Room is reserved before a pack or
//! object is stored, so the pushes of one host exceed no quota together. Several hosts of a region exceed a quota of the
//! region by at most what the others accept between two counts; that of a repository by what they accept between reading
//! its manifest and committing.
//!
//! Deliveries of links are never refused: a replica is as large as its source. Operators' commands are not refused either.

mod rate;
mod storage;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admission::fair_share::ClientKey;
use crate::auth::Authenticator;
use crate::metrics::Metrics;
use crate::request::refusal::Refusal;
use gitferry_config::QuotaConfig;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::Region;
use gitferry_engine::region::push::{PackRoom, Reservation, Reserved, StorageQuota};
use gitferry_iam::model::Quota;
use rate::Rates;
use storage::{Kind, Storage};

/// Interval between two counts of a region.
pub const COUNT_EVERY: Duration = Duration::from_secs(900);
/// Interval between attempts at a count that failed, and until the first quota is set.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// Quotas of a host, and the usage that they limit.
#[derive(Debug)]
pub struct Quotas {
    authenticator: Arc<dyn Authenticator>,
    config: QuotaConfig,
    metrics: Arc<Metrics>,
    storage: Mutex<Storage>,
    rates: Mutex<Rates>,
}

/// A quota with its limit in force.
#[derive(Clone, Copy, Debug)]
struct Limit {
    quota: Quota,
    most: u64,
    /// True if a setting of the account has set it, and not the configuration of the host.
    of_account: bool,
}

/// Quotas on the storage of repositories, each for one repository and for the region.
const STORAGE: [(Kind, Quota, Quota); 2] = [
    (Kind::Git, Quota::RepositoryBytes, Quota::AccountBytes),
    (Kind::Lfs, Quota::RepositoryLfsBytes, Quota::AccountLfsBytes),
];

impl Quotas {
    /// Quotas of the `config`, unless the account that `authenticator` knows sets others.
    pub fn new(authenticator: Arc<dyn Authenticator>, config: QuotaConfig, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Quotas { authenticator, config, metrics, storage: Mutex::default(), rates: Mutex::default() })
    }

    fn storage(&self) -> MutexGuard<'_, Storage> {
        self.storage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self, quota: Quota) -> Option<Limit> {
        if let Some(most) = self.authenticator.quota(quota) {
            return Some(Limit { quota, most, of_account: true });
        }
        let most = self.config.limit(quota.as_str());
        most.map(|most| Limit { quota, most, of_account: false })
    }

    /// Counts a request of a principal, or of an address without authentication.
    ///
    /// # Errors
    /// [`Refusal::TooManyRequests`] with the time after which to come again.
    pub fn take_request(&self, client: ClientKey) -> Result<(), Refusal> {
        let Some(limit) = self.limit(Quota::RequestsPerMinute) else { return Ok(()) };
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.take(client, limit.most, Instant::now()).map_err(|wait| {
            self.metrics.quota_refused(limit.quota);
            let Limit { most, .. } = limit;
            let name = limit.quota.as_str();
            let seconds = wait.as_secs();
            let ask = limit.ask();
            let reason = format!(
                "the quota of {most} requests a minute ({name}) is used up; try again in {seconds} s, or ask {ask}"
            );
            Refusal::TooManyRequests { reason, seconds }
        })
    }

    /// Checks that the region may have one more repository. Several that are created at the same moment may exceed the
    /// quota by the number of requests in progress.
    ///
    /// # Errors
    /// The reason in words for the client.
    pub fn check_new_repository(&self) -> Result<(), Refusal> {
        let Some(limit) = self.limit(Quota::Repositories) else { return Ok(()) };
        match self.storage().repositories() {
            Some(used) if used >= limit.most => {
                self.metrics.quota_refused(limit.quota);
                Err(Refusal::Forbidden(format!(
                    "the quota of {} repositories ({}) is used up: there are {used}; delete one, or ask {}",
                    limit.most,
                    limit.quota.as_str(),
                    limit.ask()
                )))
            }
            _ => Ok(()),
        }
    }

    /// The quotas on packs, by which created repositories are counted, too; `None` if there are none.
    pub fn on_packs(self: &Arc<Self>) -> Option<Arc<dyn StorageQuota>> {
        let counted = [Quota::Repositories, Quota::RepositoryBytes, Quota::AccountBytes];
        let is_limited = counted.into_iter().any(|quota| self.limit(quota).is_some());
        is_limited.then(|| Arc::new(PackQuota(self.clone())) as Arc<dyn StorageQuota>)
    }

    /// Reserves room for an LFS object.
    ///
    /// # Errors
    /// The reason in words for the client.
    pub fn reserve_lfs(self: &Arc<Self>, repository: RepositoryId, bytes: u64) -> Result<Reserved, String> {
        self.reserve_kind(repository, Kind::Lfs, bytes)
    }

    /// Checks that there is room for an LFS object, without reserving it. `None` is a repository that does not exist yet.
    ///
    /// # Errors
    /// The reason in words for the client.
    pub fn check_lfs(&self, repository: Option<RepositoryId>, bytes: u64) -> Result<(), String> {
        let usage = self.storage().usage(repository.unwrap_or(RepositoryId(uuid::Uuid::nil())), Kind::Lfs);
        self.refuse(usage, Kind::Lfs, bytes).map_or(Ok(()), Err)
    }

    fn reserve_kind(self: &Arc<Self>, repository: RepositoryId, kind: Kind, bytes: u64) -> Result<Reserved, String> {
        {
            // One lock for both, so that two requests cannot take the same room.
            let mut storage = self.storage();
            if let Some(reason) = self.refuse(storage.usage(repository, kind), kind, bytes) {
                return Err(reason);
            }
            storage.reserve(repository, kind, bytes);
        }
        Ok(Reserved::new(Held { quotas: self.clone(), repository, kind, bytes }))
    }

    /// The reason why more bytes are too many; `None` if they fit.
    fn refuse(&self, usage: storage::Usage, kind: Kind, bytes: u64) -> Option<String> {
        for (limit, used, what) in self.limits_on(kind, usage) {
            if used.saturating_add(bytes) > limit.most {
                self.metrics.quota_refused(limit.quota);
                return Some(limit.exceeded(what, used, bytes));
            }
        }
        None
    }

    /// Quotas on a kind of storage with the usage that they limit.
    fn limits_on(&self, kind: Kind, usage: storage::Usage) -> impl Iterator<Item = (Limit, u64, &'static str)> + '_ {
        let of_kind = STORAGE.into_iter().filter(move |(other, _, _)| *other == kind);
        of_kind.flat_map(move |(_, repository, region)| {
            let of_repository = self.limit(repository).map(|limit| (limit, usage.repository, "the repository"));
            let of_region = self.limit(region).zip(usage.region);
            let of_region = of_region.map(|(limit, used)| (limit, used, "all repositories together"));
            of_repository.into_iter().chain(of_region)
        })
    }

    /// Counts the region again and again until `stop` turns true, once a quota is set that needs it.
    pub async fn keep_counting(self: Arc<Self>, region: Region, mut stop: watch::Receiver<bool>) {
        loop {
            let wait = if self.needs_counts() { self.count(&region).await } else { RETRY_EVERY };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    fn needs_counts(&self) -> bool {
        let counted = [
            Quota::Repositories,
            Quota::RepositoryBytes,
            Quota::AccountBytes,
            Quota::RepositoryLfsBytes,
            Quota::AccountLfsBytes,
        ];
        counted.into_iter().any(|quota| self.limit(quota).is_some())
    }

    /// Counts the region. Returns the time until the next count.
    async fn count(&self, region: &Region) -> Duration {
        self.storage().begin_count();
        match region.usage().await {
            Ok(counted) => {
                self.storage().count(&counted);
                self.show();
                COUNT_EVERY
            }
            Err(error) => {
                tracing::warn!(%error, region = region.name(), "the usage of quotas cannot be counted; tried again");
                RETRY_EVERY
            }
        }
    }

    /// Shows limits and usage in the metrics.
    pub fn show(&self) {
        let (repositories, git, lfs) = {
            let storage = self.storage();
            (storage.repositories(), storage.used(Kind::Git), storage.used(Kind::Lfs))
        };
        let all = [(Quota::Repositories, repositories), (Quota::AccountBytes, git), (Quota::AccountLfsBytes, lfs)];
        for (quota, used) in all {
            if let (Some(used), Some(limit)) = (used, self.limit(quota)) {
                self.metrics.quota_used(quota, used, limit.most);
            }
        }
    }
}

impl Limit {
    /// Person who can raise the limit.
    fn ask(self) -> &'static str {
        if self.of_account { "an administrator of the account" } else { "the operator of this host" }
    }

    fn exceeded(self, what: &str, used: u64, bytes: u64) -> String {
        let name = self.quota.as_str();
        let [most, used, bytes] = [self.most, used, bytes].map(ByteSize::b);
        let ask = self.ask();
        format!(
            "the quota of {most} for {what} ({name}) is exceeded: {used} are used, and this adds {bytes}; ask {ask}"
        )
    }
}

/// The quotas on packs, as the engine asks for them.
#[derive(Debug)]
struct PackQuota(Arc<Quotas>);

impl StorageQuota for PackQuota {
    fn room(&self, room: PackRoom) -> u64 {
        let mut storage = self.0.storage();
        storage.set_held(room.repository, room.held, room.generation);
        let usage = storage.usage(room.repository, Kind::Git);
        drop(storage);
        let left = self.0.limits_on(Kind::Git, usage).map(|(limit, used, _)| limit.most.saturating_sub(used));
        left.min().unwrap_or(u64::MAX)
    }

    fn reserve(&self, room: PackRoom, bytes: u64) -> Result<Reserved, String> {
        self.0.reserve_kind(room.repository, Kind::Git, bytes)
    }
}

/// Bytes that are reserved.
#[derive(Debug)]
struct Held {
    quotas: Arc<Quotas>,
    repository: RepositoryId,
    kind: Kind,
    bytes: u64,
}

impl Reservation for Held {
    fn end(self: Box<Self>, kept: bool) {
        let Held { quotas, repository, kind, bytes } = *self;
        quotas.storage().end(repository, kind, bytes, kept);
        quotas.show();
    }
}
