//! `[hosts.REGION.quotas]`: limits on what the clients of a host may use.

use bytesize::ByteSize;
use serde::Deserialize;

use super::limits::{some_count, some_size};

/// Quotas of a host's region. An absent one is no limit. Settings of the account (`gitferry iam quota set`) override
/// those of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaConfig {
    /// Repositories of the region.
    #[serde(deserialize_with = "some_count")]
    pub repositories: Option<usize>,
    /// Bytes of the packs of one repository.
    #[serde(deserialize_with = "some_size")]
    pub repository_size: Option<ByteSize>,
    /// Bytes of the packs of all repositories.
    #[serde(deserialize_with = "some_size")]
    pub size: Option<ByteSize>,
    /// Bytes of the LFS objects of one repository.
    #[serde(deserialize_with = "some_size")]
    pub repository_lfs_size: Option<ByteSize>,
    /// Bytes of the LFS objects of all repositories.
    #[serde(deserialize_with = "some_size")]
    pub lfs_size: Option<ByteSize>,
    /// Requests a minute of one principal.
    #[serde(deserialize_with = "some_count")]
    pub requests_per_minute: Option<usize>,
}

impl QuotaConfig {
    /// Limit of the quota that the settings of an account call by this name; `None` for none.
    pub fn limit(&self, name: &str) -> Option<u64> {
        let bytes = |size: Option<ByteSize>| size.map(|size| size.as_u64());
        let count = |count: Option<usize>| count.map(|count| count as u64);
        match name {
            "RepositoriesQuota" => count(self.repositories),
            "RepositoryBytesQuota" => bytes(self.repository_size),
            "AccountBytesQuota" => bytes(self.size),
            "RepositoryLfsBytesQuota" => bytes(self.repository_lfs_size),
            "AccountLfsBytesQuota" => bytes(self.lfs_size),
            "RequestsPerMinuteQuota" => count(self.requests_per_minute),
            _ => None,
        }
    }

    /// Returns true if nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == QuotaConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_counts_and_sizes() {
        let quotas: QuotaConfig =
            toml::from_str("repositories = 10\nsize = \"1GiB\"\nrequests_per_minute = 60").unwrap();
        assert_eq!((quotas.repositories, quotas.size), (Some(10), Some(ByteSize::gib(1))));
        assert!(!quotas.is_empty() && toml::from_str::<QuotaConfig>("").unwrap().is_empty());
        for bad in ["repositories = 0", "size = \"much\"", "requests = 1", "requests_per_minute = -1"] {
            assert!(toml::from_str::<QuotaConfig>(bad).is_err(), "{bad}");
        }
    }
}
