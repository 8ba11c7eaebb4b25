//! Queues, event buses and outbox publishers of a configuration.

use std::sync::Arc;
use std::time::Duration;

use gitferry_base::supervise::Supervisor;
use gitferry_config::{AwsConfig, Config, region_of_queue};
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::Region;
use gitferry_service::events::eventbridge::EventBridge;
use gitferry_service::events::outbox::{Publisher, SWEEP_EVERY, Waker};
use gitferry_service::events::sqs::Queue;
use gitferry_store::aws::attempts::CountAttempts;
use gitferry_store::table::TableError;

use super::failure::Failure;
use super::output;

/// Maximum time that a command waits at its end to announce its changes.
const ANNOUNCE_WITHIN: Duration = Duration::from_secs(60);

/// Opens the queue of a link; `None` for a link without one.
pub async fn open_queue(config: &Config, link: &str) -> Result<Option<Queue>, Failure> {
    let link = config.link(link)?;
    let Some(url) = &link.queue else { return Ok(None) };
    let of_url = || region_of_queue(url).map(str::to_owned);
    let aws = AwsConfig { region: link.aws.region.clone().or_else(of_url), ..link.aws.clone() };
    let sdk = aws_sdk_sqs::config::Builder::from(&config.sdk.get(&aws).await).interceptor(CountAttempts);
    let client = aws_sdk_sqs::Client::from_conf(sdk.build());
    Ok(Some(Queue::new(client, url, link.dead_letters.clone())))
}

/// Returns the publisher of a region's changes; `None` for a region without an event bus.
pub async fn publisher(config: &Config, region: &Region) -> Option<Publisher> {
    let settings = config.regions.get(region.name())?;
    let events = settings.events.as_ref()?;
    let sdk = config.sdk.get(&settings.aws).await;
    let sdk = aws_sdk_eventbridge::config::Builder::from(&sdk).interceptor(CountAttempts);
    let client = aws_sdk_eventbridge::Client::from_conf(sdk.build());
    Some(Publisher::new(region.clone(), Arc::new(EventBridge::new(client, &events.bus))))
}

/// Starts the publisher of a region's outbox as a supervised task. Returns the sink that wakes it; `None` for a
/// region without an event bus.
pub async fn publish(config: &Config, region: &Region, tasks: &mut Supervisor) -> Option<Waker> {
    let publisher = publisher(config, region).await?;
    let (waker, woken) = Publisher::waker(region.name());
    let running = publisher.run(woken, SWEEP_EVERY, tasks.stop());
    tasks.vital(format!("the publisher of the outbox of {}", region.name()), running);
    Some(waker)
}

/// Announces a command's changes in a region before the command ends: those of `repositories`, or all in the outbox.
/// After a failure or [`ANNOUNCE_WITHIN`], unannounced changes stay in the outbox; they are committed all the same.
pub async fn announce(config: &Config, region: &Region, repositories: Option<Vec<RepositoryId>>) {
    let Some(publisher) = publisher(config, region).await else { return };
    let publishing = async {
        match repositories {
            Some(ids) => publisher.publish_all(ids).await,
            None => publisher.publish_outbox().await?,
        }
        Ok::<bool, TableError>(publisher.counters.failed.get() == 0)
    };
    let reason = match tokio::time::timeout(ANNOUNCE_WITHIN, publishing).await {
        Ok(Ok(true)) => return,
        Ok(Ok(false)) => "see the log".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("timed out after {ANNOUNCE_WITHIN:?}"),
    };
    output::note(format!(
        "warning: not all changes in {} were announced ({reason}); they stay in its outbox for the next run, worker or \
         host",
        region.name()
    ));
}
