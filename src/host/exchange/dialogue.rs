//! A conversation of Git with state: the server speaks first, and all requests share one stream.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::watch;

use crate::request::refusal::Refusal;

/// A conversation in progress.
pub struct Dialogue {
    /// The server's side of the conversation. Fails if the conversation breaks off.
    pub output: BoxStream<'static, Result<Bytes, Break>>,
    /// Set if the conversation fails with an error that the client has been sent. `output` ends once the client's side has
    /// been read to its end: a client that cannot send the rest of its request reads no error.
    pub failed: Failed,
}

/// Reason why a conversation breaks off.
#[derive(Debug)]
pub enum Break {
    /// The client was idle for too long, or the host failed.
    Failed,
    /// The client is refused what it asked for.
    Refused(Refusal),
}

impl Dialogue {
    /// A conversation whose output is a body.
    pub fn new(output: Body, failed: Failed) -> Self {
        let output = output.into_data_stream().map(|chunk| chunk.map_err(|_| Break::Failed));
        Dialogue { output: output.boxed(), failed }
    }
}

/// A flag that a conversation failed, shared with its thread.
#[derive(Clone, Debug, Default)]
pub struct Failed(Arc<watch::Sender<bool>>);

impl Failed {
    /// Records the failure.
    pub fn set(&self) {
        self.0.send_replace(true);
    }

    /// Returns true if the conversation failed.
    pub fn get(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the conversation fails.
    pub async fn wait(&self) {
        // Fails only without a sender, and `self` holds it.
        let _ = self.0.subscribe().wait_for(|failed| *failed).await;
    }
}
