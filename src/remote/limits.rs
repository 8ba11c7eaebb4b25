//! Push limits and timeouts of a Git server.

use std::time::Duration;

use gitferry_config::{Provider, RemoteLimits};

/// Most refs in one push to a provider without a known lower limit: a request of a few megabytes.
const REFS_PER_PUSH: usize = 50_000;
/// Most bytes of a push that are spooled to a temporary file for a server that refuses chunked requests.
const SPOOL_BYTES: u64 = 8 << 30;
/// Limit for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time without progress in either direction. Generous, as a server may check a huge pack for minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Limits of one push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushLimits {
    /// Most refs.
    pub refs_per_push: usize,
    /// Most bytes of a pack; `None` if unlimited.
    pub bytes_per_push: Option<u64>,
    /// Most bytes of one blob; `None` if unlimited. Used in messages only: a larger blob cannot be split.
    pub bytes_per_blob: Option<u64>,
    /// True if the server accepts requests of unknown length (`Transfer-Encoding: chunked`).
    pub chunked: bool,
    /// Most bytes of a request that are spooled to a temporary file if the server refuses chunked requests.
    pub spool_bytes: u64,
}

/// Time limits of a conversation with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Limit for opening a connection.
    pub connect: Duration,
    /// Longest time in which no byte is received or accepted.
    pub idle: Duration,
}

impl PushLimits {
    /// Limits of a region of this process, where one push is one change of any size.
    pub fn none() -> Self {
        PushLimits {
            refs_per_push: usize::MAX,
            bytes_per_push: None,
            bytes_per_blob: None,
            chunked: true,
            spool_bytes: 0,
        }
    }

    /// Published limits of `provider`, overridden by the configuration.
    pub fn new(provider: Provider, config: &RemoteLimits) -> Self {
        let (refs, bytes, blob) = match provider {
            // "Quotas in AWS CodeCommit": refs in a single push, size of a Git blob.
            Provider::CodeCommit => (4_000, None, Some(2 << 30)),
            // "Repository limits" of GitHub: 2 GiB in a push, 100 MiB in a file.
            Provider::GitHub => (REFS_PER_PUSH, Some(2 << 30), Some(100 << 20)),
            Provider::GitLab | Provider::Gitea | Provider::Gitferry | Provider::None => (REFS_PER_PUSH, None, None),
        };
        PushLimits {
            refs_per_push: config.refs_per_push.unwrap_or(refs),
            bytes_per_push: config.bytes_per_push.map(|size| size.as_u64()).or(bytes),
            bytes_per_blob: blob,
            chunked: config.chunked.unwrap_or(true),
            spool_bytes: config.spool.map_or(SPOOL_BYTES, |size| size.as_u64()),
        }
    }
}

impl Timeouts {
    /// Configured time limits, with defaults.
    pub fn new(config: &RemoteLimits) -> Self {
        Timeouts {
            connect: config.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            idle: config.idle_timeout.unwrap_or(IDLE_TIMEOUT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_the_last_word() {
        let none = RemoteLimits::default();
        let codecommit = PushLimits::new(Provider::CodeCommit, &none);
        assert_eq!((codecommit.refs_per_push, codecommit.bytes_per_blob), (4_000, Some(2 << 30)));
        assert_eq!(PushLimits::new(Provider::GitHub, &none).bytes_per_push, Some(2 << 30));
        assert!(PushLimits::new(Provider::None, &none).chunked);
        let text = "refs_per_push = 7\nbytes_per_push = \"1MiB\"\nchunked = false\nspool = \"1KiB\"\nsilence = \"3s\"";
        let config: RemoteLimits = toml::from_str(text).unwrap();
        let limits = PushLimits::new(Provider::CodeCommit, &config);
        assert_eq!((limits.refs_per_push, limits.bytes_per_push), (7, Some(1 << 20)));
        assert_eq!((limits.chunked, limits.spool_bytes), (false, 1024));
        let timeouts = Timeouts::new(&config);
        assert_eq!((timeouts.connect, timeouts.idle), (CONNECT_TIMEOUT, Duration::from_secs(3)));
    }
}
