//! How much a host takes on at a time, and how long it waits for whom. `[hosts.REGION.limits]`.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

/// Limits of one host. Durations are written as `"90s"` or `"5m"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostLimits {
    /// Connections at a time; one more is closed at once.
    pub connections: usize,
    /// Git requests in progress at a time, those that wait for a slow client included. Each has a thread.
    pub requests: usize,
    /// Git requests that wait until one of these ends; one more is answered 503.
    pub waiting: usize,
    /// How long they wait before they are answered 503.
    #[serde(deserialize_with = "duration")]
    pub longest_wait: Duration,
    /// A request's body of which nothing comes for this long has failed. Longer than one would think: Git sends
    /// the commands of a large push, then nothing while it looks for what to send.
    #[serde(deserialize_with = "duration")]
    pub request_silence: Duration,
    /// A client that takes nothing of its answer for this long is gone, and a connection on which nobody asks
    /// for anything is closed.
    #[serde(deserialize_with = "duration")]
    pub response_silence: Duration,
    /// How long running requests may take to end once the host has been told to stop.
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
    /// How long the answer to a forwarded push waits for this region to have it.
    #[serde(deserialize_with = "duration")]
    pub forward_wait: Duration,
}

impl Default for HostLimits {
    fn default() -> Self {
        HostLimits {
            connections: 1024,
            requests: 256,
            waiting: 1024,
            longest_wait: Duration::from_secs(30),
            request_silence: Duration::from_secs(300),
            response_silence: Duration::from_secs(60),
            grace: Duration::from_secs(60),
            forward_wait: Duration::from_secs(30),
        }
    }
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let span = SignedDuration::deserialize(deserializer)?;
    Duration::try_from(span).map_err(|_| serde::de::Error::custom("a duration is not negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_words() {
        let limits: HostLimits = toml::from_str("grace = \"1m 30s\"\nrequests = 3").unwrap();
        assert_eq!((limits.grace, limits.requests), (Duration::from_secs(90), 3));
        assert_eq!(limits.waiting, HostLimits::default().waiting);
        for bad in ["grace = \"-1s\"", "grace = 5", "grace = \"soon\"", "requests = -1", "patience = \"1s\""] {
            assert!(toml::from_str::<HostLimits>(bad).is_err(), "{bad}");
        }
    }
}
