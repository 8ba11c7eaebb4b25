//! Supervision of background tasks that must not end before shutdown.
//!
//! A task that can be created anew is restarted after a pause. A task that cannot is vital: the process ends with it,
//! so that the service manager notices. Both cases are logged.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Pause before the first restart of a task. Each further restart doubles the pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause before a restart.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Run time after which the next pause is the first one again.
const STABLE_AFTER: Duration = Duration::from_secs(300);

/// Timeout for tasks to end after the stop signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Error: a vital task ended before the stop signal.
#[derive(Debug, thiserror::Error)]
#[error("{task} ended before shutdown ({reason}); the process ends with it")]
pub struct TaskLost {
    /// Name of the task.
    pub task: String,
    /// Panic message, or a note that the task returned.
    pub reason: String,
}

/// Supervisor of tasks, which run until `stop` turns true. Dropping the supervisor aborts them.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<Result<(), TaskLost>>,
    stop: watch::Receiver<bool>,
}

impl Supervisor {
    /// Creates a supervisor without tasks. `stop` turns true when tasks may end.
    pub fn new(stop: watch::Receiver<bool>) -> Self {
        Supervisor { tasks: JoinSet::new(), stop }
    }

    /// Stop signal for tasks.
    pub fn stop(&self) -> watch::Receiver<bool> {
        self.stop.clone()
    }

    /// Runs the task that `make` returns, and restarts it whenever it ends before the stop signal.
    pub fn keep<F>(&mut self, task: impl Into<String>, make: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = task.into();
        let mut stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let start = Instant::now();
                let reason = run(make()).await;
                if *stop.borrow() {
                    return Ok(());
                }
                if start.elapsed() >= STABLE_AFTER {
                    pause = FIRST_PAUSE;
                }
                tracing::error!(
                    task,
                    reason,
                    pause_seconds = pause.as_secs(),
                    "a task ended before shutdown; it restarts after the pause"
                );
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                }
                pause = (pause * 2).min(MAX_PAUSE);
            }
        });
    }

    /// Runs a task that cannot be restarted.
    pub fn vital(&mut self, task: impl Into<String>, running: impl Future<Output = ()> + Send + 'static) {
        let task = task.into();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let reason = run(running).await;
            if *stop.borrow() { Ok(()) } else { Err(TaskLost { task, reason }) }
        });
    }

    /// Waits until a vital task is lost; pends forever while none is.
    pub async fn lost(&mut self) -> TaskLost {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Err(lost))) => {
                    tracing::error!(
                        task = lost.task,
                        reason = lost.reason,
                        "the process ends: a vital task has ended before shutdown"
                    );
                    return lost;
                }
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Waits for at most [`STOP_TIMEOUT`] until all tasks have ended after the stop signal, then aborts the rest.
    pub async fn join(mut self) {
        let ending = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, ending).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "tasks that did not end in time are aborted");
        }
    }
}

/// Runs a task to its end and returns the reason why it ended.
async fn run(task: impl Future<Output = ()> + Send + 'static) -> String {
    // A set of one task, so that the task is aborted with its supervisor.
    let mut one = JoinSet::new();
    one.spawn(task);
    match one.join_next().await {
        Some(Err(error)) => error.to_string(),
        _ => "it returned".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_or_returns_starts_again() {
        let (stop, stopped) = watch::channel(false);
        let mut supervisor = Supervisor::new(stopped.clone());
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = starts.clone();
        supervisor.keep("a task", move || {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            let mut stopped = stopped.clone();
            async move {
                match number {
                    0 => panic!("for the test"),
                    1 => {}
                    _ => drop(stopped.wait_for(|stop| *stop).await),
                }
            }
        });
        while starts.load(Ordering::Relaxed) < 3 {
            tokio::time::sleep(FIRST_PAUSE).await;
        }
        stop.send_replace(true);
        supervisor.join().await;
        assert_eq!(starts.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_vital_task_that_ends_is_lost_unless_it_was_told_to() {
        let (stop, stopped) = watch::channel(false);
        let mut supervisor = Supervisor::new(stopped.clone());
        supervisor.vital("the first", async { panic!("for the test") });
        let lost = supervisor.lost().await;
        assert!(lost.to_string().starts_with("the first ended"), "{lost}");
        let mut stopped = stopped.clone();
        supervisor.vital("the second", async move { drop(stopped.wait_for(|stop| *stop).await) });
        stop.send_replace(true);
        supervisor.join().await;
    }
}
