//! Limit on failed attempts, by user name and address. A client that guesses is refused before any work is done for it.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use gitferry_base::capacity::capacity;
use jiff::{SignedDuration, Timestamp};
use lru::LruCache;

/// Failures of one user name from one address within [`FAILURE_WINDOW`] before it is refused.
pub const MAX_FAILURES: u32 = 20;
/// Time after the first failure in which failures count.
pub const FAILURE_WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// Largest number of pairs of user name and address that are counted. One takes about 100 bytes.
pub const MAX_COUNTED: usize = 65_536;

#[derive(Clone, Copy, Debug)]
struct Failures {
    first: Timestamp,
    count: u32,
}

/// Counts of failures. Pairs are kept by a keyed hash, so that no client chooses which pairs collide.
pub struct Throttle {
    counts: Mutex<LruCache<u64, Failures>>,
    hasher: RandomState,
}

/// Too many attempts failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// Time until the next attempt is looked at.
    pub retry_after: SignedDuration,
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle { counts: Mutex::new(LruCache::new(capacity::<MAX_COUNTED>())), hasher: RandomState::new() }
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Throttle({} counted)", self.counts.lock().unwrap_or_else(PoisonError::into_inner).len())
    }
}

/// Address as one client has it: for IPv6 its network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

impl Throttle {
    fn key(&self, user: &str, address: IpAddr) -> u64 {
        self.hasher.hash_one((user, network(address)))
    }

    /// Checks that a user name may be tried from an address.
    ///
    /// # Errors
    /// [`TooMany`] until the window of its first failure ends.
    pub fn check(&self, user: &str, address: IpAddr, now: Timestamp) -> Result<(), TooMany> {
        let key = self.key(user, address);
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failures) = counts.peek(&key) else { return Ok(()) };
        let age = now.duration_since(failures.first);
        if failures.count < MAX_FAILURES || age >= FAILURE_WINDOW || age.is_negative() {
            return Ok(());
        }
        Err(TooMany { retry_after: FAILURE_WINDOW - age })
    }

    /// Counts a failure.
    pub fn failed(&self, user: &str, address: IpAddr, now: Timestamp) {
        let key = self.key(user, address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Failures { first: now, count: 0 };
        let failures = counts.get_or_insert_mut(key, || fresh);
        let age = now.duration_since(failures.first);
        if age >= FAILURE_WINDOW || age.is_negative() {
            *failures = fresh;
        }
        failures.count = failures.count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn a_hundred_thousand_wrong_passwords_are_refused_but_for_the_first() {
        let throttle = Throttle::default();
        let guesser: IpAddr = "203.0.113.7".parse().unwrap();
        let tried = (0..100_000).filter(|_| {
            let admitted = throttle.check("jane", guesser, at(1)).is_ok();
            if admitted {
                throttle.failed("jane", guesser, at(1));
            }
            admitted
        });
        assert_eq!(tried.count(), MAX_FAILURES as usize);
        assert_eq!(
            throttle.check("jane", guesser, at(31)),
            Err(TooMany { retry_after: SignedDuration::from_secs(30) })
        );
        throttle.check("jane", "203.0.113.8".parse().unwrap(), at(2)).unwrap();
        throttle.check("bob", guesser, at(2)).unwrap();
        throttle.check("jane", guesser, at(61)).unwrap();
        throttle.failed("jane", guesser, at(61));
        throttle.check("jane", guesser, at(61)).unwrap();
    }

    #[test]
    fn the_table_is_bounded_and_networks_of_version_6_are_one_client() {
        let throttle = Throttle::default();
        for number in 0..100_000_u32 {
            throttle.failed(&number.to_string(), IpAddr::V4(number.into()), at(0));
        }
        assert_eq!(throttle.counts.lock().unwrap().len(), MAX_COUNTED);
        for number in 0..u128::from(MAX_FAILURES) {
            throttle.failed("jane", IpAddr::V6((0x2001_0db8_u128 << 96 | number).into()), at(0));
        }
        throttle.check("jane", "2001:db8::ffff".parse().unwrap(), at(0)).unwrap_err();
        throttle.check("jane", "2001:db8:0:1::".parse().unwrap(), at(0)).unwrap();
    }
}
