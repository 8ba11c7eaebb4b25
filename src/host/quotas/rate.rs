//! Requests a minute of each principal: token buckets. Pure, but for the time that the caller gives.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::admission::fair_share::ClientKey;

/// Most principals whose requests are counted. Beyond it, those with the most left are forgotten: they start anew.
const MAX_CLIENTS: usize = 10_000;
/// Period of the limit.
const PERIOD: Duration = Duration::from_secs(60);

/// Requests of one principal.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Requests that are left, with fractions.
    left: f64,
    at: Instant,
}

/// Requests of all principals.
#[derive(Debug, Default)]
pub struct Rates(HashMap<ClientKey, Bucket>);

impl Rates {
    /// Takes a request of a principal that may make `limit` in a minute. They may come at once, and grow back evenly.
    ///
    /// # Errors
    /// The time after which the next request is accepted, at least a second.
    pub fn take(&mut self, client: ClientKey, limit: u64, now: Instant) -> Result<(), Duration> {
        let limit = limit.max(1) as f64;
        let per_second = limit / PERIOD.as_secs_f64();
        if self.0.len() >= MAX_CLIENTS && !self.0.contains_key(&client) {
            self.forget(now, per_second);
        }
        let bucket = self.0.entry(client).or_insert(Bucket { left: limit, at: now });
        let grown = now.saturating_duration_since(bucket.at).as_secs_f64() * per_second;
        bucket.left = (bucket.left + grown).min(limit);
        bucket.at = now;
        if bucket.left < 1.0 {
            let seconds = ((1.0 - bucket.left) / per_second).ceil().max(1.0);
            return Err(Duration::from_secs_f64(seconds));
        }
        bucket.left -= 1.0;
        Ok(())
    }

    /// Forgets the half with the most requests left.
    fn forget(&mut self, now: Instant, per_second: f64) {
        let left = |bucket: &Bucket| bucket.left + now.saturating_duration_since(bucket.at).as_secs_f64() * per_second;
        let mut all: Vec<f64> = self.0.values().map(left).collect();
        let middle = all.len() / 2;
        let (_, median, _) = all.select_nth_unstable_by(middle, f64::total_cmp);
        let median = *median;
        self.0.retain(|_, bucket| left(bucket) < median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> ClientKey {
        ClientKey::Principal(name.into())
    }

    #[test]
    fn requests_beyond_the_limit_wait_and_others_are_not_affected() {
        let mut rates = Rates::default();
        let start = Instant::now();
        for _ in 0..30 {
            rates.take(client("ann"), 30, start).unwrap();
        }
        assert_eq!(rates.take(client("ann"), 30, start), Err(Duration::from_secs(2)));
        rates.take(client("bob"), 30, start).unwrap();
        let later = start + Duration::from_secs(2);
        rates.take(client("ann"), 30, later).unwrap();
        assert!(rates.take(client("ann"), 30, later).is_err());
        let much_later = start + Duration::from_secs(3_600);
        let taken = (0..100).take_while(|_| rates.take(client("ann"), 30, much_later).is_ok()).count();
        assert_eq!(taken, 30);
    }

    #[test]
    fn the_memory_of_rates_is_bounded_and_those_who_used_most_are_remembered() {
        let mut rates = Rates::default();
        let now = Instant::now();
        while rates.take(client("busy"), 60, now).is_ok() {}
        for number in 0..3 * MAX_CLIENTS {
            rates.take(client(&number.to_string()), 60, now).unwrap();
            assert!(rates.0.len() <= MAX_CLIENTS);
        }
        assert!(rates.take(client("busy"), 60, now).is_err());
    }
}
