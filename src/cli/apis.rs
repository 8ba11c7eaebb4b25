//! The APIs of AWS of a host with an account.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use gitferry_api::{Apis, IssuerKeys, IssuerSettings};
use gitferry_base::certificates::read_certificates;
use gitferry_codecommit::{CloneUrls, Limits, Settings};
use gitferry_config::{Config, HostConfig, IssuerConfig};
use gitferry_engine::announce::Sink;
use gitferry_engine::region::Region;
use gitferry_identity::Identities;

use super::failure::Failure;

/// Opens the APIs of the host of a region, whose account `identities` follow.
pub fn open(
    config: &Config,
    region: &Region,
    identities: Arc<Identities>,
    events: Arc<dyn Sink>,
) -> Result<Arc<Apis>, Failure> {
    let mut issuers = BTreeMap::new();
    for (issuer, IssuerConfig { address, ca }) in &config.account.issuers {
        let read = |ca: &PathBuf| read_certificates("the certificates of an identity provider", &config.path(ca));
        let certificates = ca.as_ref().map(read).transpose()?;
        issuers.insert(issuer.clone(), IssuerSettings { address: *address, certificates });
    }
    let urls = config.hosts.iter().map(|(region, host)| (region.clone(), host.url())).collect();
    Ok(Arc::new(Apis::new(region.clone(), identities, events, urls, IssuerKeys::new(issuers))))
}

/// Settings of CodeCommit's API on the host of a region.
pub fn codecommit(config: &Config, region: &str, host: &HostConfig) -> Settings {
    let own = &host.codecommit;
    let url = host.url();
    let http = own.clone_url_http.clone().unwrap_or_else(|| format!("{}/{{name}}", url.trim_end_matches('/')));
    let usual = || host.ssh.map(|address| format!("ssh://{}:{}/{{name}}", host_name(&url), address.port()));
    Settings {
        clone_urls: CloneUrls { http, ssh: own.clone_url_ssh.clone().or_else(usual) },
        hosts: config.hosts.iter().map(|(region, host)| (region.clone(), host.url())).collect(),
        aws_region: config.regions.get(region).and_then(|region| region.aws.region.clone()),
        limits: Limits { page_items: own.page_items, batch_items: own.batch_items, file_bytes: own.file_size.as_u64() },
    }
}

/// Host name in a URL, without a port.
fn host_name(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((name, _)) if !authority.ends_with(']') => name,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts() {
        for (url, name) in [
            ("http://127.0.0.1:8411", "127.0.0.1"),
            ("https://git.example/path:1", "git.example"),
            ("https://[::1]:443/", "[::1]"),
            ("https://[::1]", "[::1]"),
        ] {
            assert_eq!(host_name(url), name);
        }
    }
}
