//! Metrics: the catalog of all that gitferry counts and measures, and registries that render it for Prometheus.
//!
//! Each metric is one entry of the catalog below. Code records through handles ([`Counter`], [`Gauge`], [`Histogram`])
//! that an entry registers with a [`Recorder`]. There is no global recorder: a host has a [`Registry`] of its own, so
//! that its page is about its region alone however many hosts a process runs, and [`process`] is the registry of what
//! belongs to no region.

mod registry;

pub use ::metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit as DescribedUnit, atomics,
};
use ::metrics::{Label, Level};

pub use registry::{BUCKETS, CONTENT_TYPE, DRAIN_EVERY, Registry, process};

/// Kind of a metric, as in Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A count that only grows while the process runs.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Counts of values by upper bound; see [`BUCKETS`].
    Histogram,
}

impl MetricKind {
    /// Name of the kind in Prometheus's text format.
    pub fn name(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// Unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Number of things.
    Count,
    /// Seconds; the name of the metric says so.
    Seconds,
    /// Bytes; the name of the metric says so.
    Bytes,
    /// 1 for true, 0 for false.
    Flag,
}

impl Unit {
    /// Name of the unit in the documentation.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Count => "count",
            Unit::Seconds => "seconds",
            Unit::Bytes => "bytes",
            Unit::Flag => "0 or 1",
        }
    }
}

/// An entry of the catalog.
#[derive(Debug)]
pub struct Metric {
    /// Name in Prometheus.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// Unit of the value.
    pub unit: Unit,
    /// Names of the labels. Each takes its values from a closed set, or from the names in the configuration.
    pub labels: &'static [&'static str],
    /// Meaning, as the page gives it.
    pub help: &'static str,
}

/// Defines the metrics: `NAME: kind "name" ["label" …] unit, "help";`.
macro_rules! catalog {
    ($($id:ident: $kind:ident $name:literal $labels:tt $unit:ident, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Metric = Metric {
                name: $name,
                kind: MetricKind::$kind,
                unit: Unit::$unit,
                labels: &$labels,
                help: $help,
            };
        )*
        /// All metrics.
        pub const CATALOG: &[Metric] = &[$($id),*];
    };
}

catalog! {
    LAG_SECONDS: Gauge "gitferry_lag_seconds" ["link"] Seconds,
        "Largest age of a change that the target lacks, or lacked a moment ago.";
    PENDING: Gauge "gitferry_pending" ["link"] Count, "Repositories that are behind.";
    DELIVERED: Counter "gitferry_delivered_total" ["link"] Count, "Deliveries that brought something.";
    FAILED: Counter "gitferry_failed_total" ["link"] Count, "Deliveries that failed.";
    FAILING: Gauge "gitferry_failing" ["link"] Count, "Repositories whose last delivery failed.";
    READY: Gauge "gitferry_ready" ["link"] Flag,
        "1 when all that the link works with can be used and deliveries succeed, else 0.";
    FORKS: Gauge "gitferry_forks" ["link"] Count, "Repositories with two histories.";
    OLDEST_UNVERIFIED_SECONDS: Gauge "gitferry_oldest_unverified_seconds" ["link"] Seconds,
        "Longest time that a repository of the target has not been verified.";
    PACKS_ASIDE: Gauge "gitferry_packs_aside" ["link"] Count,
        "Damaged packs in both regions that consolidation passes over until they are mended.";
    RECOVERY_POINT_AGE_SECONDS: Gauge "gitferry_recovery_point_age_seconds" ["link"] Seconds,
        "Age of the oldest change that a backup left behind.";

    REQUEST_SECONDS: Histogram "gitferry_host_request_duration_seconds" ["region", "route", "outcome"] Seconds,
        "Time from the head of a request to the last byte of its response.";
    RECEIVED_BYTES: Counter "gitferry_host_received_bytes_total" ["region", "route"] Bytes,
        "Bytes of request bodies that the host has read.";
    SENT_BYTES: Counter "gitferry_host_sent_bytes_total" ["region", "route"] Bytes,
        "Bytes of response bodies that the host has sent.";
    PACKS_RECEIVED: Counter "gitferry_host_packs_received_total" ["region"] Count,
        "Packs that came with pushes, whether they were accepted or not.";
    PACKS_SENT: Counter "gitferry_host_packs_sent_total" ["region"] Count, "Packs that fetches and clones received.";
    PACK_CACHE_HITS: Counter "gitferry_host_pack_cache_hits_total" ["region"] Count,
        "Packs that were in the local cache when they were needed.";
    PACK_CACHE_MISSES: Counter "gitferry_host_pack_cache_misses_total" ["region"] Count,
        "Packs that had to be fetched from the object store.";
    PUSHES_ACCEPTED: Counter "gitferry_host_pushes_accepted_total" ["region"] Count,
        "Pushes of which every ref was accepted.";
    PUSHES_REJECTED: Counter "gitferry_host_pushes_rejected_total" ["region", "reason"] Count,
        "Pushes of which a ref was refused, by the reason of the first such ref.";
    QUEUE_WAITING: Gauge "gitferry_host_queue_waiting" ["region", "queue"] Count,
        "Requests that wait for admission.";
    QUEUE_ADMITTED: Counter "gitferry_host_queue_admitted_total" ["region", "queue"] Count,
        "Requests that were admitted, at once or after a wait.";
    QUEUE_REFUSED: Counter "gitferry_host_queue_refused_total" ["region", "queue"] Count,
        "Requests that were refused because the queue was full or their wait too long.";
    HOST_PACKS_ASIDE: Gauge "gitferry_host_packs_aside" ["region"] Count,
        "Damaged packs in the region that consolidation passes over until they are mended.";

    QUOTA_USED: Gauge "gitferry_host_quota_used" ["region", "quota"] Count,
        "Usage of a quota of the region: repositories, or bytes.";
    QUOTA_LIMIT: Gauge "gitferry_host_quota_limit" ["region", "quota"] Count,
        "Limit of a quota of the region: repositories, or bytes.";
    QUOTA_REFUSED: Counter "gitferry_host_quota_refused_total" ["region", "quota"] Count,
        "Requests and objects that a quota refused.";
    AUDIT_WRITTEN: Counter "gitferry_host_audit_written_total" ["region", "sink"] Count,
        "Records of the audit trail that the sink has taken.";
    AUDIT_DROPPED: Counter "gitferry_host_audit_dropped_total" ["region", "sink"] Count,
        "Records of the audit trail that were lost because the sink took none for too long.";
    AUDIT_FAILURES: Counter "gitferry_host_audit_failures_total" ["region", "sink"] Count,
        "Attempts at writing records of the audit trail that failed. They are tried again.";
    AUDIT_FAILING: Gauge "gitferry_host_audit_failing" ["region", "sink"] Flag,
        "1 while records of the audit trail cannot be written, else 0.";

    AWS_ATTEMPTS: Counter "gitferry_aws_attempts_total" ["service", "outcome"] Count,
        "Attempts of the process at requests to AWS, by the class of the answer's status.";
    AWS_RETRIES: Counter "gitferry_aws_retries_total" ["service"] Count,
        "Attempts of the process at requests to AWS after a failed one at the same request.";
}

