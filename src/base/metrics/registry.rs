//! [`Registry`]: the values of some metrics, rendered as a page for Prometheus.

use std::sync::LazyLock;
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::sync::watch;

use super::{CATALOG, Metric, MetricKind};

/// Media type of a page: Prometheus's text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";
/// Upper bounds of the buckets of every histogram, in seconds: from an advertisement out of the cache to the clone of a
/// large repository.
pub const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 1800.0];
/// Period after which the values that histograms have received are added to their buckets; they take 16 bytes each
/// until then.
pub const DRAIN_EVERY: Duration = Duration::from_secs(5);

/// The values of some metrics.
#[derive(Debug)]
pub struct Registry {
    recorder: PrometheusRecorder,
    /// Values of the first labels of every metric.
    first_values: Vec<String>,
}

impl Default for Registry {
    fn default() -> Self {
        Registry::new(Vec::new())
    }
}

impl Registry {
    /// A registry of the metrics of one region, which have the label `region` first.
    pub fn of_region(region: &str) -> Self {
        Registry::new(vec![region.to_owned()])
    }

    fn new(first_values: Vec<String>) -> Self {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets(&BUCKETS).unwrap_or_else(|_| unreachable!("there are buckets"));
        let recorder = builder.build_recorder();
        for metric in CATALOG {
            let describe = match metric.kind {
                MetricKind::Counter => PrometheusRecorder::describe_counter,
                MetricKind::Gauge => PrometheusRecorder::describe_gauge,
                MetricKind::Histogram => PrometheusRecorder::describe_histogram,
            };
            describe(&recorder, metric.name.into(), None, metric.help.into());
        }
        Registry { recorder, first_values }
    }

    /// The recorder behind the registry.
    pub fn recorder(&self) -> &dyn Recorder {
        &self.recorder
    }

    /// The counter with these values of its other labels.
    pub fn counter(&self, metric: &Metric, values: &[&str]) -> Counter {
        metric.counter(&self.recorder, &self.all_values(values))
    }

    /// The gauge with these values of its other labels.
    pub fn gauge(&self, metric: &Metric, values: &[&str]) -> Gauge {
        metric.gauge(&self.recorder, &self.all_values(values))
    }

    /// The histogram with these values of its other labels.
    pub fn histogram(&self, metric: &Metric, values: &[&str]) -> Histogram {
        metric.histogram(&self.recorder, &self.all_values(values))
    }

    fn all_values<'a>(&'a self, values: &[&'a str]) -> Vec<&'a str> {
        self.first_values.iter().map(String::as_str).chain(values.iter().copied()).collect()
    }

    /// Renders all metrics with a value, sorted by name; counters and gauges also by labels.
    pub fn page(&self) -> String {
        let text = self.recorder.handle().render();
        // A blank line ends each metric. Help and labels contain none: their line breaks are escaped.
        let mut metrics: Vec<&str> = text.split_terminator("\n\n").collect();
        metrics.sort_unstable();
        metrics.into_iter().map(sorted).collect()
    }

    /// Adds the values that histograms have received to their buckets.
    pub fn drain(&self) {
        self.recorder.handle().run_upkeep();
    }

    /// Drains the histograms every [`DRAIN_EVERY`] until `stop` turns true, so that their memory is bounded even where
    /// nothing reads the page.
    pub async fn keep_drained(&self, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(DRAIN_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let draining = async {
            loop {
                tick.tick().await;
                self.drain();
            }
        };
        tokio::select! {
            () = draining => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// Sorts the samples of a metric. Those of a histogram stay in the order of their bounds.
fn sorted(metric: &str) -> String {
    let mut lines: Vec<&str> = metric.lines().collect();
    let is_histogram = lines.get(1).is_some_and(|line| line.ends_with(" histogram"));
    if !is_histogram && let Some(samples) = lines.get_mut(2..) {
        samples.sort_unstable();
    }
    lines.into_iter().flat_map(|line| [line, "\n"]).collect()
}

/// The registry of what belongs to the process as a whole: requests to AWS.
pub fn process() -> &'static Registry {
    static PROCESS: LazyLock<Registry> = LazyLock::new(Registry::default);
    &PROCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{PUSHES_ACCEPTED, QUEUE_WAITING, REQUEST_SECONDS};

    #[test]
    fn a_page_has_what_was_recorded_by_name() {
        let registry = Registry::of_region("us \"east\"\n");
        assert_eq!(registry.page(), "");
        registry.gauge(&QUEUE_WAITING, &["git"]).set(2.5);
        // The exporter returns samples in any order.
        for queue in ["hooks", "compute", "lfs_uploads", "lfs_downloads"] {
            registry.gauge(&QUEUE_WAITING, &[queue]).set(0.0);
        }
        registry.counter(&PUSHES_ACCEPTED, &[]).increment(3);
        let expected = "# HELP gitferry_host_pushes_accepted_total Pushes of which every ref was accepted.\n\
                        # TYPE gitferry_host_pushes_accepted_total counter\n\
                        gitferry_host_pushes_accepted_total{region=\"us \\\"east\\\"\\n\"} 3\n\
                        # HELP gitferry_host_queue_waiting Requests that wait for admission.\n\
                        # TYPE gitferry_host_queue_waiting gauge\n\
                        gitferry_host_queue_waiting{region=\"us \\\"east\\\"\\n\",queue=\"compute\"} 0\n\
                        gitferry_host_queue_waiting{region=\"us \\\"east\\\"\\n\",queue=\"git\"} 2.5\n\
                        gitferry_host_queue_waiting{region=\"us \\\"east\\\"\\n\",queue=\"hooks\"} 0\n\
                        gitferry_host_queue_waiting{region=\"us \\\"east\\\"\\n\",queue=\"lfs_downloads\"} 0\n\
                        gitferry_host_queue_waiting{region=\"us \\\"east\\\"\\n\",queue=\"lfs_uploads\"} 0\n";
        assert_eq!(registry.page(), expected);
    }

    #[test]
    fn two_registries_share_nothing() {
        let [one, other] = ["one", "other"].map(Registry::of_region);
        one.counter(&PUSHES_ACCEPTED, &[]).increment(1);
        assert_eq!((one.page().is_empty(), other.page().as_str()), (false, ""));
    }

    #[tokio::test(start_paused = true)]
    async fn values_of_histograms_end_in_buckets_without_a_reader() {
        let registry = Registry::of_region("us");
        let histogram = registry.histogram(&REQUEST_SECONDS, &["fetch", "2xx"]);
        let (stop, stopped) = watch::channel(false);
        let recording = async {
            for number in 0..10_000 {
                histogram.record(f64::from(number) / 1000.0);
            }
            tokio::time::sleep(DRAIN_EVERY * 2).await;
            stop.send_replace(true);
        };
        tokio::join!(registry.keep_drained(stopped), recording);
        let page = registry.page();
        let labels = "region=\"us\",route=\"fetch\",outcome=\"2xx\"";
        for (bucket, count) in [("0.005", 6), ("1", 1001), ("5", 5001), ("10", 10_000), ("+Inf", 10_000)] {
            let line = format!("gitferry_host_request_duration_seconds_bucket{{{labels},le=\"{bucket}\"}} {count}\n");
            assert!(page.contains(&line), "{line} is not in\n{page}");
        }
        assert!(page.contains(&format!("gitferry_host_request_duration_seconds_count{{{labels}}} 10000\n")), "{page}");
        assert_eq!(page.lines().count(), BUCKETS.len() + 1 + 2 + 2);
    }
}
