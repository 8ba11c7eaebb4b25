//! Capacities of caches.

use std::num::NonZeroUsize;

/// Returns `N`, which the compiler proves to be more than zero.
pub const fn capacity<const N: usize>() -> NonZeroUsize {
    const { assert!(N > 0, "a cache holds something") };
    NonZeroUsize::MIN.saturating_add(N - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_is_its_number() {
        assert_eq!([capacity::<1>(), capacity::<1_000>()].map(NonZeroUsize::get), [1, 1_000]);
    }
}
