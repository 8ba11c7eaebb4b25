//! Signals that stop a long-running command.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use super::output;

/// SIGINT and SIGTERM.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Installs the handlers: from now on neither these signals nor SIGHUP end the process by themselves.
    pub fn listen() -> std::io::Result<Self> {
        // SIGHUP reloads files; in a process without any it must not end the process either.
        drop(signal(SignalKind::hangup())?);
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for `running`. The first signal calls `stop` and waits on, the second one returns at once.
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
        output::note("stopping after running work has ended; a second signal stops at once");
        tokio::select! {
            ended = running => ended,
            () = self.next() => Err(Failure::interrupted()),
        }
    }
}
