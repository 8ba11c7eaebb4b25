//! Garbage collection of a region, at the start and once each period: a sweep of what nothing names, and consolidation
//! of small packs. Beside it, the region's mark is raised and its stores are watched.

use std::time::Duration;

use tokio::sync::watch;

use gitferry_engine::region::Region;
use gitferry_engine::region::sweep::Swept;

/// Period between two sweeps of a region.
pub const SWEEP_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// Period after which a process that writes a region raises its mark (see [`gitferry_engine::region::stores`]): a
/// table that is rolled back by more than this time is recognised.
pub const MARK_EVERY: Duration = Duration::from_secs(10 * 60);

/// Collects garbage until `stop` turns true. The next sweep removes what an interrupted one has left.
pub async fn collect(region: Region, every: Duration, mut stop: watch::Receiver<bool>) {
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let sweeping = async {
        loop {
            due.tick().await;
            match region.sweeper().sweep().await {
                Ok(swept) if swept == Swept::default() => {}
                Ok(swept) => tracing::info!(region = region.name(), ?swept, "swept"),
                Err(error) => {
                    tracing::warn!(%error, region = region.name(), "a sweep failed; the next one tries again")
                }
            }
            match region.consolidator().consolidate_all().await {
                Ok(0) => {}
                Ok(packs) => tracing::info!(region = region.name(), packs, "consolidated"),
                Err(error) => tracing::warn!(%error, region = region.name(), "could not look for packs to consolidate"),
            }
        }
    };
    let mut marks = tokio::time::interval(MARK_EVERY);
    marks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let marking = async {
        loop {
            marks.tick().await;
            if let Err(error) = region.stores().raise_mark().await {
                tracing::warn!(%error, region = region.name(), "could not raise the region's mark; it is raised later");
            }
        }
    };
    tokio::select! {
        () = sweeping => {}
        () = marking => {}
        () = region.stores().watch() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}
