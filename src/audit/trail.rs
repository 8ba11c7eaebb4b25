//! [`AuditTrail`]: the sinks of a host with their queues.

use std::sync::Arc;

use crate::deliver::Delivery;
use crate::queue::{Place, Queue, SinkCounts};
use crate::record::{Facts, Stamp, text_of};
use crate::sinks::Sink;
use gitferry_base::clock::Clock;
use gitferry_base::supervise::Supervisor;

/// Audit trail of the host of one region. The default one records nothing.
#[derive(Clone, Debug, Default)]
pub struct AuditTrail(Option<Arc<Trail>>);

/// An audit trail that records.
#[derive(Debug)]
pub(crate) struct Trail {
    region: String,
    clock: Arc<dyn Clock>,
    queues: Vec<Queue>,
}

impl AuditTrail {
    /// Starts the trail of the host of `region`. A task of `tasks` writes to each sink until the stop signal, and after
    /// it the records that wait.
    pub fn start(region: &str, clock: Arc<dyn Clock>, sinks: Vec<Box<dyn Sink>>, tasks: &mut Supervisor) -> Self {
        let start = |sink: Box<dyn Sink>| {
            let name = sink.name();
            let (queue, records, counts) = Queue::new(name);
            let delivery = Delivery { region: region.to_owned(), sink, records, counts, clock: clock.clone() };
            let stop = tasks.stop();
            tasks.vital(format!("the audit trail of {region} ({name})"), delivery.run(stop));
            queue
        };
        let queues: Vec<Queue> = sinks.into_iter().map(start).collect();
        if queues.is_empty() {
            return AuditTrail::default();
        }
        AuditTrail(Some(Arc::new(Trail { region: region.to_owned(), clock, queues })))
    }

    pub(crate) fn trail(&self) -> Option<&Arc<Trail>> {
        self.0.as_ref()
    }

    /// Counts of each sink; none for a trail that records nothing.
    pub fn counts(&self) -> Vec<SinkCounts> {
        self.0.iter().flat_map(|trail| &trail.queues).map(Queue::counts).collect()
    }
}

impl Trail {
    /// Reserves a place in the queue of each sink, in their order; `None` where there was none in time.
    pub(crate) async fn reserve(&self) -> Vec<Option<Place>> {
        futures::future::join_all(self.queues.iter().map(Queue::reserve)).await
    }

    /// Queues the record of a request. `places` are those of [`Trail::reserve`], or none. Never waits.
    pub(crate) fn write(&self, facts: &Facts, places: Vec<Option<Place>>, is_proven: bool) {
        let now = self.clock.now();
        let stamp = Stamp { region: &self.region, time: now, id: self.clock.new_id() };
        let record: Arc<str> = text_of(stamp, facts).into();
        let places = places.into_iter().chain(std::iter::repeat_with(|| None));
        for (queue, place) in self.queues.iter().zip(places) {
            queue.put(place, is_proven, record.clone(), now);
        }
    }
}
