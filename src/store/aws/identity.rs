//! Credentials that a service calls expired are forgotten, so that the next attempt asks for new ones. The SDK's
//! own cache keeps them until they said they would end, whatever the services say: a session that was revoked, or
//! a clock that is wrong, would cost an hour.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use aws_config::identity::IdentityCache;
use aws_smithy_runtime_api::client::identity::{
    IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// How often a service of this process has called credentials expired.
static EXPIRED: AtomicU64 = AtomicU64::new(0);

/// A service calls the credentials of a request expired: whoever asks next gets them from where they come from.
pub fn forget() {
    EXPIRED.fetch_add(1, Ordering::Relaxed);
}

/// The SDK's cache, empty again after [`forget`].
#[derive(Debug)]
pub(super) struct Forgetful(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    /// What was known of expired ones when it was empty.
    since: u64,
    cache: SharedIdentityCache,
}

impl Forgetful {
    pub(super) fn new() -> Self {
        Forgetful(Mutex::new(Kept::empty(EXPIRED.load(Ordering::Relaxed))))
    }

    fn current(&self) -> SharedIdentityCache {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = EXPIRED.load(Ordering::Relaxed);
        if kept.since != expired {
            *kept = Kept::empty(expired);
        }
        kept.cache.clone()
    }
}

impl Kept {
    fn empty(since: u64) -> Self {
        Kept { since, cache: IdentityCache::lazy().build() }
    }
}

impl ResolveCachedIdentity for Forgetful {
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
