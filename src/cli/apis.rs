//! The APIs of AWS of a host with an account.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use gitferry_api::{Apis, IssuerKeys, IssuerSettings};
use gitferry_base::certificates::read_certificates;
use gitferry_config::{Config, IssuerConfig};
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
