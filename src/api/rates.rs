//! Limits on the rate of requests, for each client: a bucket of tokens that fills over time.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use gitferry_base::capacity::capacity;
use lru::LruCache;
use tokio::time::Instant;

/// Largest number of clients that are counted. One takes about 60 bytes; the one that was seen longest ago is forgotten.
pub const MAX_COUNTED: usize = 65_536;

/// Rate that a client may keep up, and the requests that it may make at once.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Requests at once.
    pub burst: f64,
    /// Requests a second.
    pub per_second: f64,
}

/// Requests of one network (an IPv4 address, or a /64 of IPv6), before their signature is looked at.
pub const OF_NETWORK: Rate = Rate { burst: 500.0, per_second: 100.0 };
/// Requests of one principal.
pub const OF_PRINCIPAL: Rate = Rate { burst: 200.0, per_second: 50.0 };
/// Requests without credentials, of one network: each may cost a request to an identity provider.
pub const OF_STRANGER: Rate = Rate { burst: 20.0, per_second: 2.0 };

/// Client whose requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted<'a> {
    /// All requests of a network.
    Network(IpAddr),
    /// Requests of a principal, by its unique id.
    Principal(&'a str),
    /// Requests of a network without credentials.
    Stranger(IpAddr),
}

impl Counted<'_> {
    fn rate(&self) -> Rate {
        match self {
            Counted::Network(_) => OF_NETWORK,
            Counted::Principal(_) => OF_PRINCIPAL,
            Counted::Stranger(_) => OF_STRANGER,
        }
    }

    /// The same with the address of a whole network.
    fn canonical(self) -> Self {
        match self {
            Counted::Network(address) => Counted::Network(network(address)),
            Counted::Stranger(address) => Counted::Stranger(network(address)),
            principal @ Counted::Principal(_) => principal,
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// Buckets of all clients, by a keyed hash, so that no client chooses which ones collide.
pub struct Rates {
    buckets: Mutex<LruCache<u64, Bucket>>,
    hasher: RandomState,
}

impl Default for Rates {
    fn default() -> Self {
        Rates { buckets: Mutex::new(LruCache::new(capacity::<MAX_COUNTED>())), hasher: RandomState::new() }
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rates({} counted)", self.buckets.lock().unwrap_or_else(PoisonError::into_inner).len())
    }
}

impl Rates {
    /// Takes one token of a client. Returns false if it has none left.
    pub fn take(&self, client: Counted<'_>, now: Instant) -> bool {
        let client = client.canonical();
        let rate = client.rate();
        let key = self.hasher.hash_one(client);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get_or_insert_mut(key, || Bucket { tokens: rate.burst, filled: now });
        let gained = now.saturating_duration_since(bucket.filled).as_secs_f64() * rate.per_second;
        bucket.tokens = (bucket.tokens + gained).min(rate.burst);
        bucket.filled = now;
        let has_one = bucket.tokens >= 1.0;
        if has_one {
            bucket.tokens -= 1.0;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_client_has_a_burst_and_then_its_rate_and_takes_nothing_from_others() {
        let rates = Rates::default();
        let start = Instant::now();
        let stranger = Counted::Stranger("203.0.113.7".parse().unwrap());
        let granted = (0..100).filter(|_| rates.take(stranger, start)).count();
        assert_eq!(granted, OF_STRANGER.burst as usize);
        let later = start + Duration::from_secs(3);
        let granted = (0..100).filter(|_| rates.take(stranger, later)).count();
        assert_eq!(granted, 3 * OF_STRANGER.per_second as usize);
        for other in [
            Counted::Stranger("203.0.113.8".parse().unwrap()),
            Counted::Network("203.0.113.7".parse().unwrap()),
            Counted::Principal("AIDA"),
        ] {
            assert!(rates.take(other, later), "{other:?}");
        }
    }

    #[test]
    fn a_network_of_version_6_is_one_client_and_the_table_is_bounded() {
        let rates = Rates::default();
        let start = Instant::now();
        let of = |number: u128| Counted::Stranger(IpAddr::V6((0x2001_0db8_u128 << 96 | number).into()));
        let granted = (0..100).filter(|number| rates.take(of(*number), start)).count();
        assert_eq!(granted, OF_STRANGER.burst as usize);
        for number in 0..100_000_u32 {
            rates.take(Counted::Network(IpAddr::V4(number.into())), start);
        }
        assert_eq!(rates.buckets.lock().unwrap().len(), MAX_COUNTED);
    }
}
