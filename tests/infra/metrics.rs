//! `docs/operations.md` lists the metrics that the program has, with kind, unit and labels, and no others.

use std::collections::BTreeMap;

use gitferry_base::metrics::{CATALOG, Metric};

use crate::policies::{OPERATIONS, documented};

/// Kind, unit and labels of a metric.
type Facts = [String; 3];

fn facts_of(metric: &Metric) -> (String, Facts) {
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    (metric.name.to_owned(), [metric.kind.name().into(), metric.unit.name().into(), labels.join(", ")])
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let rows = documented(OPERATIONS, "| metric | kind");
    let documented: BTreeMap<String, Facts> = rows
        .into_iter()
        .map(|row| {
            let [name, kind, unit, labels, meaning, alarm] = <[String; 6]>::try_from(row).unwrap();
            assert!(!meaning.is_empty() && !alarm.is_empty(), "{name} has a meaning, and an alarm or –");
            (name.trim_matches('`').to_owned(), [kind, unit, labels])
        })
        .collect();
    let existing: BTreeMap<String, Facts> = CATALOG.iter().map(facts_of).collect();
    assert_eq!(documented, existing);
}
