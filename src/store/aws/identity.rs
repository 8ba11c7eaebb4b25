//! Identity cache that drops credentials once a service reports them as expired.
//!
//! The SDK's own cache keeps credentials until their stated expiry, so a revoked session or a wrong clock would fail
//! requests for up to an hour.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use aws_config::identity::IdentityCache;
use aws_smithy_runtime_api::client::identity::{
    IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// Number of times that a service has reported expired credentials to this process.
static EXPIRED: AtomicU64 = AtomicU64::new(0);

/// Invalidates all cached credentials after a service has reported some as expired.
pub fn invalidate() {
    EXPIRED.fetch_add(1, Ordering::Relaxed);
}

/// The SDK's cache, cleared after each [`invalidate`].
#[derive(Debug)]
pub(super) struct InvalidatingCache(Mutex<Generation>);

#[derive(Debug)]
struct Generation {
    /// Value of [`EXPIRED`] when the cache was created.
    expired: u64,
    cache: SharedIdentityCache,
}

impl InvalidatingCache {
    pub(super) fn new() -> Self {
        InvalidatingCache(Mutex::new(Generation::new(EXPIRED.load(Ordering::Relaxed))))
    }

    fn current(&self) -> SharedIdentityCache {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = EXPIRED.load(Ordering::Relaxed);
        if current.expired != expired {
            *current = Generation::new(expired);
        }
        current.cache.clone()
    }
}

impl Generation {
    fn new(expired: u64) -> Self {
        Generation { expired, cache: IdentityCache::lazy().build() }
    }
}

impl ResolveCachedIdentity for InvalidatingCache {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        config: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let cache = self.current();
        IdentityFuture::new(async move { cache.resolve_cached_identity(resolver, components, config).await })
    }
}
