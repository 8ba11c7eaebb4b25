//! Policy sets that are kept for the next request of their principal.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gitferry_base::capacity::capacity;
use gitferry_policy::PolicySet;
use lru::LruCache;

/// Largest number of policy sets that are kept. One takes a few hundred bytes, as it shares its policies.
pub const MAX_POLICY_SETS: usize = 20_000;

/// Policy sets of one state of an account, by the unique id of the user or the access key id of the session.
pub(crate) struct PolicySets(Mutex<LruCache<String, Arc<PolicySet>>>);

impl Default for PolicySets {
    fn default() -> Self {
        PolicySets(Mutex::new(LruCache::new(capacity::<MAX_POLICY_SETS>())))
    }
}

impl PolicySets {
    pub(crate) fn get(&self, key: &str, make: impl FnOnce() -> PolicySet) -> Arc<PolicySet> {
        if let Some(kept) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            return kept.clone();
        }
        #[cfg(test)]
        work::count();
        let made = Arc::new(make());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(key.to_owned(), made.clone());
        made
    }
}

impl fmt::Debug for PolicySets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicySets({} kept)", self.0.lock().unwrap_or_else(PoisonError::into_inner).len())
    }
}

/// Count of policy sets that a test's thread puts together.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local!(static SETS: Cell<u64> = const { Cell::new(0) });

    pub(super) fn count() {
        SETS.set(SETS.get() + 1);
    }

    /// Policy sets that `action` puts together.
    pub(crate) fn of<T>(action: impl FnOnce() -> T) -> (T, u64) {
        let before = SETS.get();
        let value = action();
        (value, SETS.get() - before)
    }
}
