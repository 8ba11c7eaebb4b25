//! Events between a host and a worker in one process.

use tokio::sync::mpsc;

use gitferry_engine::announce::{Event, Sink};

/// Most events that wait for the worker; further ones are dropped and left to the sweep.
const MAX_WAITING: usize = 10_000;

/// The sending side, for hosts.
#[derive(Clone, Debug)]
pub struct InProcess(mpsc::Sender<Event>);

/// Makes a sink and the worker's end of it.
pub fn channel() -> (InProcess, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (InProcess(sender), receiver)
}

impl Sink for InProcess {
    fn publish(&self, event: Event) {
        if let Err(error) = self.0.try_send(event) {
            tracing::debug!(%error, "an event was dropped; the next sweep finds the change");
        }
    }
}
