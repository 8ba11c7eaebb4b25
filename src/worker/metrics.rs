//! What alarms watch: figures of each link, as CloudWatch's Embedded Metric Format and as Prometheus's text. Pure;
//! where the figures come from is [`super::status`], [`super::lambda`] and [`super::backup`].

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The namespace in CloudWatch.
pub const NAMESPACE: &str = "gitferry";
/// The one dimension, in CloudWatch and for Prometheus.
const LINK: &str = "link";

/// How one link stands at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// The link.
    pub link: String,
    /// The largest age of a change that the target lacks or lacked until a moment ago, in seconds.
    pub lag_seconds: f64,
    /// Repositories that are behind.
    pub pending: u64,
    /// Deliveries that brought something, since the start.
    pub delivered: u64,
    /// Deliveries that failed, since the start.
    pub failed: u64,
    /// Repositories with two histories.
    pub forks: u64,
    /// The longest time that a repository of the target has not been verified, in seconds; `None` while unknown.
    pub oldest_unverified_seconds: Option<f64>,
    /// Damaged packs that consolidation passes over, in both regions; `None` while unknown.
    pub packs_aside: Option<u64>,
    /// Age of the oldest change that a backup left behind, in seconds; only a backup tells.
    pub recovery_point_age_seconds: Option<f64>,
}

impl Figures {
    /// The same with what was counted since `before`.
    pub fn since(&self, before: &Figures) -> Figures {
        Figures {
            delivered: self.delivered.saturating_sub(before.delivered),
            failed: self.failed.saturating_sub(before.failed),
            ..self.clone()
        }
    }
}

/// One figure, as either system names it.
struct Metric {
    cloudwatch: &'static str,
    unit: &'static str,
    prometheus: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Figures) -> Option<f64>,
}

const METRICS: [Metric; 8] = [
    Metric {
        cloudwatch: "LagSeconds",
        unit: "Seconds",
        prometheus: "gitferry_lag_seconds",
        kind: "gauge",
        help: "Largest age of a change that the target lacks, or lacked a moment ago.",
        value: |figures| Some(figures.lag_seconds),
    },
    Metric {
        cloudwatch: "Pending",
        unit: "Count",
        prometheus: "gitferry_pending",
        kind: "gauge",
        help: "Repositories that are behind.",
        value: |figures| Some(figures.pending as f64),
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
        cloudwatch: "Forks",
        unit: "Count",
        prometheus: "gitferry_forks",
        kind: "gauge",
        help: "Repositories with two histories.",
        value: |figures| Some(figures.forks as f64),
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

/// One line of CloudWatch's Embedded Metric Format ("Specification: Embedded metric format" in the CloudWatch User
/// Guide). Counters are what was counted since the line before: see [`Figures::since`].
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

/// All links in Prometheus's text format, version 0.0.4.
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
        assert_eq!(names, ["LagSeconds", "Pending", "Delivered", "Failed", "Forks"]);
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
