//! A conversation of Git with state: the server speaks first, and all requests share one stream.

use std::sync::Arc;

use axum::body::Body;
use tokio::sync::watch;

/// A conversation in progress.
#[derive(Debug)]
pub struct Dialogue {
    /// The server's side of the conversation. Fails if the conversation breaks off.
    pub output: Body,
    /// Set if the conversation fails with an error that the client has been sent. `output` ends once the client's side has
    /// been read to its end: a client that cannot send the rest of its request reads no error.
    pub failed: Failed,
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
