//! Metrics of each link, for CloudWatch and Prometheus. Pure: the values come from [`super::status`],
//! [`crate::lambda`] and [`super::backup`]. [`LinkMetrics::record`] passes them to a recorder: the one of a page for
//! Prometheus, or [`EmfRecorder`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use gitferry_base::metrics::{
    self, Counter, DescribedUnit, Gauge, Histogram, Key, KeyName, Metadata, Metric, MetricKind, Recorder, Registry,
    SharedString, Unit, atomics,
};

/// Namespace in CloudWatch.
pub const NAMESPACE: &str = "gitferry";
/// Name of the one dimension or label.
const LINK: &str = "link";

/// Metrics of one link at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkMetrics {
    /// Name of the link.
    pub link: String,
    /// True if the link has not been opened since the start. Nothing is known of its repositories, so its gauges are
    /// left out.
    pub unopened: bool,
    /// True if everything that the link works with can be used and deliveries succeed; `None` for a single run.
    pub ready: Option<bool>,
    /// Largest age of a change that the target lacks or lacked until a moment ago, in seconds.
    pub lag_seconds: f64,
    /// Repositories that are behind.
    pub pending: u64,
    /// Deliveries that brought changes, since the start.
    pub delivered: u64,
    /// Deliveries that failed, since the start.
    pub failed: u64,
    /// Repositories whose last delivery failed.
    pub failing: u64,
    /// Repositories with two histories.
    pub forks: u64,
    /// Longest time since the verification of a repository of the target, in seconds; `None` while unknown.
    pub oldest_unverified_seconds: Option<f64>,
    /// Damaged packs that consolidation passes over, in both regions; `None` while unknown.
    pub packs_aside: Option<u64>,
    /// Age of the oldest change that a backup left behind, in seconds; `None` outside backups.
    pub recovery_point_age_seconds: Option<f64>,
}

impl LinkMetrics {
    /// Passes the known values to a recorder.
    fn record(&self, recorder: &dyn Recorder) {
        let link = [self.link.as_str()];
        let counter = |metric: Metric, value: u64| metric.counter(recorder, &link).absolute(value);
        let gauge = |metric: Metric, value: Option<f64>| {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                metric.gauge(recorder, &link).set(value);
            }
        };
        // Known only of an open link.
        let of_open = |value: f64| (!self.unopened).then_some(value);
        gauge(metrics::LAG_SECONDS, of_open(self.lag_seconds));
        gauge(metrics::PENDING, of_open(self.pending as f64));
        counter(metrics::DELIVERED, self.delivered);
        counter(metrics::FAILED, self.failed);
        gauge(metrics::FAILING, of_open(self.failing as f64));
        gauge(metrics::READY, self.ready.map(|ready| f64::from(u8::from(ready))));
        gauge(metrics::FORKS, of_open(self.forks as f64));
        gauge(metrics::OLDEST_UNVERIFIED_SECONDS, self.oldest_unverified_seconds);
        gauge(metrics::PACKS_ASIDE, self.packs_aside.map(|packs| packs as f64));
        gauge(metrics::RECOVERY_POINT_AGE_SECONDS, self.recovery_point_age_seconds);
    }

    /// The same metrics, with counters since `before`.
    pub fn since(&self, before: &LinkMetrics) -> LinkMetrics {
        LinkMetrics {
            delivered: self.delivered.saturating_sub(before.delivered),
            failed: self.failed.saturating_sub(before.failed),
            ..self.clone()
        }
    }
}

/// Renders all links for Prometheus.
pub fn prometheus(all: &[LinkMetrics]) -> String {
    // A registry for each page: a value that has become unknown is not on it.
    let registry = Registry::default();
    all.iter().for_each(|link| link.record(registry.recorder()));
    registry.page()
}

/// Renders one line of CloudWatch's Embedded Metric Format. Counters are those since the line before: see
/// [`LinkMetrics::since`].
pub fn emf(link: &LinkMetrics, now: Timestamp) -> String {
    let recorder = EmfRecorder::default();
    link.record(&recorder);
    recorder.line(&link.link, now)
}

/// A recorder whose metrics become one line of CloudWatch's Embedded Metric Format ("Specification: Embedded metric
/// format" in the CloudWatch User Guide).
#[derive(Default)]
struct EmfRecorder(Mutex<Vec<Recorded>>);

/// One value of an [`EmfRecorder`].
struct Recorded {
    metric: &'static Metric,
    value: Arc<atomics::AtomicU64>,
}

impl Recorded {
    /// Name in CloudWatch: that in Prometheus without prefix and `_total`, in camel case.
    fn name(&self) -> String {
        let name = self.metric.name.trim_start_matches("gitferry_").trim_end_matches("_total");
        let capitalized = |word: &str| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        };
        name.split('_').map(capitalized).collect()
    }

    fn unit(&self) -> &'static str {
        match self.metric.unit {
            Unit::Count => "Count",
            Unit::Seconds => "Seconds",
            Unit::Bytes => "Bytes",
            Unit::Flag => "None",
        }
    }

    fn value(&self) -> f64 {
        let value = self.value.load(Ordering::Acquire);
        match self.metric.kind {
            MetricKind::Counter => value as f64,
            MetricKind::Gauge | MetricKind::Histogram => f64::from_bits(value),
        }
    }
}

impl EmfRecorder {
    fn register(&self, key: &Key) -> Arc<atomics::AtomicU64> {
        let value = Arc::new(atomics::AtomicU64::new(0));
        let metric = Metric::find(key.name()).unwrap_or_else(|| unreachable!("{} is in the catalog", key.name()));
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.push(Recorded { metric, value: value.clone() });
        value
    }

