//! Settings of the local cache of packs.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use serde::Deserialize;

use gitferry_engine::region::cache::CacheOptions;

/// `cache = { dir = "/var/cache/gitferry", max_bytes = "50 GiB" }` of a region. Omitted settings have the values of
/// [`CacheOptions::default_for`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// Folder of the cache, relative to the configuration. One process at a time owns the folder; others use their own.
    #[serde(default)]
    pub dir: Option<PathBuf>,
    /// Largest size of the cache. With 0, it keeps the packs that are in use, and no others.
    #[serde(default, deserialize_with = "super::limits::some_size")]
    pub max_bytes: Option<ByteSize>,
}

impl CacheConfig {
    /// Returns true if no setting is given.
    pub fn is_default(&self) -> bool {
        *self == CacheConfig::default()
    }

    /// Applies the settings to `defaults`. A relative `dir` is resolved against `folder`.
    pub fn options(&self, folder: &Path, defaults: &CacheOptions) -> CacheOptions {
        CacheOptions {
            dir: self.dir.as_ref().map_or_else(|| defaults.dir.clone(), |dir| folder.join(dir)),
            max_bytes: self.max_bytes.map_or(defaults.max_bytes, |size| size.as_u64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_default() {
        let defaults = CacheOptions { dir: "/default".into(), max_bytes: 7 };
        let parsed = |text: &str| {
            let config: CacheConfig = toml::from_str(text).unwrap();
            config.options(Path::new("/etc"), &defaults)
        };
        assert_eq!(parsed(""), defaults);
        let all = CacheOptions { dir: "/etc/packs".into(), max_bytes: 2 << 30 };
        assert_eq!(parsed("dir = \"packs\"\nmax_bytes = \"2 GiB\""), all);
        assert_eq!(parsed("dir = \"/packs\"").dir, Path::new("/packs"));
        assert!(toml::from_str::<CacheConfig>("size = 1").is_err());
        assert!(toml::from_str::<CacheConfig>("max_bytes = \"much\"").is_err());
    }
}
