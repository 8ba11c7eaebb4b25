//! Usage of a region and the quotas that limit it.

use gitferry_config::{Config, QuotaConfig};
use gitferry_engine::region::Region;
use gitferry_engine::region::reserved::ACCOUNT;
use gitferry_engine::region::usage::{RegionUsage, RepositoryUsage};
use gitferry_iam::model::{NO_LIMIT, Quota, Quotas};
use gitferry_identity::Administration;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output;

/// Usage of one region.
#[derive(Debug)]
pub struct Usage {
    region: String,
    counted: RegionUsage,
    limits: Vec<(Quota, u64)>,
}

impl Usage {
    /// Counts a region: one read of a manifest and one query of LFS rows for each repository.
    pub async fn of(config: &Config, region: &Region) -> Result<Usage, Failure> {
        let counted = region.usage().await?;
        let account = match region.repositories().find(ACCOUNT).await? {
            Some(_) => Administration::open(region, Vec::new()).await?.account().await?.settings().quotas.clone(),
            None => Quotas::default(),
        };
        let configured = config.hosts.get(region.name()).map(|host| host.quotas).unwrap_or_default();
        let limits = Quota::ALL.iter().filter(|quota| quota.is_of_hosts());
        let limits = limits.filter_map(|quota| Some((*quota, limit(*quota, &account, &configured)?))).collect();
        Ok(Usage { region: region.name().to_owned(), counted, limits })
    }

    /// The usage as JSON.
    pub fn as_json(&self) -> Value {
        let RepositoryUsage { bytes, lfs_objects, lfs_bytes, .. } = self.counted.total();
        let quotas = self.limits.iter().map(|(quota, limit)| json!({ "name": quota.as_str(), "limit": limit }));
        json!({
            "region": self.region,
            "repositories": self.counted.repositories.len(),
            "bytes": bytes,
            "lfs_objects": lfs_objects,
            "lfs_bytes": lfs_bytes,
            "unreadable": self.counted.unreadable,
            "quotas": quotas.collect::<Vec<_>>(),
        })
    }

    /// Prints a line.
    pub fn print(&self) {
        let RepositoryUsage { bytes, lfs_objects, lfs_bytes, .. } = self.counted.total();
        let repositories = output::count(self.counted.repositories.len() as u64, "repository");
        let objects = output::count(lfs_objects, "LFS object");
        let size = output::bytes(bytes);
        let lfs_size = output::bytes(lfs_bytes);
        output::line(format!("usage of {}: {repositories}, {size}; {objects}, {lfs_size}", self.region));
        for (quota, limit) in &self.limits {
            output::line(format!("  {} {limit}", quota.as_str()));
        }
        if self.counted.unreadable > 0 {
            let unreadable = output::count(self.counted.unreadable, "repository");
            output::line(format!("  {unreadable} cannot be read and are not counted; the log says why"));
        }
    }
}

/// Limit in force: that of the account, else that of the host's configuration; `None` without one.
fn limit(quota: Quota, account: &Quotas, config: &QuotaConfig) -> Option<u64> {
    account.set(quota).or_else(|| config.limit(quota.as_str())).filter(|limit| *limit != NO_LIMIT)
}
