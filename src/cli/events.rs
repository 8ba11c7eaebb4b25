//! Queues, event buses and outboxes, as a configuration names them.

use std::sync::Arc;
use std::time::Duration;

use gitferry_base::supervise::Supervisor;
use gitferry_config::{AwsConfig, Config, region_of_queue};
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::Region;
use gitferry_service::events::eventbridge::EventBridge;
use gitferry_service::events::outbox::{Nudge, Publisher, SWEEP_EVERY};
use gitferry_service::events::sqs::Queue;
use gitferry_store::table::TableError;

use super::failure::Failure;
use super::output;

/// How long a command that is about to end may take to announce what it has committed.
const ANNOUNCE_WITHIN: Duration = Duration::from_secs(60);

/// The queue of a link, if it has one.
pub async fn open_queue(config: &Config, link: &str) -> Result<Option<Queue>, Failure> {
    let link = config.link(link)?;
    let Some(url) = &link.queue else { return Ok(None) };
    let of_url = || region_of_queue(url).map(str::to_owned);
    let aws = AwsConfig { region: link.aws.region.clone().or_else(of_url), ..link.aws.clone() };
    let client = aws_sdk_sqs::Client::new(&config.sdk.get(&aws).await);
    Ok(Some(Queue::new(client, url, link.dead_letters.clone())))
}

/// Who announces the changes of a region, if its events go anywhere.
pub async fn publisher(config: &Config, region: &Region) -> Option<Publisher> {
    let settings = config.regions.get(&region.name)?;
    let events = settings.events.as_ref()?;
    let client = aws_sdk_eventbridge::Client::new(&config.sdk.get(&settings.aws).await);
    Some(Publisher::new(region.clone(), Arc::new(EventBridge::new(client, &events.bus))))
}

/// Publishes the outbox of a region as long as the supervisor's tasks run, if its events go anywhere. What to nudge it
/// by.
pub async fn publish(config: &Config, region: &Region, tasks: &mut Supervisor) -> Option<Nudge> {
    let publisher = publisher(config, region).await?;
    let (nudge, nudges) = Publisher::nudge(&region.name);
    let running = publisher.run(nudges, SWEEP_EVERY, tasks.stop());
    tasks.vital(format!("the publisher of the outbox of {}", region.name), running);
    Some(nudge)
}

/// Announces what a command has committed in a region, before it ends: in these repositories, or all that is in the
/// outbox. What is not announced in time is committed all the same and stays in the outbox.
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
        Ok(Ok(false)) => "the log says why".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("that took longer than {ANNOUNCE_WITHIN:?}"),
    };
    output::note(format!(
        "not all changes in {} were announced ({reason}); they stay in its outbox for the next run, worker or host",
        region.name
    ));
}
