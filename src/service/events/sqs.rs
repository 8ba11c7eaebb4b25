//! Events from an SQS queue. A message lives only until its repository is marked as due, or until the
//! dead-letter queue has it together with the reason why it cannot be acted on.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, MessageAttributeValue};

use super::codecommit::{self, Announcement, Rejection, StateChange, Subject};
use super::due::Due;
use super::intake::{IntakeError, Taken, take};
use gitferry_base::Kind;
use gitferry_replication::AnyLink;
use gitferry_store::aws::failure::{Attempts, Failure, failure};

/// Most messages of one request (SQS's limit).
pub const MAX_MESSAGES: i32 = 10;
/// How long a request waits for a message (SQS's limit): long polling.
pub const LONG_POLL: Duration = Duration::from_secs(20);
/// How long a message may be kept back (SQS's limit).
const MAX_DELAY_SECONDS: u64 = 900;
/// The message attribute that says why a message cannot be acted on.
pub const REASON: &str = "gitferry-reason";
/// The message attribute that says that a message was too long for the dead-letter queue as it was.
pub const SHORTENED: &str = "gitferry-shortened";
/// Longest reason, in characters.
const MAX_REASON_CHARS: usize = 500;
/// What is kept of a message that the dead-letter queue does not take as it is, in bytes.
const SHORTENED_BYTES: usize = 128 * 1024;

/// Error codes of SQS that say that it would not take a message however often it is asked.
const UNSUITABLE: [&str; 3] = ["InvalidMessageContents", "InvalidParameterValue", "TooLong"];

/// A queue did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the queue {queue} {what}: {reason}")]
pub struct QueueError {
    /// Its URL.
    pub queue: String,
    /// What it did not do.
    pub what: &'static str,
    /// Why.
    pub reason: String,
    kind: Kind,
    /// It would not take this message however often it is asked.
    unsuitable: bool,
}

impl QueueError {
    /// What the caller should do.
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

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it says.
    pub body: String,
    /// What it is deleted by.
    pub receipt: String,
}

/// A queue of events, and where those go that cannot be acted on.
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
    /// A queue by its URL, with the URL of its dead-letter queue.
    pub fn new(client: Client, url: impl Into<String>, dead_letters: Option<String>) -> Self {
        Queue { client, url: url.into(), dead_letters }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether messages that cannot be acted on have a place to go.
    pub fn has_dead_letters(&self) -> bool {
        self.dead_letters.is_some()
    }

    /// Waits for messages; none when none came within `wait`.
    pub async fn receive(&self, wait: Duration) -> Result<Vec<Message>, QueueError> {
        let wait = i32::try_from(wait.min(LONG_POLL).as_secs()).unwrap_or(0);
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

    /// Deletes messages, at most [`MAX_MESSAGES`]. One that is not deleted comes again, which does no harm.
    pub async fn delete(&self, messages: &[Message]) -> Result<(), QueueError> {
        if messages.is_empty() {
            return Ok(());
        }
        let entry = |(number, message): (usize, &Message)| {
            DeleteMessageBatchRequestEntry::builder().id(number.to_string()).receipt_handle(&message.receipt).build()
        };
        let entries: Result<Vec<_>, _> = messages.iter().enumerate().map(entry).collect();
        let entries = entries.unwrap_or_default();
        let request = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries));
        let attempts = Attempts::default();
        let output = request.customize().interceptor(attempts.clone()).send().await;
        let output = output.map_err(|error| QueueError::new(&self.url, "did not delete messages", error, &attempts))?;
        for failed in output.failed() {
            tracing::info!(queue = self.url, reason = failed.message(), "a message was not deleted and comes again");
        }
        Ok(())
    }

    /// Sends a message to the queue itself, which keeps it back for a while.
    pub async fn send(&self, body: &str, wait: Duration) -> Result<(), QueueError> {
        let mut request = self.client.send_message().queue_url(&self.url).message_body(body);
        if !wait.is_zero() {
            request = request.delay_seconds(wait.as_secs().min(MAX_DELAY_SECONDS) as i32);
        }
        let attempts = Attempts::default();
        let sent = request.customize().interceptor(attempts.clone()).send().await;
        sent.map(drop).map_err(|error| QueueError::new(&self.url, "did not take a message", error, &attempts))
    }

    /// Gives what cannot be acted on to the dead-letter queue, with the reason. `false`: there is none.
    pub async fn bury(&self, body: &str, rejection: &Rejection) -> Result<bool, QueueError> {
        let Some(dead_letters) = &self.dead_letters else { return Ok(false) };
        let reason = printable(&rejection.to_string());
        match self.bury_as(dead_letters, body, &reason, false).await {
            Err(error) if error.unsuitable => {
                let cut = (0..=SHORTENED_BYTES.min(body.len())).rev().find(|at| body.is_char_boundary(*at));
                let body = printable_body(&body[..cut.unwrap_or(0)]);
                self.bury_as(dead_letters, &body, &reason, true).await
            }
            result => result,
        }
        .map(|()| true)
    }

    async fn bury_as(&self, queue: &str, body: &str, reason: &str, shortened: bool) -> Result<(), QueueError> {
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

/// What SQS takes in an attribute: printable, not empty, of bounded length.
fn printable(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON_CHARS).collect();
    if text.trim().is_empty() { "unknown".into() } else { text }
}

