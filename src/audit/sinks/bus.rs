//! [`BusSink`]: records as events of an EventBridge bus.
//!
//! An event has the `detail-type` that CloudTrail's events have, so that a rule for CodeCommit needs another `source`
//! alone: AWS keeps `aws.codecommit` to itself. A rule on the bus takes records on to CloudWatch Logs, S3 or a SIEM.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;

use super::{Sink, SinkError};
use crate::record::MAX_RECORD_BYTES;
use gitferry_store::aws::failure::{Attempts, failure};

/// `source` of the events.
pub const SOURCE: &str = "gitferry.codecommit";
/// `detail-type` of the events, that of CloudTrail.
pub const DETAIL_TYPE: &str = "AWS API Call via CloudTrail";
/// Most events of one request (limit of `PutEvents`).
const MAX_ENTRIES: usize = 10;
/// Most bytes of one request (limit of `PutEvents`).
const MAX_REQUEST_BYTES: usize = 256 * 1024;

/// A full request of the largest records is within the limit of its bytes.
const _: () = assert!(MAX_ENTRIES * (MAX_RECORD_BYTES + 1024) <= MAX_REQUEST_BYTES);

/// Sends records to a bus.
#[derive(Debug)]
pub struct BusSink {
    client: Client,
    bus: String,
}

impl BusSink {
    /// Sends to the bus of this name or ARN.
    pub fn new(client: Client, bus: impl Into<String>) -> Self {
        BusSink { client, bus: bus.into() }
    }

    fn entry(&self, record: &str) -> PutEventsRequestEntry {
        let entry = PutEventsRequestEntry::builder().source(SOURCE).detail_type(DETAIL_TYPE);
        entry.detail(record).event_bus_name(&self.bus).build()
    }

    /// Sends the first records. Returns those of them that were refused, with the reason of the first.
    async fn put(&self, records: &[Arc<str>]) -> Result<(Vec<Arc<str>>, Option<String>), String> {
        let sent = Attempts::default();
        let entries = records.iter().map(|record| self.entry(record)).collect();
        let request = self.client.put_events().set_entries(Some(entries)).customize().interceptor(sent.clone());
        let output = request.send().await.map_err(|error| failure(&error, &sent).reason)?;
        let results = output.entries.unwrap_or_default();
        if results.len() != records.len() {
            return Err(format!("{} answers to {} records", results.len(), records.len()));
        }
        let reason = results.iter().find_map(|result| {
            let code = result.error_code()?;
            Some(format!("{code}: {}", result.error_message().unwrap_or("no reason given")))
        });
        let refused = records.iter().zip(&results).filter(|(_, result)| result.error_code().is_some());
        Ok((refused.map(|(record, _)| record.clone()).collect(), reason))
    }
}

#[async_trait]
impl Sink for BusSink {
    fn name(&self) -> &'static str {
        "events"
    }

    async fn write(&mut self, records: &mut VecDeque<Arc<str>>) -> Result<(), SinkError> {
        while !records.is_empty() {
            let first: Vec<Arc<str>> = records.iter().take(MAX_ENTRIES).cloned().collect();
            let failed = |reason| SinkError::Bus { bus: self.bus.clone(), reason };
            let (refused, reason) = self.put(&first).await.map_err(failed)?;
            records.drain(..first.len());
            for record in refused.into_iter().rev() {
                records.push_front(record);
            }
            if let Some(reason) = reason {
                return Err(failed(reason));
            }
        }
        Ok(())
    }
}
