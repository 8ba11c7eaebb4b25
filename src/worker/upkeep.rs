//! Sweeps a region at the start and from time to time.

use std::time::Duration;

use tokio::sync::watch;

use crate::region::Region;
use crate::region::sweep::Swept;

/// How often a region is swept.
pub const SWEEP_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// Sweeps until `stop` turns true. What a sweep that is stopped has not removed, the next one does.
pub async fn upkeep(region: Region, every: Duration, mut stop: watch::Receiver<bool>) {
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let sweeping = async {
        loop {
            due.tick().await;
            match region.sweep().await {
                Ok(swept) if swept == Swept::default() => {}
                Ok(swept) => tracing::info!(region = region.name, ?swept, "swept"),
                Err(error) => tracing::warn!(%error, region = region.name, "a sweep failed; the next one tries again"),
            }
            match region.consolidate_all().await {
                Ok(0) => {}
                Ok(packs) => tracing::info!(region = region.name, packs, "consolidated"),
                Err(error) => tracing::warn!(%error, region = region.name, "could not look for packs to consolidate"),
            }
        }
    };
    tokio::select! {
        () = sweeping => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}