/// Metadata of all metrics: no recorder here filters by it.
const METADATA: Metadata<'static> = Metadata::new("gitferry", Level::INFO, None);

impl Metric {
    /// Returns the entry of a name.
    pub fn find(name: &str) -> Option<&'static Metric> {
        CATALOG.iter().find(|metric| metric.name == name)
    }

    /// The counter with these values of its labels.
    pub fn counter(&self, recorder: &dyn Recorder, values: &[&str]) -> Counter {
        recorder.register_counter(&self.key(MetricKind::Counter, values), &METADATA)
    }

    /// The gauge with these values of its labels.
    pub fn gauge(&self, recorder: &dyn Recorder, values: &[&str]) -> Gauge {
        recorder.register_gauge(&self.key(MetricKind::Gauge, values), &METADATA)
    }

    /// The histogram with these values of its labels.
    pub fn histogram(&self, recorder: &dyn Recorder, values: &[&str]) -> Histogram {
        recorder.register_histogram(&self.key(MetricKind::Histogram, values), &METADATA)
    }

    fn key(&self, kind: MetricKind, values: &[&str]) -> Key {
        assert_eq!(self.kind, kind, "{} is registered as the kind that the catalog gives it", self.name);
        assert_eq!(self.labels.len(), values.len(), "each label of {} has a value", self.name);
        let labels = self.labels.iter().zip(values).map(|(name, value)| Label::new(*name, (*value).to_owned()));
        Key::from_parts(self.name, labels.collect::<Vec<Label>>())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Prometheus's conventions for names: a prefix, the unit in the plural, `_total` for counters.
    #[test]
    fn names_follow_the_conventions() {
        let names: BTreeSet<&str> = CATALOG.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), CATALOG.len());
        for Metric { name, kind, unit, labels, help } in CATALOG {
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
            let stem = name.trim_end_matches("_total");
            assert_eq!(stem.ends_with("_seconds"), *unit == Unit::Seconds, "{name}");
            assert_eq!(stem.ends_with("_bytes"), *unit == Unit::Bytes, "{name}");
            assert!(*kind != MetricKind::Histogram || *unit == Unit::Seconds, "{name}: its buckets are seconds");
            let words = [&[*name], *labels].concat();
            assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
            assert!(name.starts_with("gitferry_") && help.ends_with('.') && !help.contains(['\\', '\n']), "{name}");
            assert_eq!(name.starts_with("gitferry_host_"), labels.first() == Some(&"region"), "{name}");
        }
    }

    #[test]
    #[should_panic(expected = "each label of gitferry_pending has a value")]
    fn a_label_without_a_value_is_a_fault() {
        let _ = PENDING.gauge(&::metrics::NoopRecorder, &[]);
    }
}
