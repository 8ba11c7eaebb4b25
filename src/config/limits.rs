//! How much a host takes on at a time, and how long it waits for whom. `[hosts.REGION.limits]`.

use std::net::SocketAddr;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

/// Limits of one host. Durations are written as `"90s"` or `"5m"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostLimits {
    /// Connections at a time; one more is closed at once.
    #[serde(deserialize_with = "count")]
    pub connections: usize,
    /// Git requests in progress at a time, those that wait for a slow client included. Each has a thread.
    #[serde(deserialize_with = "count")]
    pub requests: usize,
    /// Git requests that wait until one of these ends; one more is answered 503.
    #[serde(deserialize_with = "count_or_none")]
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

/// Longest duration of a setting: ten years. The clocks of this machine cannot count much further.
const LONGEST: Duration = Duration::from_secs(87_600 * 60 * 60);
/// Most of anything at a time.
const MAX_COUNT: usize = 1_000_000;

/// Reads a duration such as `90s` or `5m`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let span: SignedDuration =
        text.parse().map_err(|_| format!("`{text}` is not a duration as \"90s\", \"5m\" or \"1h 30m\""))?;
    let span = Duration::try_from(span).map_err(|_| "a duration is not negative".to_owned())?;
    if span > LONGEST {
        return Err(format!("a duration is at most 87600h (ten years), not {text}"));
    }
    Ok(span)
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// Reads a size such as `512MiB`, or a number of bytes.
pub(super) fn some_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ByteSize>, D::Error> {
    let size = match toml::Value::deserialize(deserializer)? {
        toml::Value::Integer(bytes) => u64::try_from(bytes).ok().map(ByteSize::b),
        toml::Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let wrong = || serde::de::Error::custom("a size is written as \"512MiB\", \"2 GiB\" or a number of bytes");
    size.map(Some).ok_or_else(wrong)
}

/// Reads an address and port.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |_| serde::de::Error::custom(format!("`{text}` is not an address and a port as \"127.0.0.1:8411\""));
    text.parse().map_err(wrong)
}

pub(super) fn some_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    count(deserializer).map(Some)
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match count_or_none(deserializer)? {
        0 => Err(serde::de::Error::custom(format!("0 lets nothing in: a number between 1 and {MAX_COUNT} is needed"))),
        count => Ok(count),
    }
}

fn count_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let count = i64::deserialize(deserializer)?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_COUNT);
    count.ok_or_else(|| serde::de::Error::custom(format!("a number between 0 and {MAX_COUNT} is needed")))
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
