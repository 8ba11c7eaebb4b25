//! From an event to a pending job: events of a batch are parsed, grouped by repository and looked up on the link, and
//! what the target lacks becomes a durable job. An event that cannot be acted on goes to the dead-letter queue.

use std::collections::HashMap;

use super::job::PendingJob;
use super::link::Link;
use super::lookup::{Lookup, LookupError};
use super::pending::PendingJobs;
use crate::events::codecommit::{self, Announcement, Rejection, StateChange, Subject};
use crate::events::sqs::Queue;

/// Adds a pending job for an announced change, unless the target has it.
pub async fn take(link: &dyn Link, change: &StateChange) -> Result<Lookup, LookupError> {
    let found = link.look_up(change).await?;
    if let Lookup::Pending(job) = &found {
        PendingJobs::of(link).add(job).await.map_err(|error| link.table_failed(error))?;
    }
    Ok(found)
}

/// Outcome of a batch of messages.
#[derive(Debug, Default)]
pub struct BatchOutcome {
    /// Jobs that were added, each with the positions of the messages that asked for it.
    pub pending: Vec<(PendingJob, Vec<usize>)>,
    /// Positions of the messages that are dealt with and may be deleted.
    pub done: Vec<usize>,
    /// Positions of the messages that have to be received again, with the reason.
    pub failed: Vec<(usize, String)>,
    /// Messages that went to the dead-letter queue.
    pub rejected: u64,
    /// Messages that announced a state which the target has, or which another message of the batch announced.
    pub duplicates: u64,
    /// Messages about nothing that the link carries.
    pub ignored: u64,
}

/// Takes in a batch of messages of one link, all at the same time. SQS hands over at most 10 messages, Lambda up to
/// 10,000 records: callers pass no more than [`crate::events::sqs::MAX_MESSAGES`].
///
/// Messages about one repository come to one job; where the source is a remote, messages about one value of a ref do.
/// The caller deletes the messages that are done.
pub async fn take_batch(link: &dyn Link, queue: Option<&Queue>, bodies: &[&str]) -> BatchOutcome {
    let mut outcome = BatchOutcome::default();
    let mut groups = Groups::new();
    for (at, body) in bodies.iter().enumerate() {
        match codecommit::parse(body.as_bytes()) {
            Ok(Announcement::Nothing { event }) => {
                tracing::debug!(event, link = link.name(), "an event changes nothing that is replicated");
                outcome.ignored += 1;
                outcome.done.push(at);
            }
            Ok(Announcement::Change(change)) => group(link, &mut groups, change, at),
            Err(rejection) => dead_letter(queue, bodies, &[at], &rejection, &mut outcome).await,
        }
    }
    let lookups = groups.into_values().map(|(change, places)| async move { (take(link, &change).await, places) });
    for (lookup, places) in futures::future::join_all(lookups).await {
        outcome.duplicates += places.len() as u64 - 1;
        match lookup {
            Ok(lookup) => {
                match lookup {
                    Lookup::Pending(job) => outcome.pending.push((job, places.clone())),
                    Lookup::Current => outcome.duplicates += 1,
                    Lookup::NotCarried => outcome.ignored += 1,
                }
                outcome.done.extend(places);
            }
            Err(LookupError::Rejected(rejection)) => {
                dead_letter(queue, bodies, &places, &rejection, &mut outcome).await;
            }
            Err(LookupError::Replication(error)) => {
                tracing::warn!(%error, link = link.name(), "an event could not be looked up; its message comes again");
                outcome.failed.extend(places.into_iter().map(|at| (at, error.to_string())));
            }
        }
    }
    outcome
}

/// The newest change of each group of messages, and their positions in the batch.
type Groups = HashMap<String, (StateChange, Vec<usize>)>;

/// Adds a message to the group of its repository, which keeps the newest state that is announced.
fn group(link: &dyn Link, groups: &mut Groups, change: StateChange, at: usize) {
    let key = match &change.subject {
        // The events of a remote have no order: each value of a ref is a group of its own.
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
        // An event without a state is looked up in any case.
        _ => (u64::MAX, u64::MAX),
    }
}

/// Moves messages to the dead-letter queue. Without one they fail: the redrive policy of their queue moves them there.
async fn dead_letter(
    queue: Option<&Queue>,
    bodies: &[&str],
    places: &[usize],
    rejection: &Rejection,
    outcome: &mut BatchOutcome,
) {
    for at in places {
        let moved = match queue {
            Some(queue) => queue.dead_letter(bodies[*at], rejection).await.map_err(|error| error.to_string()),
            None => Ok(false),
        };
        match moved {
            Ok(true) => {
                tracing::warn!(%rejection, "an event went to the dead-letter queue");
                outcome.rejected += 1;
                outcome.done.push(*at);
            }
            Ok(false) => outcome.failed.push((*at, rejection.to_string())),
            Err(error) => {
                tracing::error!(error, "an event cannot be acted on, and the dead-letter queue did not take it");
                outcome.failed.push((*at, error));
            }
        }
    }
}
