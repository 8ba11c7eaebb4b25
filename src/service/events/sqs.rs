//! The SQS queue of a link and its dead-letter queue. A message is deleted once its event is a pending job, or once the
//! dead-letter queue has it with the reason why it cannot be acted on.

use std::fmt;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, MessageAttributeValue};

use super::codecommit::Rejection;
use gitferry_base::Kind;
use gitferry_store::aws::failure::{Attempts, Failure, failure};

/// Most messages of one request (limit of `ReceiveMessage`).
pub const MAX_MESSAGES: i32 = 10;
/// Longest time that a request waits for a message (limit of `WaitTimeSeconds`): long polling.
pub const LONG_POLL: Duration = Duration::from_secs(20);
/// Longest delay of a message, in seconds (limit of `DelaySeconds`).
const MAX_DELAY_SECONDS: u64 = 900;
/// Message attribute of a dead letter: the reason why it cannot be acted on.
pub const REASON: &str = "gitferry-reason";
/// Message attribute of a dead letter that was shortened, as the dead-letter queue did not take it whole.
pub const SHORTENED: &str = "gitferry-shortened";
/// Longest reason, in characters.
const MAX_REASON_CHARS: usize = 500;
/// Bytes kept of a message that the dead-letter queue does not take whole.
const SHORTENED_BYTES: usize = 128 * 1024;

/// Parts of the SQS error codes for messages that it would never take.
const UNSUITABLE: [&str; 3] = ["InvalidMessageContents", "InvalidParameterValue", "TooLong"];

/// A failed request to a queue.
#[derive(Debug, thiserror::Error)]
#[error("the queue {queue} {what}: {reason}")]
pub struct QueueError {
    /// URL of the queue.
    pub queue: String,
    /// The action that failed, in words.
    pub what: &'static str,
    /// Reason of the failure.
    pub reason: String,
    kind: Kind,
    /// True if SQS would never take this message.
    unsuitable: bool,
}

impl QueueError {
    /// The kind of the error, which says what the caller can do.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    fn new<E>(queue: &str, what: &'static str, error: SdkError<E>, sent: &Attempts) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let unsuitable = error.code().is_some_and(|code| UNSUITABLE.iter().any(|part| code.contains(part)));
        let Failure { cause, reason, .. } = failure(&error, sent);
        QueueError { queue: queue.into(), what, reason, kind: cause.kind(), unsuitable }
    }
}

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The event, in the envelope of its sender.
    pub body: String,
    /// Receipt handle, by which the message is deleted.
    pub receipt: String,
}

/// A queue of events, with the dead-letter queue for events that cannot be acted on.
#[derive(Clone)]
pub struct Queue {
    client: Client,
    url: String,
    dead_letters: Option<String>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("url", &self.url).field("dead_letters", &self.dead_letters).finish()
    }
}

impl Queue {
    /// Makes a queue from its URL and that of its dead-letter queue.
    pub fn new(client: Client, url: impl Into<String>, dead_letters: Option<String>) -> Self {
        Queue { client, url: url.into(), dead_letters }
    }

    /// URL of the queue.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for messages, at most [`MAX_MESSAGES`] of them; returns none if none arrived within `wait`.
    pub async fn receive(&self, wait: Duration) -> Result<Vec<Message>, QueueError> {
        let Ok(wait) = i32::try_from(wait.min(LONG_POLL).as_secs()) else { unreachable!("a long poll takes seconds") };
        let request = self.client.receive_message().queue_url(&self.url).max_number_of_messages(MAX_MESSAGES);
        let attempts = Attempts::default();
        let output = request.wait_time_seconds(wait).customize().interceptor(attempts.clone()).send().await;
        let output = output.map_err(|error| QueueError::new(&self.url, "could not be read", error, &attempts))?;
        let messages = output.messages.unwrap_or_default().into_iter();
        let message = |message: aws_sdk_sqs::types::Message| {
            Some(Message { body: message.body.unwrap_or_default(), receipt: message.receipt_handle? })
        };
        Ok(messages.filter_map(message).collect())
    }

