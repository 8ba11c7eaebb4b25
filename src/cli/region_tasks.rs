//! Background tasks of a region in a process that serves it.

use std::sync::Arc;

use gitferry_base::supervise::Supervisor;
use gitferry_config::Config;
use gitferry_engine::announce::Sink;
use gitferry_engine::region::Region;
use gitferry_service::events::outbox::{self, Relay};
use tokio::sync::watch;

use super::{events, garbage, late};

/// Starts garbage collection and outbox of one region. Returns the sink that wakes its publisher, if the region has a bus.
pub async fn start(
    config: &Config,
    region: Region,
    relay_to: Option<Arc<dyn Sink>>,
    tasks: &mut Supervisor,
) -> Option<Arc<dyn Sink>> {
    let name = region.name().to_owned();
    let waker = events::publish(config, &region, tasks).await;
    if let (None, Some(to)) = (&waker, relay_to) {
        let region = region.clone();
        let stop = tasks.stop();
        let relay = move || Relay::new(region.clone(), to.clone()).run(outbox::SWEEP_EVERY, stop.clone());
        tasks.keep(format!("the relay of the outbox of {name}"), relay);
    }
    garbage::keep_collecting(region, tasks);
    waker.map(|waker| Arc::new(waker) as Arc<dyn Sink>)
}

/// [`start`] as soon as the region can be opened.
pub async fn start_late(
    config: Config,
    name: String,
    relay_to: Option<Arc<dyn Sink>>,
    mut stop: watch::Receiver<bool>,
) {
    let Some(region) = late::open_region(&config, &name, &mut stop).await else { return };
    let mut tasks = Supervisor::new(stop.clone());
    // Nothing wakes its publisher, which reads the outbox every few seconds.
    let _ = start(&config, region, relay_to, &mut tasks).await;
    tokio::select! {
        _ = tasks.lost() => return,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    tasks.join().await;
}
