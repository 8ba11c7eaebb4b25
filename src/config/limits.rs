//! `[hosts.REGION.limits]`: admission control and timeouts of a host, and parsers of durations, sizes and counts.

use std::net::SocketAddr;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

/// Limits of one host. Durations have the form `"90s"` or `"5m"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostLimits {
    /// Most open connections. Further ones are closed at once.
    #[serde(deserialize_with = "count")]
    pub connections: usize,
    /// Most Git requests in progress, those that wait for a slow client included. Each occupies a thread.
    #[serde(deserialize_with = "count")]
    pub requests: usize,
    /// Most Git requests that wait for admission. Further ones are answered with 503.
    #[serde(deserialize_with = "count_or_none")]
    pub waiting: usize,
    /// Longest wait for admission, after which a request is answered with 503.
    #[serde(deserialize_with = "duration")]
    pub longest_wait: Duration,
    /// Idle timeout of a request's body. Must be long: Git sends the commands of a large push and then nothing while it
    /// computes the pack.
    #[serde(deserialize_with = "duration")]
    pub request_silence: Duration,
    /// Idle timeout of an answer that the client does not read, and of a connection without requests.
    #[serde(deserialize_with = "duration")]
    pub response_silence: Duration,
    /// Time for running requests to complete after the host begins to shut down.
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
    /// Longest time that the answer to a forwarded push waits for this region to have the change.
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

/// Longest duration of a setting: ten years, so that adding it to a time cannot overflow.
const LONGEST: Duration = Duration::from_secs(87_600 * 60 * 60);
/// Largest count of a setting.
const MAX_COUNT: usize = 1_000_000;

/// Reads a duration such as `90s` or `5m`.
///
/// # Errors
/// Returns the violated rule with the expected form.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let span: SignedDuration =
        text.parse().map_err(|_| format!("`{text}` is not a duration such as \"90s\", \"5m\" or \"1h 30m\""))?;
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
    let wrong = || serde::de::Error::custom("a size has the form \"512MiB\", \"2 GiB\" or a number of bytes");
    size.map(Some).ok_or_else(wrong)
}

/// Reads an address and port.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |_| serde::de::Error::custom(format!("`{text}` is not an address and port such as \"127.0.0.1:8411\""));
    text.parse().map_err(wrong)
}

pub(super) fn some_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    address(deserializer).map(Some)
}

pub(super) fn some_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    count(deserializer).map(Some)
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match count_or_none(deserializer)? {
        0 => Err(serde::de::Error::custom(format!("0 admits nothing: use a number between 1 and {MAX_COUNT}"))),
        count => Ok(count),
    }
}

fn count_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let count = i64::deserialize(deserializer)?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_COUNT);
    count.ok_or_else(|| serde::de::Error::custom(format!("use a number between 0 and {MAX_COUNT}")))
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
