//! Places that records go to.

mod bus;
mod file;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

pub use bus::BusSink;
pub use file::{FileSink, Rotation};

/// Place that records go to.
#[async_trait]
pub trait Sink: Send {
    /// Name in metrics and in the log, from a closed set.
    fn name(&self) -> &'static str;

    /// Writes records, each a JSON object on one line, and takes from the front those that are durable. The others are
    /// written again, so that a record may come twice: its `eventID` tells.
    ///
    /// # Errors
    /// Not all records were written.
    async fn write(&mut self, records: &mut VecDeque<Arc<str>>) -> Result<(), SinkError>;
}

/// Records could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file cannot be opened or written.
    #[error("the audit file {file} cannot be written: {error}")]
    File {
        /// Path of the file.
        file: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// The event bus did not take all records.
    #[error("the event bus {bus} does not take audit records: {reason}")]
    Bus {
        /// Name or ARN of the bus.
        bus: String,
        /// Reason of the service.
        reason: String,
    },
}
