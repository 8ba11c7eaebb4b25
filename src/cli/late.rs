//! Opening of links and regions in a long-running process. Those that can be opened start at once, the others as soon as
//! their stores answer: an unavailable region does not hold up the others.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use gitferry_base::Kind;
use gitferry_base::retry::Backoff;
use gitferry_base::supervise::Supervisor;
use gitferry_config::Config;
use gitferry_engine::region::Region;
use gitferry_service::delivery::Link;
use gitferry_service::open;
use gitferry_service::worker::{OpenLink, Opened, Worker, WorkerOptions};
use tokio::sync::watch;

use super::failure::Failure;
use super::links::open_for_delivery;
use super::{events, garbage, output};

/// Background tasks of regions that were opened late; they end when the process stops.
#[derive(Clone, Debug, Default)]
pub struct LateTasks(Arc<Mutex<Vec<Supervisor>>>);

impl LateTasks {
    fn add(&self, tasks: Supervisor) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(tasks);
    }

    /// Waits until all tasks have ended.
    pub async fn join(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for tasks in all {
            tasks.join().await;
        }
    }
}

/// Links at the start of a process.
pub struct OpenAndLate {
    pub open: Vec<Arc<dyn Link>>,
    /// Names of the links that could not be opened.
    pub late: Vec<String>,
}

/// Opens links for replication. A store that fails is a warning as long as another link opens; a wrong configuration is
/// an error.
pub async fn open_links(config: &Config, names: &[String]) -> Result<OpenAndLate, Failure> {
    let mut open = Vec::new();
    let mut late = Vec::new();
    let mut first = None;
    for name in names {
        match open_for_delivery(config, name).await {
            Ok(link) => open.push(link),
            Err(failure) if failure.is_refusal() => return Err(failure),
            Err(failure) => {
                output::note(format!(
                    "warning: link {name} cannot be opened yet, and is tried again: {}",
                    failure.message()
                ));
                late.push(name.clone());
                first = first.or(Some(failure));
            }
        }
    }
    match first {
        Some(failure) if open.is_empty() => Err(failure),
        _ => Ok(OpenAndLate { open, late }),
    }
}

/// Creates a worker over links that are open, which also opens the late ones. `tasks` receives the background tasks of
/// their targets; `None` if the caller runs these.
pub async fn worker(
    config: &Config,
    links: OpenAndLate,
    options: WorkerOptions,
    tasks: Option<&LateTasks>,
    stopped: &watch::Receiver<bool>,
) -> Result<Worker, Failure> {
    let OpenAndLate { open, late } = links;
    let opened: Vec<String> = open.iter().map(|link| link.name().to_owned()).collect();
    let late_link = |name| {
        let tasks = tasks.cloned();
        Arc::new(LateLink { config: config.clone(), name, tasks, stopped: stopped.clone() }) as Arc<dyn OpenLink>
    };
    let mut worker = Worker::over(open, late.into_iter().map(late_link).collect(), options);
    for name in opened {
        if let Some(queue) = events::open_queue(config, &name).await? {
            worker = worker.listen(&name, queue);
        }
    }
    Ok(worker)
}

/// A link that could not be opened at the start.
#[derive(Debug)]
struct LateLink {
    config: Config,
    name: String,
    tasks: Option<LateTasks>,
    stopped: watch::Receiver<bool>,
}

#[async_trait]
impl OpenLink for LateLink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn open(&self) -> Result<Opened, String> {
        let link = open_for_delivery(&self.config, &self.name).await.map_err(|f| f.message().to_owned())?;
        let queue = events::open_queue(&self.config, &self.name).await.map_err(|f| f.message().to_owned())?;
        if let (Some(late_tasks), Some(target)) = (&self.tasks, link.target_region()) {
            let mut tasks = Supervisor::new(self.stopped.clone());
            // Nothing wakes this publisher, which reads the outbox every few seconds.
            let _ = events::publish(&self.config, target, &mut tasks).await;
            garbage::keep_collecting(target.clone(), &mut tasks);
            late_tasks.add(tasks);
        }
        Ok(Opened { link, queue })
    }
}

/// Opens a region for writing, with retries and backoff until it opens. Returns `None` if the process stops before.
pub async fn open_region(config: &Config, name: &str, stop: &mut watch::Receiver<bool>) -> Option<Region> {
    let mut backoff = Backoff::new(Kind::Environment);
    loop {
        let wait = backoff.next_wait();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.wait_for(|stop| *stop) => return None,
        }
        match open::writable_region(config, name).await {
            Ok(region) => {
                tracing::warn!(region = name, "the region is open now");
                return Some(region);
            }
            Err(error) => tracing::warn!(%error, region = name, "the region cannot be opened; tried again"),
        }
    }
}
