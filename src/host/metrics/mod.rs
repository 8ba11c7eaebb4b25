//! Metrics of a host, and their page `/_metrics`. Labels take their values from closed sets and never from a request, so
//! the page is bounded, names no repository, and needs no credentials.

mod page;
mod queues;
mod requests;

use std::sync::Arc;

use axum::body::Body;
use tokio::sync::watch;

use gitferry_audit::Entry;
use gitferry_base::metrics::{self, Counter, Registry};
use gitferry_engine::region::push::{Pushed, Rejection};
use gitferry_git::receive_pack::PushRequest;
use gitferry_git::upload_pack::Served;
use gitferry_iam::model::Quota;

pub use page::MetricsPage;
pub use queues::QueueMetrics;
pub use requests::{ConversationMetrics, Observer, observe};

/// Metrics of a host.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    packs_received: Counter,
    packs_sent: Counter,
    pushes_accepted: Counter,
}

impl Metrics {
    /// Metrics of the host of a region, all zero.
    pub fn new(region: &str) -> Arc<Self> {
        let registry = Registry::of_region(region);
        // Present before the first rejection, so that the rate of the first one is seen.
        for rejection in Rejection::ALL {
            registry.counter(&metrics::PUSHES_REJECTED, &[rejection.name()]).increment(0);
        }
        Arc::new(Metrics {
            packs_received: registry.counter(&metrics::PACKS_RECEIVED, &[]),
            packs_sent: registry.counter(&metrics::PACKS_SENT, &[]),
            pushes_accepted: registry.counter(&metrics::PUSHES_ACCEPTED, &[]),
            registry,
        })
    }

    /// Metrics of the queue of this name. The name is a label: one of a few in the code.
    pub fn queue(&self, name: &'static str) -> QueueMetrics {
        QueueMetrics::new(&self.registry, name)
    }

    /// Observes a conversation over SSH, whose route is a label: one of a few in the code. Returns the input with its bytes
    /// counted.
    pub fn conversation(
        self: &Arc<Self>,
        route: &'static str,
        entry: Entry,
        input: Body,
    ) -> (ConversationMetrics, Body) {
        requests::observe_conversation(self, route, entry, input)
    }

    /// Counts a fetch that was answered.
    pub fn fetched(&self, served: &Served) {
        self.packs_sent.increment(u64::from(served.pack.is_some()));
    }

    /// Counts a push that was answered with a report.
    pub fn pushed(&self, request: &PushRequest, pushed: &Pushed) {
        self.packs_received.increment(u64::from(request.has_pack()));
        match pushed.rejection {
            None => self.pushes_accepted.increment(1),
            Some(rejection) => {
                self.registry.counter(&metrics::PUSHES_REJECTED, &[rejection.name()]).increment(1);
            }
        }
    }

    /// Counts a request that a quota refused.
    pub fn quota_refused(&self, quota: Quota) {
        self.registry.counter(&metrics::QUOTA_REFUSED, &[quota.as_str()]).increment(1);
    }

    /// Shows the usage of a quota and its limit.
    pub fn quota_used(&self, quota: Quota, used: u64, limit: u64) {
        self.registry.gauge(&metrics::QUOTA_USED, &[quota.as_str()]).set(used as f64);
        self.registry.gauge(&metrics::QUOTA_LIMIT, &[quota.as_str()]).set(limit as f64);
    }

    /// Keeps the memory of the histograms bounded until `stop` turns true.
    pub async fn keep_drained(self: Arc<Self>, stop: watch::Receiver<bool>) {
        self.registry.keep_drained(stop).await;
    }
}
