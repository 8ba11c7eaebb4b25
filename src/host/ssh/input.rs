//! The standard input of a command: what the client sends on a channel, as the body of a request.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures::stream;
use tokio::sync::mpsc;

use super::link::Link;

enum Piece {
    Data(Bytes),
    End,
}

/// The end of a channel that the session writes to. Dropping it without [`Input::end`] fails the body.
#[derive(Debug)]
pub(super) struct Input {
    pieces: mpsc::UnboundedSender<Piece>,
    link: Arc<Link>,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Piece::Data(bytes) => write!(f, "Data({})", bytes.len()),
            Piece::End => f.write_str("End"),
        }
    }
}

/// The end of a channel that the conversation reads.
struct Output {
    /// Unbounded in itself: [`Link`] stops reading the socket while too much is unread.
    pieces: mpsc::UnboundedReceiver<Piece>,
    link: Arc<Link>,
    ended: bool,
}

/// A channel's input, and the body that it fills.
pub(super) fn channel(link: &Arc<Link>) -> (Input, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let output = Output { pieces: receiver, link: link.clone(), ended: false };
    let received = stream::unfold(output, |mut output| async { Some((output.next().await?, output)) });
    (Input { pieces: sender, link: link.clone() }, Body::from_stream(received))
}

impl Input {
    /// Passes data on. What arrives after the conversation has stopped reading is dropped.
    pub(super) fn push(&self, data: &[u8]) {
        self.link.add_unread(data.len());
        if self.pieces.send(Piece::Data(Bytes::copy_from_slice(data))).is_err() {
            self.link.remove_unread(data.len());
        }
    }

    /// Ends the body in order.
    pub(super) fn end(&self) {
        // Fails if the conversation reads no more.
        let _ = self.pieces.send(Piece::End);
    }
}

impl Output {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.ended {
            return None;
        }
        match self.pieces.recv().await {
            Some(Piece::Data(data)) => {
                self.link.remove_unread(data.len());
                Some(Ok(data))
            }
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                Some(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.pieces.close();
        while let Ok(piece) = self.pieces.try_recv() {
            if let Piece::Data(data) = piece {
                self.link.remove_unread(data.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use std::time::Duration;

    #[tokio::test]
    async fn an_input_that_breaks_off_is_not_one_that_ends() {
        let link = Link::new(Duration::from_secs(60));
        let (input, body) = channel(&link);
        input.push(b"one");
        input.end();
        drop(input);
        assert_eq!(axum::body::to_bytes(body, 10).await.unwrap(), "one");
        let (input, body) = channel(&link);
        input.push(b"two");
        drop(input);
        let mut chunks = body.into_data_stream();
        assert_eq!(chunks.next().await.unwrap().unwrap(), "two");
        assert!(chunks.next().await.unwrap().is_err() && chunks.next().await.is_none());
    }

    #[tokio::test]
    async fn unread_bytes_are_counted_until_they_are_read_or_dropped() {
        let link = Link::new(Duration::from_secs(60));
        let (input, body) = channel(&link);
        input.push(&[0; 3 << 20]);
        assert!(link.is_full());
        drop(body);
        assert!(!link.is_full());
        input.push(&[0; 3 << 20]);
        assert!(!link.is_full());
    }
}
