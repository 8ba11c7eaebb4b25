//! Event buses and queues.

use serde::Deserialize;

/// Prefix of a region's `events` setting.
const EVENTBRIDGE: &str = "eventbridge:";

/// `events = "eventbridge:BUS"` of a region: event bus for committed changes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct EventsConfig {
    /// Name or ARN of the event bus.
    pub bus: String,
}

impl TryFrom<String> for EventsConfig {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bus = text.strip_prefix(EVENTBRIDGE).filter(|bus| {
            !bus.is_empty()
                && bus.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':'))
        });
        match bus {
            Some(bus) => Ok(EventsConfig { bus: bus.into() }),
            None => Err(format!("`{text}` is not of the form {EVENTBRIDGE}BUS")),
        }
    }
}

/// Validates the queue and the dead-letter queue of a link, which require each other: without a dead-letter queue, an
/// event that cannot be processed would be redelivered forever or dropped.
pub fn check_queues(queue: Option<&str>, dead_letters: Option<&str>) -> Result<(), String> {
    for (name, url) in [("queue", queue), ("dead_letters", dead_letters)] {
        let Some(url) = url else { continue };
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let valid = rest.is_some_and(|rest| rest.contains('/') && !rest.contains(['@', '?', '#', ' ']));
        if !valid {
            return Err(format!("{name} is not the URL of a queue"));
        }
    }
    match (queue, dead_letters) {
        (Some(queue), Some(dead_letters)) if queue == dead_letters => {
            Err("queue and dead_letters are the same queue".into())
        }
        (Some(_), None) => Err("queue needs dead_letters, the queue for events that cannot be processed".into()),
        (None, Some(_)) => Err("dead_letters needs queue".into()),
        _ => Ok(()),
    }
}

/// Returns the AWS region of a queue's URL of the form `https://sqs.REGION.amazonaws.com/…`.
pub fn region_of_queue(url: &str) -> Option<&str> {
    let host = url.strip_prefix("https://")?.split('/').next()?;
    let region = host.strip_prefix("sqs.")?.split('.').next()?;
    host.contains(".amazonaws.com").then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_is_a_name_or_an_arn() {
        for good in ["eventbridge:default", "eventbridge:arn:aws:events:us-east-1:123456789012:event-bus/git"] {
            assert_eq!(format!("eventbridge:{}", EventsConfig::try_from(good.to_owned()).unwrap().bus), good);
        }
        for bad in ["eventbridge:", "default", "sns:topic", "eventbridge:a b"] {
            assert!(EventsConfig::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn queues_come_in_pairs() {
        let (queue, dead) = ("https://sqs.eu-west-1.amazonaws.com/123456789012/in", "http://127.0.0.1:1/0/dead");
        check_queues(None, None).unwrap();
        check_queues(Some(queue), Some(dead)).unwrap();
        for (queue, dead) in
            [(Some(queue), None), (None, Some(dead)), (Some(queue), Some(queue)), (Some("in"), Some(dead))]
        {
            check_queues(queue, dead).unwrap_err();
        }
        assert_eq!(region_of_queue(queue), Some("eu-west-1"));
        assert_eq!(region_of_queue(dead), None);
    }
}
