//! What asks a long-running command to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use super::output;

/// SIGINT and SIGTERM.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they no longer end the process by themselves, nor does SIGHUP.
    pub fn listen() -> std::io::Result<Self> {
        // SIGHUP asks for files to be read again; where there are none, nothing ends either.
        drop(signal(SignalKind::hangup())?);
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for what runs. The first signal asks it to stop, the second does not wait any more.
    pub async fn until<T>(
        mut self,
        running: impl Future<Output = Result<T, Failure>>,
        stop: impl FnOnce(),
    ) -> Result<T, Failure> {
        let mut running = std::pin::pin!(running);
        tokio::select! {
            ended = &mut running => return ended,
            () = self.next() => stop(),
        }
        output::note("stopping; what runs may end; once more stops at once");
        tokio::select! {
            ended = running => ended,
            () = self.next() => Err(Failure::interrupted()),
        }
    }
}
