//! Metrics of each link, as CloudWatch's Embedded Metric Format and as Prometheus's text. Pure: the values come from
//! [`super::status`], [`super::lambda`] and [`super::backup`].

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Namespace in CloudWatch.
pub const NAMESPACE: &str = "gitferry";
/// Name of the one dimension or label.
const LINK: &str = "link";

/// Metrics of one link at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
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

impl Figures {
    /// The value of a gauge, which is known only of an open link.
    fn known(&self, value: f64) -> Option<f64> {
        (!self.unopened && value.is_finite()).then_some(value)
    }

    /// The same metrics, with counters since `before`.
    pub fn since(&self, before: &Figures) -> Figures {
        Figures {
            delivered: self.delivered.saturating_sub(before.delivered),
            failed: self.failed.saturating_sub(before.failed),
            ..self.clone()
        }
    }
}

/// One metric, under its names in both systems.
struct Metric {
    cloudwatch: &'static str,
    unit: &'static str,
    prometheus: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Figures) -> Option<f64>,
}

const METRICS: [Metric; 10] = [
    Metric {
        cloudwatch: "LagSeconds",
        unit: "Seconds",
        prometheus: "gitferry_lag_seconds",
        kind: "gauge",
        help: "Largest age of a change that the target lacks, or lacked a moment ago.",
        value: |figures| figures.known(figures.lag_seconds),
    },
    Metric {
        cloudwatch: "Pending",
        unit: "Count",
        prometheus: "gitferry_pending",
        kind: "gauge",
        help: "Repositories that are behind.",
        value: |figures| figures.known(figures.pending as f64),
    },
    Metric {
        cloudwatch: "Delivered",
        unit: "Count",
        prometheus: "gitferry_delivered_total",
        kind: "counter",
        help: "Deliveries that brought something.",
        value: |figures| Some(figures.delivered as f64),
    },
    Metric {
        cloudwatch: "Failed",
        unit: "Count",
        prometheus: "gitferry_failed_total",
        kind: "counter",
        help: "Deliveries that failed.",
        value: |figures| Some(figures.failed as f64),
    },
    Metric {
        cloudwatch: "Failing",
        unit: "Count",
        prometheus: "gitferry_failing",
        kind: "gauge",
        help: "Repositories whose last delivery failed.",
        value: |figures| figures.known(figures.failing as f64),
    },
    Metric {
        cloudwatch: "Ready",
        unit: "None",
        prometheus: "gitferry_ready",
        kind: "gauge",
        help: "1 when all that the link works with can be used and deliveries succeed, else 0.",
        value: |figures| figures.ready.map(|ready| f64::from(u8::from(ready))),
    },
    Metric {
        cloudwatch: "Forks",
        unit: "Count",
        prometheus: "gitferry_forks",
        kind: "gauge",
        help: "Repositories with two histories.",
        value: |figures| figures.known(figures.forks as f64),
    },
    Metric {
        cloudwatch: "OldestUnverifiedSeconds",
        unit: "Seconds",
        prometheus: "gitferry_oldest_unverified_seconds",
        kind: "gauge",
        help: "Longest time that a repository of the target has not been verified.",
        value: |figures| figures.oldest_unverified_seconds,
    },
    Metric {
        cloudwatch: "PacksAside",
        unit: "Count",
        prometheus: "gitferry_packs_aside",
        kind: "gauge",
        help: "Damaged packs in both regions that consolidation passes over until they are mended.",
        value: |figures| figures.packs_aside.map(|packs| packs as f64),
    },
    Metric {
        cloudwatch: "RecoveryPointAgeSeconds",
        unit: "Seconds",
        prometheus: "gitferry_recovery_point_age_seconds",
        kind: "gauge",
        help: "Age of the oldest change that a backup left behind.",
        value: |figures| figures.recovery_point_age_seconds,
    },
];

/// Renders one line of CloudWatch's Embedded Metric Format ("Specification: Embedded metric format" in the CloudWatch
/// User Guide). Counters are those since the line before: see [`Figures::since`].
pub fn emf(figures: &Figures, now: Timestamp) -> String {
    let known: Vec<(&Metric, f64)> =
        METRICS.iter().filter_map(|metric| Some((metric, (metric.value)(figures)?))).collect();
    let definition = |(metric, _): &(&Metric, f64)| json!({ "Name": metric.cloudwatch, "Unit": metric.unit });
    let definitions: Vec<Value> = known.iter().map(definition).collect();
    let directive = json!({ "Namespace": NAMESPACE, "Dimensions": [[LINK]], "Metrics": definitions });
    let metadata = json!({ "Timestamp": now.as_millisecond(), "CloudWatchMetrics": [directive] });
    let mut line = Map::from_iter([("_aws".to_owned(), metadata), (LINK.to_owned(), figures.link.as_str().into())]);
    line.extend(known.iter().map(|(metric, value)| (metric.cloudwatch.to_owned(), (*value).into())));
    Value::Object(line).to_string()
}

