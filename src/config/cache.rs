//! Where packs are kept on this machine, when the object store is elsewhere.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use serde::Deserialize;

use gitferry_engine::region::cache::CacheOptions;

/// `cache = { dir = "/var/cache/gitferry", max_bytes = "50 GiB" }` of a region. What is left out is as in
/// [`CacheOptions::default_for`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// Its folder, relative to the configuration. One process at a time has it; others work apart.
    #[serde(default)]
    pub dir: Option<PathBuf>,
    /// How large it gets.
    #[serde(default, deserialize_with = "super::limits::some_size")]
    pub max_bytes: Option<ByteSize>,
}

impl CacheConfig {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == CacheConfig::default()
    }

    /// With what it says instead of the defaults; `folder` is what a relative path is relative to.
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
