//! The link that brings the account of another region to the region of a host.

use gitferry_config::Config;
use gitferry_engine::ledger::head::{HeadItem, Role};
use gitferry_engine::region::reserved::ACCOUNT;
use gitferry_engine::region::{Region, RegionError};

/// Feed of a region's account, as far as this configuration knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feed {
    /// The account was founded here, a link of the configuration brings it, or there is none.
    Sound,
    /// No link of the configuration brings the account. A worker with another configuration may.
    Unknown(String),
    /// The link that brought the account has `account = false`, and no other link brings it.
    Stopped(String),
}

impl Feed {
    /// Reads the account's head in a region.
    ///
    /// # Errors
    /// The region cannot be read.
    pub async fn read(config: &Config, region: &Region) -> Result<Feed, RegionError> {
        let item = region.repositories().find(ACCOUNT).await?;
        Ok(item.map_or(Feed::Sound, |item| Feed::of(config, region.name(), &item)))
    }

    fn of(config: &Config, region: &str, account: &HeadItem) -> Feed {
        let head = &account.head;
        if head.role == Role::Primary || config.account_link_to(region).is_some() {
            return Feed::Sound;
        }
        let source = &head.epoch.region;
        let stopped = head.fed_by.as_ref().filter(|name| {
            config.links.get(*name).is_some_and(|link| link.target == region && link.account == Some(false))
        });
        match stopped {
            Some(link) => Feed::Stopped(format!(
                "it is a replica of the account of {source}, and links.{link}, which brought it, has account = false: \
                 what is revoked in {source} would go on to work in {region}; remove account = false, or remove the \
                 replica with `gitferry iam detach --region {region} --yes`"
            )),
            None => Feed::Unknown(format!(
                "the account of region {region} is a replica of that of {source}, and no link of this configuration \
                 brings its changes: unless another worker does, what is revoked in {source} goes on to work in {region}"
            )),
        }
    }
}
