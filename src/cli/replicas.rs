//! Detection of a region that was rolled back: its replicas hold changes that it lacks.

use std::time::Duration;

use gitferry_config::Config;
use gitferry_engine::region::Region;

use super::failure::Failure;
use super::links;

/// Maximum time to read the replicas of one link. A replica that does not answer in time proves nothing.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Makes a region refuse changes if its replicas have changes that it lacks; `of` restricts the comparison to one
/// repository (name or id).
pub async fn fence_if_rolled_back(config: &Config, region: &mut Region, of: Option<&str>) {
    for (name, link) in config.links.iter().filter(|(_, link)| link.source == region.name() && !config.has_remote(link))
    {
        let reading = async { Ok::<_, Failure>(links::open_readable(config, name).await?.lost_at_source(of).await?) };
        let lost = match tokio::time::timeout(TIMEOUT, reading).await {
            Ok(Ok(lost)) => lost,
            Ok(Err(failure)) => {
                let reason = failure.message();
                tracing::warn!(link = name, reason, "replicas cannot be read: a rollback of the region goes unnoticed");
                continue;
            }
            Err(_) => {
                tracing::warn!(link = name, "replicas did not answer in time: a rollback of the region goes unnoticed");
                continue;
            }
        };
        if let Some(first) = lost.first() {
            let source = region.name();
            let target = &link.target;
            let more = lost.len() - 1;
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let reason = format!(
                "{source} was rolled back: {target} holds changes that {source} lacks, of {first}{more}; {source} takes no \
                 changes until its newer state is restored; `gitferry verify {name}` lists what is missing"
            );
            tracing::error!("{reason}");
            *region = region.with_rolled_back(reason);
            return;
        }
    }
}
