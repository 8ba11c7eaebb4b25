//! Tasks that run beside the work of a process, and what happens when one of them ends before it should.
//!
//! A task that can be made again is started again, after a pause. One that cannot is vital: the process ends with it, so
//! that whatever runs the process notices. Either way the log says so.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// First and longest pause before a task is started again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A task that has run for this long starts again after the first pause.
const SOUND_AFTER: Duration = Duration::from_secs(300);

/// How long tasks may take to end once they have been told to.
const ENDING: Duration = Duration::from_secs(20);

/// A vital task that ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("{task} ended although it was not told to ({reason}); the process ends with it")]
pub struct TaskLost {
    /// Which task.
    pub task: String,
    /// How it ended.
    pub reason: String,
}

/// Runs tasks until `stop` turns true. Dropping it ends them.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<Result<(), TaskLost>>,
    stop: watch::Receiver<bool>,
}

impl Supervisor {
    /// No tasks yet. They learn from `stop`, too, that they may end.
    pub fn new(stop: watch::Receiver<bool>) -> Self {
        Supervisor { tasks: JoinSet::new(), stop }
    }

    /// What the tasks learn from that they may end.
    pub fn stop(&self) -> watch::Receiver<bool> {
        self.stop.clone()
    }

    /// Runs what `make` makes, and makes it again whenever it ends too early.
    pub fn keep<F>(&mut self, task: impl Into<String>, make: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (task, mut stop) = (task.into(), self.stop.clone());
        self.tasks.spawn(async move {
            let mut pause = PAUSES.0;
            loop {
                let start = Instant::now();
                let reason = run(make()).await;
                if *stop.borrow() {
                    return Ok(());
                }
                if start.elapsed() >= SOUND_AFTER {
                    pause = PAUSES.0;
                }
                tracing::error!(
                    task,
                    reason,
                    pause_seconds = pause.as_secs(),
                    "a task ended too early; it starts again"
                );
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                }
                pause = (pause * 2).min(PAUSES.1);
            }
        });
    }

    /// Runs a task that cannot be made again.
    pub fn vital(&mut self, task: impl Into<String>, running: impl Future<Output = ()> + Send + 'static) {
        let (task, stop) = (task.into(), self.stop.clone());
        self.tasks.spawn(async move {
            let reason = run(running).await;
            if *stop.borrow() { Ok(()) } else { Err(TaskLost { task, reason }) }
        });
    }

    /// Waits until a vital task is lost; for ever while none is.
    pub async fn lost(&mut self) -> TaskLost {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Err(lost))) => {
                    tracing::error!(
                        task = lost.task,
                        reason = lost.reason,
                        "the process ends: a task it needs has ended"
                    );
                    return lost;
                }
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Waits, for [`ENDING`] at most, until all tasks have ended, which they have been told to.
    pub async fn join(mut self) {
        let ending = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(ENDING, ending).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "tasks that did not end in time are cut off");
        }
    }
}

/// Runs a task to its end; how it ended.
async fn run(task: impl Future<Output = ()> + Send + 'static) -> String {
    // A set of one, so that it ends with its supervisor.
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
            tokio::time::sleep(PAUSES.0).await;
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
