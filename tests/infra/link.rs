//! The module `link`: queue, ways of running, alarms.

use std::collections::BTreeSet;

use gitferry_service::worker::metrics::{LinkMetrics, NAMESPACE, emf};
use hcl::Block;
use jiff::Timestamp;
use serde_json::Value;

use crate::hcl_files::{Module, at, words};

fn label(block: &Block) -> &str {
    block.labels()[1].as_str()
}

#[test]
fn what_cannot_be_acted_on_is_kept() {
    let module = Module::read("link");
    let queues = module.all("resource", "aws_sqs_queue");
    let events = queues.iter().find(|queue| label(queue) == "events").unwrap();
    let redrive = at(events.body(), "redrive_policy").concat();
    assert!(redrive.contains("aws_sqs_queue.dead_letters[0].arn") && redrive.contains("maxReceiveCount"), "{redrive}");
    assert!(queues.iter().all(|queue| at(queue.body(), "sqs_managed_sse_enabled") == ["true"]));
    // The rule's own failures go there, too.
    let targets = module.all("resource", "aws_cloudwatch_event_target");
    let queue = targets.iter().find(|target| label(target) == "queue").unwrap();
    assert_eq!(at(queue.body(), "dead_letter_config.arn"), ["aws_sqs_queue.dead_letters[0].arn"]);
}

/// The rule passes on what the program publishes and reads.
#[test]
fn a_rule_matches_the_events_of_the_program() {
    let text = std::fs::read_to_string(crate::hcl_files::root("infra/modules/link/queue.tf")).unwrap();
    let pattern = text.split("pattern = jsonencode(").nth(1).unwrap().split("})").next().unwrap();
    use gitferry_service::events::codecommit::{DETAIL_TYPE, GITFERRY};
    for word in [DETAIL_TYPE, GITFERRY, "aws.codecommit"] {
        assert!(words(pattern).iter().any(|other| other == word), "{word} is not in {pattern}");
    }
}

#[test]
fn one_variable_says_what_runs() {
    let module = Module::read("link");
    for (of, name, count) in [
        ("aws_ecs_service", "worker", "var.run == \"service\" ? 1 : 0"),
        ("aws_lambda_function", "worker", "local.function ? 1 : 0"),
        ("aws_lambda_event_source_mapping", "queue", "local.function ? 1 : 0"),
        ("aws_scheduler_schedule", "backup", "local.tasks ? 1 : 0"),
        ("aws_sqs_queue", "events", "local.events ? 1 : 0"),
    ] {
        let all = module.all("resource", of);
        let block = all.iter().find(|block| label(block) == name).unwrap();
        assert_eq!(at(block.body(), "count"), [count], "{of}");
    }
    let mapping = module.resource("aws_lambda_event_source_mapping");
    assert_eq!(words(&at(mapping.body(), "function_response_types").concat()), ["ReportBatchItemFailures"]);
}

/// Names of the program's metrics in CloudWatch.
fn metrics() -> BTreeSet<String> {
    let all = LinkMetrics {
        oldest_unverified_seconds: Some(0.0),
        packs_aside: Some(0),
        recovery_point_age_seconds: Some(0.0),
        ..LinkMetrics::default()
    };
    let line: Value = serde_json::from_str(&emf(&all, Timestamp::UNIX_EPOCH)).unwrap();
    let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
    metrics.iter().map(|metric| metric["Name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn alarms_watch_what_there_is() {
    let module = Module::read("link");
    let alarms = module.all("resource", "aws_cloudwatch_metric_alarm");
    let names: BTreeSet<&str> = alarms.iter().map(|alarm| label(alarm)).collect();
    let expected = ["dead_letters", "forks", "lag", "message_age", "packs_aside", "recovery_point", "unverified"];
    assert_eq!(names, BTreeSet::from(expected));
    let docs = std::fs::read_to_string(crate::hcl_files::root("docs/operations.md")).unwrap();
    for alarm in alarms {
        let [namespace, metric] = ["namespace", "metric_name"].map(|what| at(alarm.body(), what).concat());
        let of_queues = ["ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"];
        match namespace == NAMESPACE {
            true => assert!(metrics().contains(&metric), "nobody tells {metric}"),
            false => assert!(namespace == "AWS/SQS" && of_queues.contains(&metric.as_str()), "{namespace} {metric}"),
        }
        assert_eq!(at(alarm.body(), "alarm_actions"), ["var.alarm_topics"], "{metric}");
        // Whoever is woken finds what to do.
        let name = at(alarm.body(), "alarm_name").concat().replace("${local.id}", "");
        assert!(docs.contains(&format!("`…{name}`")), "docs/operations.md says nothing of {name}");
    }
}
