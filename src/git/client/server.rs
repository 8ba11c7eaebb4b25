//! Transport to a Git server, independent of HTTP, SSH or an in-process call.

use std::fmt;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::ClientError;
use crate::protocol::{Service, Version};

/// One repository on a Git server. All calls block and must run on threads that drive no futures.
pub trait Server: fmt::Debug + Send + Sync {
    /// URL of the repository without credentials, for messages.
    fn url(&self) -> &str;

    /// Returns true if the server runs in this process, so that an extra round trip is free.
    fn is_within(&self) -> bool {
        false
    }

    /// Connects to a service and offers a protocol version; the server may answer with a lower one.
    fn connect(&self, service: Service, version: Version) -> Result<Box<dyn Connection>, ClientError>;
}

/// Connection to one service of a [`Server`].
pub trait Connection: Send {
    /// Returns true if each request is independent (HTTP), false if all requests share one conversation (SSH).
    fn is_stateless(&self) -> bool;

    /// Server output: first the advertisement (over HTTP without the `# service` line), then the answer to the last
    /// request. Over HTTP the input ends with the answer.
    fn answer(&mut self) -> &mut dyn BufRead;

    /// Deadline for answers. An in-process server may ignore it.
    fn deadline(&self) -> Deadline {
        Deadline::default()
    }

    /// Begins a request that is sent while it is written. Unread bytes of the last answer are dropped.
    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError>;
}

/// Request that is being sent.
///
/// A write fails if the server has closed the connection or has answered early; [`Request::finish`] then returns the
/// reason.
pub trait Request: Write + Send {
    /// Sends buffered bytes and waits until the server begins to answer. A request dropped without `finish` is
    /// truncated, so that the server refuses it.
    fn finish(self: Box<Self>) -> Result<(), ClientError>;
}

/// Deadline for a server's answer, independent of keep-alive packets. Clones share one deadline.
#[derive(Clone, Debug, Default)]
pub struct Deadline(Arc<Mutex<Option<Instant>>>);

impl Deadline {
    /// Sets the deadline to `wait` from now. `None` removes it: only the idle timeout of the transport applies.
    pub fn set(&self, wait: Option<Duration>) {
        let until = wait.and_then(|wait| Instant::now().checked_add(wait));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Time left until the deadline; `None` without one.
    pub fn left(&self) -> Option<Duration> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}