    /// Deletes messages, at most [`MAX_MESSAGES`]. A message that is not deleted is received again, which does no harm.
    pub async fn delete(&self, messages: &[Message]) -> Result<(), QueueError> {
        if messages.is_empty() {
            return Ok(());
        }
        let entry = |(number, message): (usize, &Message)| {
            DeleteMessageBatchRequestEntry::builder().id(number.to_string()).receipt_handle(&message.receipt).build()
        };
        let entries: Result<Vec<_>, _> = messages.iter().enumerate().map(entry).collect();
        let Ok(entries) = entries else { unreachable!("every entry has an id and a receipt") };
        let request = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries));
        let attempts = Attempts::default();
        let output = request.customize().interceptor(attempts.clone()).send().await;
        let output = output.map_err(|error| QueueError::new(&self.url, "did not delete messages", error, &attempts))?;
        for failed in output.failed() {
            tracing::info!(queue = self.url, reason = failed.message(), "a message was not deleted and comes again");
        }
        Ok(())
    }

    /// Sends a message to the queue, which delivers it after `wait`, at most 15 minutes.
    pub async fn send(&self, body: &str, wait: Duration) -> Result<(), QueueError> {
        let mut request = self.client.send_message().queue_url(&self.url).message_body(body);
        if !wait.is_zero() {
            request = request.delay_seconds(wait.as_secs().min(MAX_DELAY_SECONDS) as i32);
        }
        let attempts = Attempts::default();
        let sent = request.customize().interceptor(attempts.clone()).send().await;
        sent.map(drop).map_err(|error| QueueError::new(&self.url, "did not take a message", error, &attempts))
    }

    /// Sends a message that cannot be acted on to the dead-letter queue, with the reason. Returns false if there is
    /// none.
    pub async fn dead_letter(&self, body: &str, rejection: &Rejection) -> Result<bool, QueueError> {
        let Some(dead_letters) = &self.dead_letters else { return Ok(false) };
        let reason = printable(&rejection.to_string());
        match self.send_dead_letter(dead_letters, body, &reason, false).await {
            Err(error) if error.unsuitable => {
                let body = printable_body(&body[..body.floor_char_boundary(SHORTENED_BYTES)]);
                self.send_dead_letter(dead_letters, &body, &reason, true).await
            }
            result => result,
        }
        .map(|()| true)
    }

    async fn send_dead_letter(&self, queue: &str, body: &str, reason: &str, shortened: bool) -> Result<(), QueueError> {
        let mut request = self.client.send_message().queue_url(queue);
        // SQS takes no empty messages.
        request = request.message_body(if body.is_empty() { "-" } else { body });
        request = request.message_attributes(REASON, text_attribute(reason));
        if shortened {
            request = request.message_attributes(SHORTENED, text_attribute("true"));
        }
        let attempts = Attempts::default();
        let sent = request.customize().interceptor(attempts.clone()).send().await;
        sent.map(drop).map_err(|error| QueueError::new(queue, "did not take a dead letter", error, &attempts))
    }
}

fn text_attribute(text: &str) -> MessageAttributeValue {
    let value = MessageAttributeValue::builder().data_type("String").string_value(text).build();
    value.unwrap_or_else(|_| unreachable!("the type is set"))
}

/// Text that SQS takes in an attribute: printable, not empty, at most [`MAX_REASON_CHARS`] characters.
fn printable(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON_CHARS).collect();
    if text.trim().is_empty() { "unknown".into() } else { text }
}

/// Text that SQS takes in a body: the characters of XML 1.0.
fn printable_body(body: &str) -> String {
    let allowed =
        |c: &char| matches!(c, '\t' | '\n' | '\r') || (!c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}'));
    body.chars().filter(allowed).collect()
}
