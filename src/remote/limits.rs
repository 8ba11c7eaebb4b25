//! How much a Git server takes at a time, and how long it is waited for.

use std::time::Duration;

use gitferry_config::{Provider, RemoteLimits};

/// Most refs in one push where a provider is not known to take fewer: what a request of some megabytes holds.
const REFS_PER_PUSH: usize = 50_000;
/// Most bytes that are kept in a temporary file for a server that takes no requests of unknown length.
const SPOOL_BYTES: u64 = 8 << 30;
/// How long a connection may take to open.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A server that says or takes nothing for this long is gone; the check of a huge pack may take minutes.
const SILENCE: Duration = Duration::from_secs(600);

/// What one push may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushLimits {
    /// Most refs.
    pub refs_per_push: usize,
    /// Most bytes of a pack, where there is such a limit.
    pub bytes_per_push: Option<u64>,
    /// Most bytes of one blob, where there is such a limit: for messages, as nothing can be done about a larger one.
    pub bytes_per_blob: Option<u64>,
    /// Whether requests of unknown length are taken.
    pub chunked: bool,
    /// Most bytes of a request that are kept in a temporary file where they are not.
    pub spool_bytes: u64,
}

/// How long a server is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until a connection is open.
    pub connect: Duration,
    /// While nothing comes and nothing is taken.
    pub silence: Duration,
}

impl PushLimits {
    /// Those of a region of this process: one push is one change, of whatever size.
    pub fn none() -> Self {
        PushLimits {
            refs_per_push: usize::MAX,
            bytes_per_push: None,
            bytes_per_blob: None,
            chunked: true,
            spool_bytes: 0,
        }
    }

    /// Those of a provider, but for what the configuration says.
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

impl Patience {
    /// What the configuration says, or what is good for most.
    pub fn new(config: &RemoteLimits) -> Self {
        Patience { connect: config.connect_time.unwrap_or(CONNECT_TIME), silence: config.silence.unwrap_or(SILENCE) }
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
        let patience = Patience::new(&config);
        assert_eq!((patience.connect, patience.silence), (CONNECT_TIME, Duration::from_secs(3)));
    }
}
