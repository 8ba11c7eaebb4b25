//! Pages of metrics, as Prometheus's own client for Python reads them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

/// The package of PyPI that reads the page, and its version.
const CLIENT: (&str, &str) = ("prometheus-client", "0.26.0");

/// Reads a page strictly: the parser lets pass what Prometheus would ingest twice or not at all.
const PROGRAM: &str = r##"
import json, sys
from prometheus_client.parser import text_string_to_metric_families

text = sys.stdin.read()
assert text.endswith("\n"), "the last line has no end"
described = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# HELP ")]
typed = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE ")]
assert described == typed, f"{described} are described, {typed} have a type"
assert len(typed) == len(set(typed)), "a metric is there twice"

samples, seen = [], set()
for family in text_string_to_metric_families(text):
    assert family.type in ("counter", "gauge", "histogram") and family.documentation, family
    buckets = {}
    for sample in family.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        assert key not in seen and sample.timestamp is None, f"{key} is there twice or has a time"
        seen.add(key)
        assert family.type == "gauge" or sample.value >= 0, sample
        samples.append([sample.name, sample.labels, sample.value])
        if family.type == "histogram":
            name = tuple(sorted((label, value) for label, value in sample.labels.items() if label != "le"))
            buckets.setdefault(name, {})[sample.labels.get("le", sample.name)] = sample.value
    for labels, values in buckets.items():
        counts = [count for bound, count in values.items() if not bound.startswith(family.name)]
        assert counts == sorted(counts) and counts[-1] == values["+Inf"] == values[family.name + "_count"], values
        assert family.name + "_sum" in values, values
print(json.dumps({"metrics": typed, "samples": samples}))
"##;

/// A page of metrics.
#[derive(Debug)]
pub struct Page {
    /// Names, labels and values.
    samples: Vec<(String, Value, f64)>,
    /// Names of the metrics.
    pub metrics: BTreeSet<String>,
}

impl Page {
    /// Reads a page. Panics if it is not valid.
    pub fn read(text: &str) -> Page {
        let python = crate::python::environment(CLIENT.0, CLIENT.1, "");
        let mut command = Command::new(python);
        command.args(["-c", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
        let read: Value = serde_json::from_slice(&output.stdout).unwrap();
        let samples = serde_json::from_value(read["samples"].clone()).unwrap();
        Page { samples, metrics: serde_json::from_value(read["metrics"].clone()).unwrap() }
    }

    /// The sum of all samples of this name that have these labels; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let named = self.samples.iter().filter(|(other, ..)| other == name);
        let labelled = named.filter(|(_, all, _)| labels.iter().all(|(label, value)| all[*label] == *value));
        labelled.map(|(.., value)| value).sum()
    }

    /// Values of a label, over all samples.
    pub fn values_of(&self, label: &str) -> BTreeSet<&str> {
        self.samples.iter().filter_map(|(_, labels, _)| labels[label].as_str()).collect()
    }
}
