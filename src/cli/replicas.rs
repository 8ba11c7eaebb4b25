//! A look at what the replicas of a region know: changes that the region itself lacks show that it was set back.

use std::time::Duration;

use gitferry_config::Config;
use gitferry_engine::region::Region;

use super::context::Context;
use super::failure::Failure;

/// Longest look at the replicas of one link. A replica that does not answer proves nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lets a region take no changes where its replicas have changes that it lacks: of the repository of this name or id,
/// or of any.
pub async fn look_at_replicas(config: &Config, context: &Context, region: &mut Region, of: Option<&str>) {
    for (name, link) in config.links.iter().filter(|(_, link)| link.source == region.name && !config.has_remote(link)) {
        let look = async { Ok::<_, Failure>(context.link(config, name).await?.lost_at_source(of).await?) };
        let lost = match tokio::time::timeout(PATIENCE, look).await {
            Ok(Ok(lost)) => lost,
            Ok(Err(failure)) => {
                tracing::warn!(link = name, "the replicas cannot be looked at: {}", failure.message());
                continue;
            }
            Err(_) => {
                tracing::warn!(link = name, "the replicas did not answer in time");
                continue;
            }
        };
        if let Some(first) = lost.first() {
            let (source, target, more) = (&region.name, &link.target, lost.len() - 1);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let reason = format!(
                "{source} was set back: {target} holds changes that it lacks, of {first}{more}. It takes no changes \
                 until its newer state is restored; `gitferry verify {name}` lists what it lacks"
            );
            tracing::error!("{reason}");
            region.set_back = Some(reason.into());
            return;
        }
    }
}