/// Renders all links in Prometheus's text format, version 0.0.4.
pub fn prometheus(all: &[Figures]) -> String {
    let mut text = String::new();
    for Metric { prometheus: name, kind, help, value, .. } in &METRICS {
        let known: Vec<(&Figures, f64)> = all.iter().filter_map(|figures| Some((figures, value(figures)?))).collect();
        if known.is_empty() {
            continue;
        }
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (figures, value) in known {
            let _ = writeln!(text, "{name}{{{LINK}=\"{}\"}} {value}", escaped(&figures.link));
        }
    }
    text
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        Figures { link: "dr".into(), lag_seconds: 1.5, pending: 2, delivered: 30, failed: 4, ..Figures::default() }
    }

    #[test]
    fn a_line_for_cloudwatch() {
        let line: Value = serde_json::from_str(&emf(&figures(), Timestamp::from_second(7).unwrap())).unwrap();
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!((&line["_aws"]["Timestamp"], &directive["Namespace"]), (&7000.into(), &"gitferry".into()));
        assert_eq!(directive["Dimensions"], json!([["link"]]));
        assert_eq!((&line["link"], &line["LagSeconds"], &line["Delivered"]), (&"dr".into(), &1.5.into(), &30.0.into()));
        // Each that is announced is there, and nothing that is unknown is announced.
        let names: Vec<&str> =
            directive["Metrics"].as_array().unwrap().iter().map(|metric| metric["Name"].as_str().unwrap()).collect();
        assert_eq!(names, ["LagSeconds", "Pending", "Delivered", "Failed", "Failing", "Forks"]);
        assert!(names.iter().all(|name| line[name].is_number()));
        let all = Figures {
            oldest_unverified_seconds: Some(9.0),
            packs_aside: Some(2),
            recovery_point_age_seconds: Some(0.0),
            ..figures()
        };
        let line: Value = serde_json::from_str(&emf(&all, Timestamp::UNIX_EPOCH)).unwrap();
        assert_eq!((&line["OldestUnverifiedSeconds"], &line["RecoveryPointAgeSeconds"]), (&9.0.into(), &0.0.into()));
        assert_eq!(line["PacksAside"], 2.0);
    }

    #[test]
    fn a_link_that_is_not_open_does_not_look_well() {
        let figures = Figures { unopened: true, ready: Some(false), ..figures() };
        let text = prometheus(std::slice::from_ref(&figures));
        let told: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = ["gitferry_delivered_total{link=\"dr\"} 30", "gitferry_failed_total{link=\"dr\"} 4"];
        assert_eq!(told, [&expected[..], &["gitferry_ready{link=\"dr\"} 0"]].concat());
        let line: Value = serde_json::from_str(&emf(&figures, Timestamp::UNIX_EPOCH)).unwrap();
        assert!(line.get("LagSeconds").is_none() && line["Ready"] == 0.0, "{line}");
    }

    /// The limits of the Embedded Metric Format: 100 metrics in a directive, dimensions of 1,024 printable ASCII
    /// characters, finite values, a line of less than 1 MB. And Prometheus's conventions for names.
    #[test]
    fn figures_keep_to_the_limits_of_both_systems() {
        let all = Figures {
            link: "a".repeat(255),
            lag_seconds: f64::INFINITY,
            pending: u64::MAX,
            ready: Some(true),
            oldest_unverified_seconds: Some(0.0),
            ..figures()
        };
        let text = emf(&all, Timestamp::MAX);
        let line: Value = serde_json::from_str(&text).unwrap();
        let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        assert!(metrics.len() <= 100 && text.len() < 10_000 && !text.contains('\n'));
        assert!(metrics.iter().all(|metric| line[metric["Name"].as_str().unwrap()].is_number()), "{text}");
        for metric in &METRICS {
            let (name, is_seconds) = (metric.prometheus, metric.unit == "Seconds");
            assert_eq!(name.ends_with("_total"), metric.kind == "counter", "{name}");
            assert_eq!(name.ends_with("_seconds"), is_seconds, "{name}");
            assert!(name.starts_with("gitferry_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(!metric.help.contains(['\\', '\n']));
        }
    }

    #[test]
    fn a_line_counts_since_the_line_before() {
        let later = Figures { delivered: 35, pending: 1, ..figures() };
        let since = later.since(&figures());
        assert_eq!((since.delivered, since.failed, since.pending), (5, 0, 1));
    }

    #[test]
    fn a_page_for_prometheus() {
        let other = Figures { link: "a\"b".into(), oldest_unverified_seconds: Some(3.0), ..Figures::default() };
        let text = prometheus(&[figures(), other]);
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
