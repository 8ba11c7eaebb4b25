//! Metrics of the queues in which requests wait for admission.

use gitferry_base::metrics::{self, Counter, Gauge, Registry};

/// Metrics of one queue.
#[derive(Clone, Debug)]
pub struct QueueMetrics {
    waiting: Gauge,
    admitted: Counter,
    refused: Counter,
}

/// Metrics that are not recorded.
impl Default for QueueMetrics {
    fn default() -> Self {
        QueueMetrics { waiting: Gauge::noop(), admitted: Counter::noop(), refused: Counter::noop() }
    }
}

impl QueueMetrics {
    /// Metrics of the queue of this name, all zero.
    pub(super) fn new(registry: &Registry, name: &'static str) -> Self {
        QueueMetrics {
            waiting: registry.gauge(&metrics::QUEUE_WAITING, &[name]),
            admitted: registry.counter(&metrics::QUEUE_ADMITTED, &[name]),
            refused: registry.counter(&metrics::QUEUE_REFUSED, &[name]),
        }
    }

    /// Records the number of requests that wait.
    pub fn set_waiting(&self, requests: usize) {
        self.waiting.set(requests as f64);
    }

    /// Counts a request that was admitted, or refused because the host is busy.
    pub fn decided(&self, is_admitted: bool) {
        let counter = if is_admitted { &self.admitted } else { &self.refused };
        counter.increment(1);
    }
}
