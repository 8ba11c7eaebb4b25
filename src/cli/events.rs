//! Queues, event buses and outboxes, as a configuration names them.

use std::sync::Arc;

use gitferry::aws::sdk_config;
use gitferry::config::{AwsConfig, Config, region_of_queue};
use gitferry::events::eventbridge::EventBridge;
use gitferry::events::outbox::{Nudge, Publisher, SWEEP_EVERY};
use gitferry::events::sqs::Queue;
use gitferry::region::Region;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::failure::Failure;

/// The queue of a link, if it has one.
pub async fn open_queue(config: &Config, link: &str) -> Result<Option<Queue>, Failure> {
    let link = config.link(link)?;
    let Some(url) = &link.queue else { return Ok(None) };
    let of_url = || region_of_queue(url).map(str::to_owned);
    let aws = AwsConfig { region: link.aws.region.clone().or_else(of_url), ..link.aws.clone() };
    let client = aws_sdk_sqs::Client::new(&sdk_config(&aws).await);
    Ok(Some(Queue::new(client, url, link.dead_letters.clone())))
}

/// Publishes the outbox of a region until `stop` turns true, if its events go anywhere. What to nudge it by.
pub async fn publish(
    config: &Config,
    region: &Region,
    running: &mut JoinSet<()>,
    stop: watch::Receiver<bool>,
) -> Option<Nudge> {
    let settings = config.regions.get(&region.name)?;
    let events = settings.events.as_ref()?;
    let client = aws_sdk_eventbridge::Client::new(&sdk_config(&settings.aws).await);
    let publisher = Publisher::new(region.clone(), Arc::new(EventBridge::new(client, &events.bus)));
    let (nudge, nudges) = Publisher::nudge(&region.name);
    running.spawn(publisher.run(nudges, SWEEP_EVERY, stop));
    Some(nudge)
}
