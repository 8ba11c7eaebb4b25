//! URLs of the hosts of all regions.

use std::collections::BTreeMap;

/// URLs of the hosts, by region. Those of some regions may be unknown.
#[derive(Debug)]
pub struct HostUrls {
    here: String,
    urls: BTreeMap<String, String>,
}

impl HostUrls {
    /// The URLs as the host of region `here` knows them.
    pub fn new(here: &str, urls: BTreeMap<String, String>) -> Self {
        HostUrls { here: here.into(), urls }
    }

    /// URL of this host.
    pub fn own(&self) -> Option<&str> {
        self.urls.get(&self.here).map(String::as_str)
    }

    /// URL of a repository on the host of `region`.
    pub fn repository(&self, region: &str, name: &str) -> Option<String> {
        self.urls.get(region).map(|url| format!("{}/{name}", url.trim_end_matches('/')))
    }

    /// URL of a repository on the host of `region`, if it is another URL than that of this host. All regions may share
    /// one.
    pub fn repository_elsewhere(&self, region: &str, name: &str) -> Option<String> {
        let shared = self.urls.get(region).map(String::as_str) == self.own();
        self.repository(region, name).filter(|_| !shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(urls: &[(&str, &str)]) -> HostUrls {
        HostUrls::new("us", urls.iter().map(|(region, url)| ((*region).into(), (*url).into())).collect())
    }

    #[test]
    fn a_repository_is_elsewhere_only_at_another_url() {
        let two = urls(&[("us", "https://us.example"), ("eu", "https://eu.example/")]);
        assert_eq!(two.own(), Some("https://us.example"));
        assert_eq!(two.repository_elsewhere("eu", "app").as_deref(), Some("https://eu.example/app"));
        assert_eq!(two.repository_elsewhere("asia", "app"), None);
        let shared = urls(&[("us", "https://git.example"), ("eu", "https://git.example")]);
        assert_eq!(shared.repository_elsewhere("eu", "app"), None);
        assert_eq!(shared.repository("eu", "app").as_deref(), Some("https://git.example/app"));
    }
}
