//! The way to a Git server, whatever it runs over.

use std::fmt;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::ClientError;
use crate::protocol::{Service, Version};

/// One repository at a Git server. Blocking: to be used on threads that run no futures.
pub trait Server: fmt::Debug + Send + Sync {
    /// Where it is, for messages: a URL without credentials.
    fn url(&self) -> &str;

    /// Whether it is a part of this process, so that a request more costs nothing.
    fn is_within(&self) -> bool {
        false
    }

    /// Connects to a service, offering a version of the protocol; the server may answer with a lower one.
    fn connect(&self, service: Service, version: Version) -> Result<Box<dyn Connection>, ClientError>;
}

/// A conversation with one service of a [`Server`].
pub trait Connection: Send {
    /// Whether every request stands for itself (HTTP), or all are parts of one conversation (SSH).
    fn is_stateless(&self) -> bool;

    /// What the server says: what it advertises at first (over HTTP without the `# service` line), then its answer to
    /// the last request. Over HTTP it ends where an answer ends.
    fn answer(&mut self) -> &mut dyn BufRead;

    /// Until when answers are waited for. A server in this process need not heed it.
    fn deadline(&self) -> Deadline {
        Deadline::default()
    }

    /// Begins a request, which is sent while it is written. What is left of the last answer is dropped.
    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError>;
}

/// A request on its way.
///
/// A write fails when the server has hung up or has answered already; [`Request::finish`] then knows why.
pub trait Request: Write + Send {
    /// Sends what is left and waits until the server begins to answer. Without it nothing that was begun counts as
    /// a whole: a dropped request is cut off, so that the server refuses it.
    fn finish(self: Box<Self>) -> Result<(), ClientError>;
}

/// Until when a server's answer is waited for, whatever it sends meanwhile. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Deadline(Arc<Mutex<Option<Instant>>>);

impl Deadline {
    /// From now on so long, or as long as the server says something.
    pub fn set(&self, wait: Option<Duration>) {
        let until = wait.and_then(|wait| Instant::now().checked_add(wait));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// How long is left, where there is a deadline.
    pub fn left(&self) -> Option<Duration> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}
