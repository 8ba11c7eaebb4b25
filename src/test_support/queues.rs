//! Queues, dead letters, and a bus whose events go there.

use std::time::Duration;

use aws_sdk_eventbridge::types::{PutEventsRequestEntry, Target};
use aws_sdk_sqs::types::QueueAttributeName;
use gitferry_service::events::sqs::{Queue, REASON, SHORTENED};
use serde_json::{Value, json};

use crate::aws::{Emulator, fresh};

/// A queue with its dead-letter queue, and a client to look at both.
pub struct Queues {
    pub client: aws_sdk_sqs::Client,
    pub url: String,
    pub dead: String,
}

impl Queues {
    pub async fn new() -> Queues {
        let emulator = Emulator::get();
        let client = aws_sdk_sqs::Client::new(&emulator.sdk_config().await);
        Queues { client, url: emulator.queue().await, dead: emulator.queue().await }
    }

    /// The same; what was received and not deleted comes again after a second or two.
    pub async fn impatient() -> Queues {
        let emulator = Emulator::get();
        let client = aws_sdk_sqs::Client::new(&emulator.sdk_config().await);
        let soon = [(QueueAttributeName::VisibilityTimeout, "2".to_owned())];
        Queues { client, url: emulator.queue_with(&soon).await, dead: emulator.queue().await }
    }

    /// The ARN of a queue.
    pub async fn arn(&self, url: &str) -> String {
        let request = self.client.get_queue_attributes().queue_url(url);
        let request = request.attribute_names(QueueAttributeName::QueueArn);
        request.send().await.unwrap().attributes.unwrap()[&QueueAttributeName::QueueArn].clone()
    }

    /// The bodies of all messages until there are this many; they are gone then.
    pub async fn take(&self, count: usize) -> Vec<String> {
        let queue = self.open();
        let mut found = Vec::new();
        while found.len() < count {
            let messages = queue.receive(Duration::from_secs(20)).await.unwrap();
            assert!(!messages.is_empty(), "{count} messages, not {}", found.len());
            queue.delete(&messages).await.unwrap();
            found.extend(messages.into_iter().map(|message| message.body));
        }
        found
    }

    pub fn open(&self) -> Queue {
        Queue::new(self.client.clone(), &self.url, Some(self.dead.clone()))
    }

    /// The lines of a link in the configuration.
    pub fn toml(&self) -> String {
        format!("queue = \"{}\"\ndead_letters = \"{}\"\n{}", self.url, self.dead, Emulator::get().aws_toml())
    }

    pub async fn send(&self, body: &Value) {
        self.send_text(&body.to_string()).await;
    }

    pub async fn send_text(&self, body: &str) {
        self.client.send_message().queue_url(&self.url).message_body(body).send().await.unwrap();
    }

    /// Messages in a queue, including those received and not deleted.
    pub async fn count(&self, url: &str) -> u64 {
        use aws_sdk_sqs::types::QueueAttributeName as Name;
        let names = [Name::ApproximateNumberOfMessages, Name::ApproximateNumberOfMessagesNotVisible];
        let request = self.client.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec()));
        let attributes = request.send().await.unwrap().attributes.unwrap();
        names.iter().map(|name| attributes[name].parse::<u64>().unwrap()).sum()
    }

    /// Body and attributes of the dead letters.
    pub async fn dead_letters(&self) -> Vec<(String, Option<String>, bool)> {
        let request = self.client.receive_message().queue_url(&self.dead).max_number_of_messages(10);
        let output = request.message_attribute_names("All").send().await.unwrap();
        let letters = output.messages.unwrap_or_default().into_iter().map(|message| {
            let attributes = message.message_attributes.unwrap_or_default();
            let reason = attributes.get(REASON).and_then(|value| value.string_value.clone());
            (message.body.unwrap_or_default(), reason, attributes.contains_key(SHORTENED))
        });
        letters.collect()
    }
}

/// Pattern of changes of repositories, of both sources.
fn changes() -> Value {
    json!({ "source": ["aws.codecommit", "gitferry"], "detail-type": ["CodeCommit Repository State Change"] })
}

/// A bus with a rule for the events of both sources.
pub struct Bus {
    pub client: aws_sdk_eventbridge::Client,
    pub name: String,
    pub rule: String,
}

impl Bus {
    /// The events go to a queue.
    pub async fn to(queues: &Queues) -> Bus {
        let client = aws_sdk_eventbridge::Client::new(&Emulator::get().sdk_config().await);
        let (name, rule) = (fresh("bus"), fresh("rule"));
        client.create_event_bus().name(&name).send().await.unwrap();
        let bus = Bus { client, name, rule };
        bus.add_rule(&bus.rule, queues, changes()).await;
        bus
    }

    /// They go to another queue, too.
    pub async fn also_to(&self, queues: &Queues) {
        self.add_rule(&fresh("rule"), queues, changes()).await;
    }

    /// The records of an audit trail go to a queue.
    pub async fn records_to(&self, queues: &Queues) {
        let pattern = json!({ "source": ["gitferry.codecommit"], "detail-type": ["AWS API Call via CloudTrail"] });
        self.add_rule(&fresh("rule"), queues, pattern).await;
    }

    async fn add_rule(&self, rule: &str, queues: &Queues, pattern: Value) {
        let Bus { client, name, .. } = self;
        let put = client.put_rule().name(rule).event_bus_name(name).event_pattern(pattern.to_string());
        put.send().await.unwrap();
        let arn = queues.arn(&queues.url).await;
        let target = Target::builder().id("queue").arn(arn).build().unwrap();
        client.put_targets().rule(rule).event_bus_name(name).targets(target).send().await.unwrap();
    }

    /// Puts an event with CodeCommit's detail type on it.
    pub async fn put(&self, detail: &Value) {
        let entry = PutEventsRequestEntry::builder().source("gitferry").event_bus_name(&self.name);
        let entry = entry.detail_type("CodeCommit Repository State Change").detail(detail.to_string()).build();
        let answer = self.client.put_events().entries(entry).send().await.unwrap();
        assert_eq!(answer.failed_entry_count, 0, "{answer:?}");
    }

    /// From now on, its events go nowhere.
    pub async fn lose_events(&self) {
        self.client.disable_rule().name(&self.rule).event_bus_name(&self.name).send().await.unwrap();
    }

    /// They go to the queue again.
    pub async fn pass_events(&self) {
        self.client.enable_rule().name(&self.rule).event_bus_name(&self.name).send().await.unwrap();
    }
}