    /// Renders the metrics in the order of their registration.
    fn line(self, link: &str, now: Timestamp) -> String {
        let recorded = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let definition = |recorded: &Recorded| json!({ "Name": recorded.name(), "Unit": recorded.unit() });
        let definitions: Vec<Value> = recorded.iter().map(definition).collect();
        let directive = json!({ "Namespace": NAMESPACE, "Dimensions": [[LINK]], "Metrics": definitions });
        let metadata = json!({ "Timestamp": now.as_millisecond(), "CloudWatchMetrics": [directive] });
        let mut line = Map::from_iter([("_aws".to_owned(), metadata), (LINK.to_owned(), link.into())]);
        line.extend(recorded.iter().map(|recorded| (recorded.name(), recorded.value().into())));
        Value::Object(line).to_string()
    }
}

impl Recorder for EmfRecorder {
    fn describe_counter(&self, _: KeyName, _: Option<DescribedUnit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<DescribedUnit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<DescribedUnit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key))
    }

    /// The format has no buckets.
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> LinkMetrics {
        LinkMetrics {
            link: "dr".into(),
            lag_seconds: 1.5,
            pending: 2,
            delivered: 30,
            failed: 4,
            ..LinkMetrics::default()
        }
    }

    #[test]
    fn a_line_for_cloudwatch() {
        let line: Value = serde_json::from_str(&emf(&link(), Timestamp::from_second(7).unwrap())).unwrap();
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!((&line["_aws"]["Timestamp"], &directive["Namespace"]), (&7000.into(), &"gitferry".into()));
        assert_eq!(directive["Dimensions"], json!([["link"]]));
        assert_eq!((&line["link"], &line["LagSeconds"], &line["Delivered"]), (&"dr".into(), &1.5.into(), &30.0.into()));
        // Each that is announced is there, and nothing that is unknown is announced.
        let names: Vec<&str> =
            directive["Metrics"].as_array().unwrap().iter().map(|metric| metric["Name"].as_str().unwrap()).collect();
        assert_eq!(names, ["LagSeconds", "Pending", "Delivered", "Failed", "Failing", "Forks"]);
        assert!(names.iter().all(|name| line[name].is_number()));
        let all = LinkMetrics {
            oldest_unverified_seconds: Some(9.0),
            packs_aside: Some(2),
            recovery_point_age_seconds: Some(0.0),
            ..link()
        };
        let line: Value = serde_json::from_str(&emf(&all, Timestamp::UNIX_EPOCH)).unwrap();
        assert_eq!((&line["OldestUnverifiedSeconds"], &line["RecoveryPointAgeSeconds"]), (&9.0.into(), &0.0.into()));
        assert_eq!(line["PacksAside"], 2.0);
    }

    #[test]
    fn a_link_that_is_not_open_does_not_look_well() {
        let link = LinkMetrics { unopened: true, ready: Some(false), ..link() };
        let text = prometheus(std::slice::from_ref(&link));
        let told: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = ["gitferry_delivered_total{link=\"dr\"} 30", "gitferry_failed_total{link=\"dr\"} 4"];
        assert_eq!(told, [&expected[..], &["gitferry_ready{link=\"dr\"} 0"]].concat());
        let line: Value = serde_json::from_str(&emf(&link, Timestamp::UNIX_EPOCH)).unwrap();
        assert!(line.get("LagSeconds").is_none() && line["Ready"] == 0.0, "{line}");
    }

    /// The limits of the Embedded Metric Format: 100 metrics in a directive, dimensions of 1,024 printable ASCII
    /// characters, finite values, a line of less than 1 MB.
    #[test]
    fn metrics_keep_to_the_limits_of_cloudwatch() {
        let all = LinkMetrics {
            link: "a".repeat(255),
            lag_seconds: f64::INFINITY,
            pending: u64::MAX,
            ready: Some(true),
            oldest_unverified_seconds: Some(0.0),
            ..link()
        };
        let text = emf(&all, Timestamp::MAX);
        let line: Value = serde_json::from_str(&text).unwrap();
        let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        assert!(metrics.len() <= 100 && text.len() < 10_000 && !text.contains('\n'));
        assert!(metrics.iter().all(|metric| line[metric["Name"].as_str().unwrap()].is_number()), "{text}");
    }

    #[test]
    fn a_line_counts_since_the_line_before() {
        let later = LinkMetrics { delivered: 35, pending: 1, ..link() };
        let since = later.since(&link());
        assert_eq!((since.delivered, since.failed, since.pending), (5, 0, 1));
    }

    #[test]
    fn a_page_for_prometheus() {
        let other = LinkMetrics { link: "a\"b".into(), oldest_unverified_seconds: Some(3.0), ..LinkMetrics::default() };
        let text = prometheus(&[link(), other]);
        for line in [
            "# TYPE gitferry_lag_seconds gauge",
            "gitferry_lag_seconds{link=\"dr\"} 1.5",
            "gitferry_lag_seconds{link=\"a\\\"b\"} 0",
            "# TYPE gitferry_delivered_total counter",
            "gitferry_delivered_total{link=\"dr\"} 30",
            "gitferry_oldest_unverified_seconds{link=\"a\\\"b\"} 3",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("unverified_seconds{link=\"dr\"}") && !text.contains("recovery_point"), "{text}");
        assert_eq!(prometheus(&[]), "");
    }
}
