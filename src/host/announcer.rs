//! Announces the changes that a host commits.

use std::sync::Arc;

use gitferry_engine::announce::{Event, Sink};
use gitferry_engine::ledger::head::{HeadItem, RepositoryId};

/// Publishes events about repositories, by default as changed in the region of the host.
#[derive(Clone, Debug)]
pub struct Announcer {
    region: String,
    events: Arc<dyn Sink>,
}

impl Announcer {
    /// Announces changes of `region` to `events`.
    pub fn new(region: &str, events: Arc<dyn Sink>) -> Self {
        Announcer { region: region.into(), events }
    }

    /// Announces a head that was committed here.
    pub fn committed(&self, item: &HeadItem) {
        self.announce(&self.region, item.id, item.head.frontier.seq);
    }

    /// Announces that a repository has reached change `seq` in another region.
    pub fn announce(&self, region: &str, repository: RepositoryId, seq: u64) {
        self.events.publish(Event { region: region.into(), repository, seq });
    }
}
