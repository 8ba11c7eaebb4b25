//! Events out: each committed change to EventBridge, with CodeCommit's `detail-type` and fields.

use async_trait::async_trait;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::{PutEventsRequestEntry, PutEventsResultEntry};
use serde_json::Value;
use tokio::sync::mpsc;

use super::codecommit::{DETAIL_TYPE, GITFERRY};
use super::detail::Announced;
use super::outbox::{Announcer, OutboxError, Unannounced};
use gitferry_base::Kind;
use gitferry_base::retry::Attempts;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::log::{ChangeRow, Log};
use gitferry_engine::region::blocking;
use gitferry_store::aws::failure::{Attempts as Sent, failure};

/// Most events of one request (limit of `PutEvents`).
pub const MAX_ENTRIES: usize = 10;
/// Most bytes of one request (limit of `PutEvents`), as EventBridge counts them.
pub const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// Bytes that EventBridge counts for the time of an event.
const TIME_BYTES: usize = 14;
/// Most ref edits of one change that are announced; CodeCommit takes no larger pushes ("Quotas in AWS
/// CodeCommit"). The first one is enough to start a delivery.
pub const MAX_EDITS: u64 = 4_000;
/// Most events that wait for the request before theirs.
const MAX_WAITING: usize = 2 * MAX_ENTRIES;

/// A bus that takes the events of a region.
#[derive(Clone, Debug)]
pub struct EventBridge {
    client: Client,
    bus: String,
}

/// One event, and the bytes that EventBridge counts for it.
struct Entry {
    entry: PutEventsRequestEntry,
    bytes: usize,
}

impl EventBridge {
    /// Makes a bus from its name or ARN.
    pub fn new(client: Client, bus: impl Into<String>) -> Self {
        EventBridge { client, bus: bus.into() }
    }

    fn entry(&self, announced: &Announced, time: jiff::Timestamp, detail: Value) -> Entry {
        let detail = detail.to_string();
        let resource = format!("gitferry:{}:{}", announced.region, announced.repository);
        let bytes = TIME_BYTES + GITFERRY.len() + DETAIL_TYPE.len() + detail.len() + resource.len();
        let entry = PutEventsRequestEntry::builder()
            .time(DateTime::from_millis(time.as_millisecond()))
            .source(GITFERRY)
            .detail_type(DETAIL_TYPE)
            .resources(resource)
            .detail(detail)
            .event_bus_name(&self.bus);
        Entry { entry: entry.build(), bytes }
    }

    /// Sends entries until all are taken. Only entries that were refused for now are sent again.
    async fn put(&self, region: &str, entries: Vec<PutEventsRequestEntry>) -> Result<(), OutboxError> {
        let mut waiting = entries;
        let mut attempts = Attempts::default();
        while !waiting.is_empty() {
            let sent = Sent::default();
            let request = self.client.put_events().set_entries(Some(waiting.clone()));
            let request = request.customize().interceptor(sent.clone());
            let (kind, reason) = match request.send().await {
                Ok(output) => {
                    let results = output.entries.unwrap_or_default();
                    if results.len() != waiting.len() {
                        let reason = format!("{} answers to {} events", results.len(), waiting.len());
                        return Err(self.not_taken(region, Kind::Corrupt, reason));
                    }
                    let refused = results.iter().find(|result| result.error_code.is_some());
                    let refused = refused.map(|result| (kind_of_entry(result), text_of_entry(result)));
                    let pairs = waiting.into_iter().zip(&results);
                    waiting = pairs.filter(|(_, result)| result.error_code.is_some()).map(|(entry, _)| entry).collect();
                    match refused {
                        Some(refused) => refused,
                        None => return Ok(()),
                    }
                }
                Err(error) => {
                    let failure = failure(&error, &sent);
                    (failure.cause.kind(), failure.reason)
                }
            };
            if !attempts.again(kind).await {
                return Err(self.not_taken(region, kind, reason));
            }
        }
        Ok(())
    }

    fn not_taken(&self, region: &str, kind: Kind, reason: String) -> OutboxError {
        OutboxError::NotTaken { region: region.into(), to: format!("the event bus {}", self.bus), reason, kind }
    }

    /// Sends entries in requests that are as full as the limits allow.
    async fn put_all(&self, region: &str, mut entries: mpsc::Receiver<Entry>) -> Result<(), OutboxError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(next) = entries.recv().await {
            if batch.len() == MAX_ENTRIES || bytes + next.bytes > MAX_REQUEST_BYTES {
                self.put(region, std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += next.bytes;
            batch.push(next.entry);
        }
        self.put(region, batch).await
    }
}

#[async_trait]
impl Announcer for EventBridge {
    async fn announce(&self, what: Unannounced<'_>) -> Result<(), OutboxError> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let reader = Reader {
            bridge: self.clone(),
            log: what.region.log(),
            region: what.region.name().to_owned(),
            id: what.item.id,
            repository: what.item.head.name.clone(),
            sender,
        };
        let changes = what.changes.to_vec();
        let reading = blocking(move || Ok::<_, std::io::Error>(changes.iter().try_for_each(|row| reader.send(row))));
        let region = what.region.name();
        let (read, sent) = futures::join!(reading, self.put_all(region, receiver));
        sent?;
        let failed = |error| OutboxError::Region { region: region.to_owned(), error };
        read.map_err(|error| failed(LedgerError::Internal(error.to_string())))?.map_err(failed)
    }
}

/// Reads changes and turns them into events.
struct Reader {
    bridge: EventBridge,
    log: Log,
    region: String,
    id: RepositoryId,
    repository: String,
    sender: mpsc::Sender<Entry>,
}

impl Reader {
    /// Blocking. Ends early when the receiver is gone, which reports the reason.
    fn send(&self, row: &ChangeRow) -> Result<(), LedgerError> {
        let time = row.facts.time;
        let announced = |actor: &str| Announced {
            region: self.region.clone(),
            id: self.id,
            repository: self.repository.clone(),
            frontier: row.frontier(),
            actor: actor.into(),
        };
        let mut sent = 0;
        let header = self.log.read(self.id, row, |header, edit| {
            sent += 1;
            if sent <= MAX_EDITS {
                let announced = announced(&header.actor);
                let _ = self.sender.blocking_send(self.bridge.entry(&announced, time, announced.of_edit(&edit)));
            }
        })?;
        if sent == 0 {
            let announced = announced(&header.actor);
            let _ = self.sender.blocking_send(self.bridge.entry(&announced, time, announced.of_repository()));
        }
        if sent > MAX_EDITS {
            tracing::info!(
                seq = row.facts.seq,
                repository = self.repository,
                edits = sent,
                "not all edits were announced"
            );
        }
        Ok(())
    }
}

fn kind_of_entry(result: &PutEventsResultEntry) -> Kind {
    match result.error_code() {
        Some("InternalFailure" | "InternalException" | "ThrottlingException") => Kind::Transient,
        _ => Kind::Environment,
    }
}

fn text_of_entry(result: &PutEventsResultEntry) -> String {
    format!("{}: {}", result.error_code().unwrap_or("unknown"), result.error_message().unwrap_or("no reason given"))
}
