//! The standard output and the standard error of a command.

use std::time::Duration;

use axum::body::Bytes;
use russh::ChannelWriteHalf;
use russh::server::Msg;

/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254, section 5.2).
const STDERR: u32 = 1;
/// Most bytes that are handed to the channel at once; each such piece may take the idle timeout.
const PIECE_BYTES: usize = 32 * 1024;

/// The sending side of a channel.
pub(super) struct Output {
    channel: ChannelWriteHalf<Msg>,
    idle_timeout: Duration,
}

/// The client has left, or reads nothing.
#[derive(Debug)]
pub(super) struct Gone;

impl Output {
    /// Sends on `channel`. Fails when the client reads nothing within `idle_timeout`.
    pub(super) fn new(channel: ChannelWriteHalf<Msg>, idle_timeout: Duration) -> Self {
        Output { channel, idle_timeout }
    }

    /// Sends bytes to the standard output.
    pub(super) async fn send(&self, mut bytes: Bytes) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            self.within(self.channel.data_bytes(piece)).await?;
        }
        Ok(())
    }

    /// Sends a message to the standard error and the exit status, and closes the channel.
    pub(super) async fn end(&self, status: u32, message: Option<String>) -> Result<(), Gone> {
        if let Some(message) = message {
            let text = format!("gitferry: {message}\n");
            // A client that reads nothing gets the status all the same.
            let _ = self.within(self.channel.extended_data_bytes(STDERR, text)).await;
        }
        self.within(self.channel.exit_status(status)).await?;
        self.within(self.channel.eof()).await?;
        self.within(self.channel.close()).await
    }

    async fn within(&self, sending: impl Future<Output = Result<(), russh::Error>>) -> Result<(), Gone> {
        tokio::time::timeout(self.idle_timeout, sending).await.ok().and_then(Result::ok).ok_or(Gone)
    }
}
