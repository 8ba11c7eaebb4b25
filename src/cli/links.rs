//! Links and regions that a long-running process works on: what opens is worked on at once, the rest as soon as its
//! stores let it, so that one region that is gone keeps no other from its work.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use gitferry_base::Kind;
use gitferry_base::retry::Pace;
use gitferry_base::supervise::Supervisor;
use gitferry_config::Config;
use gitferry_engine::region::Region;
use gitferry_replication::AnyLink;
use gitferry_service::open;
use gitferry_service::worker::upkeep::{self, upkeep};
use gitferry_service::worker::{OpenLink, Opened};
use tokio::sync::watch;

use super::context::Context;
use super::failure::Failure;
use super::{events, output};

/// Background work of regions that were opened late; it ends when the process is told to stop.
#[derive(Clone, Debug, Default)]
pub struct Keeping(Arc<Mutex<Vec<Supervisor>>>);

impl Keeping {
    fn add(&self, tasks: Supervisor) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(tasks);
    }

    /// Waits until all of it has ended.
    pub async fn join(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for tasks in all {
            tasks.join().await;
        }
    }
}

/// The links that could be opened, and the names of those that could not.
pub type Sorted = (Vec<AnyLink>, Vec<String>);

/// Opens links to work on them. A store that fails is a warning, as long as another link opens; what the configuration
/// says wrongly is an error.
pub async fn open(context: &Context, config: &Config, names: &[String]) -> Result<Sorted, Failure> {
    let (mut open, mut late, mut first) = (Vec::new(), Vec::new(), None);
    for name in names {
        match context.any_link(config, name, true).await {
            Ok(link) => open.push(link),
            Err(failure) if failure.is_refusal() => return Err(failure),
            Err(failure) => {
                output::note(format!("warning: link {name} is not worked on yet: {}", failure.message()));
                late.push(name.clone());
                first = first.or(Some(failure));
            }
        }
    }
    match first {
        Some(failure) if open.is_empty() => Err(failure),
        _ => Ok((open, late)),
    }
}

/// A link that is opened later.
#[derive(Debug)]
pub struct LateLink {
    pub config: Config,
    pub name: String,
    /// Holds the upkeep of the link's target; `None` where another task does it.
    pub keeping: Option<Keeping>,
    pub stopped: watch::Receiver<bool>,
}

#[async_trait]
impl OpenLink for LateLink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn open(&self) -> Result<Opened, String> {
        let context = Context::new(self.config.file.clone());
        let link = context.any_link(&self.config, &self.name, true).await.map_err(|f| f.message().to_owned())?;
        let queue = events::open_queue(&self.config, &self.name).await.map_err(|f| f.message().to_owned())?;
        if let (Some(keeping), Some(target)) = (&self.keeping, link.target_region()) {
            let mut tasks = Supervisor::new(self.stopped.clone());
            // Without nudges: the publisher reads the outbox every few seconds.
            let _ = events::publish(&self.config, target, &mut tasks).await;
            let (region, stop) = (target.clone(), tasks.stop());
            let task = format!("the upkeep of {}", region.name);
            tasks.keep(task, move || upkeep(region.clone(), upkeep::SWEEP_EVERY, stop.clone()));
            keeping.add(tasks);
        }
        Ok(Opened { link, queue })
    }
}

/// Opens a region to write it, however long that takes; `None` when the process is told to stop before.
pub async fn open_region_late(config: &Config, name: &str, stop: &mut watch::Receiver<bool>) -> Option<Region> {
    let mut pace = Pace::new(Kind::Environment);
    loop {
        let wait = pace.next_wait();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.wait_for(|stop| *stop) => return None,
        }
        match open::writable_region(config, name).await {
            Ok(region) => {
                tracing::warn!(region = name, "the region could be opened and is worked on from now on");
                return Some(region);
            }
            Err(error) => tracing::warn!(%error, region = name, "the region cannot be opened; it is tried again"),
        }
    }
}