/// SQS takes what XML 1.0 takes.
fn printable_body(body: &str) -> String {
    let allowed =
        |c: &char| matches!(c, '\t' | '\n' | '\r') || (!c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}'));
    body.chars().filter(allowed).collect()
}

/// What came of a batch of messages.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Marked as due, and the positions of the messages that asked for it.
    pub due: Vec<(Due, Vec<usize>)>,
    /// Positions of the messages that are dealt with and may be deleted.
    pub done: Vec<usize>,
    /// Positions of the messages that have to come again, and why.
    pub failed: Vec<(usize, String)>,
    /// Messages that went to the dead-letter queue.
    pub rejected: u64,
    /// Messages that announced what the target has, or what another message of the batch announced.
    pub duplicates: u64,
    /// Messages about nothing that the link carries.
    pub ignored: u64,
}

/// Deals with a batch of messages of one link, all at a time (SQS gives 10 at most, Lambda 10,000 of some kinds:
/// callers hand over no more than [`MAX_MESSAGES`]): due marks, dead letters. Messages about one repository come to
/// one look at it; where the source is a remote, those about one state of a ref. The caller deletes what is done.
pub async fn take_batch(link: &AnyLink, queue: Option<&Queue>, bodies: &[&str]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut groups = Groups::new();
    for (at, body) in bodies.iter().enumerate() {
        match codecommit::parse(body.as_bytes()) {
            Ok(Announcement::Nothing { event }) => {
                tracing::debug!(event, link = link.name(), "an event changes nothing that is replicated");
                outcome.ignored += 1;
                outcome.done.push(at);
            }
            Ok(Announcement::Change(change)) => group(link, &mut groups, change, at),
            Err(rejection) => bury(queue, bodies, &[at], &rejection, &mut outcome).await,
        }
    }
    let takes = groups.into_values().map(|(change, places)| async move { (take(link, &change).await, places) });
    for (taken, places) in futures::future::join_all(takes).await {
        outcome.duplicates += places.len() as u64 - 1;
        match taken {
            Ok(taken) => {
                match taken {
                    Taken::Due(due) => outcome.due.push((due, places.clone())),
                    Taken::Current => outcome.duplicates += 1,
                    Taken::NotCarried => outcome.ignored += 1,
                }
                outcome.done.extend(places);
            }
            Err(IntakeError::Rejected(rejection)) => bury(queue, bodies, &places, &rejection, &mut outcome).await,
            Err(IntakeError::Replication(error)) => {
                tracing::warn!(%error, link = link.name(), "an event could not be looked at; it comes again");
                outcome.failed.extend(places.into_iter().map(|at| (at, error.to_string())));
            }
        }
    }
    outcome
}

/// What the messages of a batch are about, and their positions.
type Groups = HashMap<String, (StateChange, Vec<usize>)>;

/// The newest state of each repository, and the messages about it.
fn group(link: &AnyLink, groups: &mut Groups, change: StateChange, at: usize) {
    let key = match &change.subject {
        // What a remote tells has no order: each thing counts for itself.
        _ if link.source_region().is_none() => {
            format!("{:?}", (&change.repository, &change.events, &change.reference, &change.commit))
        }
        Subject::Gitferry { id, .. } => id.to_string(),
        Subject::CodeCommit => format!("name {}", change.repository),
    };
    let (newest, places) = groups.entry(key).or_insert_with(|| (change.clone(), Vec::new()));
    places.push(at);
    if state(&change) > state(newest) {
        *newest = change;
    }
}

fn state(change: &StateChange) -> (u64, u64) {
    match &change.subject {
        Subject::Gitferry { frontier: Some(frontier), .. } => (frontier.epoch, frontier.seq),
        // It has to be looked at in any case.
        _ => (u64::MAX, u64::MAX),
    }
}

async fn bury(queue: Option<&Queue>, bodies: &[&str], places: &[usize], rejection: &Rejection, outcome: &mut Outcome) {
    for at in places {
        let buried = match queue {
            Some(queue) => queue.bury(bodies[*at], rejection).await.map_err(|error| error.to_string()),
            None => Ok(false),
        };
        match buried {
            Ok(true) => {
                tracing::warn!(%rejection, "an event went to the dead-letter queue");
                outcome.rejected += 1;
                outcome.done.push(*at);
            }
            // The queue's own redrive policy moves it there.
            Ok(false) => outcome.failed.push((*at, rejection.to_string())),
            Err(error) => {
                tracing::error!(error, "an event cannot be acted on, and the dead-letter queue did not take it");
                outcome.failed.push((*at, error));
            }
        }
    }
}
