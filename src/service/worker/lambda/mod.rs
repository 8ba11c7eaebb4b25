//! The worker as a Lambda function, on the Runtime API, for SQS batches, single events and schedules.

pub mod handler;
pub mod links;
pub mod runtime;
mod work;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::metrics::LinkMetrics;
use gitferry_base::clock::Clock;
use gitferry_base::retry::Attempts;
use handler::Handler;
use runtime::{Invocation, RuntimeApi, RuntimeError};

/// Time before the deadline at which work stops, so that the function can still answer.
const STOP_BEFORE: Duration = Duration::from_secs(3);
/// Least share of the remaining time that is used for work.
const LEAST_SHARE: f64 = 0.75;

/// Receives the metrics of each link after an invocation.
type Report<'a> = &'a (dyn Fn(&[LinkMetrics]) + Sync);

/// Handles invocations until `stop` turns true, and passes the metrics of each to `report`. A failed invocation is
/// reported to the Runtime API and ends nothing.
///
/// # Errors
/// Fails when the Runtime API cannot be reached.
pub async fn run(
    api: &RuntimeApi,
    handler: &Handler,
    clock: &dyn Clock,
    report: Report<'_>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RuntimeError> {
    let handling = async {
        loop {
            let invocation = next(api).await?;
            handle(api, handler, clock, report, invocation).await?;
        }
    };
    tokio::select! {
        result = handling => result,
        _ = stop.wait_for(|stop| *stop) => Ok(()),
    }
}

async fn next(api: &RuntimeApi) -> Result<Invocation, RuntimeError> {
    let mut attempts = Attempts::default();
    loop {
        match api.next().await {
            Err(error) if attempts.again(error.kind()).await => tracing::warn!(%error, "asking again"),
            result => return result,
        }
    }
}

async fn handle(
    api: &RuntimeApi,
    handler: &Handler,
    clock: &dyn Clock,
    report: Report<'_>,
    invocation: Invocation,
) -> Result<(), RuntimeError> {
    let remaining = invocation.deadline.duration_since(clock.now());
    let until = Instant::now() + time_for_work(Duration::try_from(remaining).unwrap_or_default());
    let outcome = handler.handle(&invocation.payload, until).await;
    // Before the answer: afterwards the process is frozen.
    report(&handler.take_metrics());
    match outcome {
        Ok(answer) => api.respond(&invocation.id, &answer).await,
        Err(error) => {
            tracing::error!(%error, request = invocation.id, "an invocation failed");
            api.fail(&invocation.id, &error.to_string()).await
        }
    }
}

/// Returns the time for work, from the time until the deadline.
fn time_for_work(remaining: Duration) -> Duration {
    remaining.saturating_sub(STOP_BEFORE).max(remaining.mul_f64(LEAST_SHARE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends_before_the_deadline() {
        assert_eq!(time_for_work(Duration::from_secs(900)), Duration::from_secs(897));
        assert_eq!(time_for_work(Duration::from_secs(4)), Duration::from_secs(3));
        assert_eq!(time_for_work(Duration::ZERO), Duration::ZERO);
    }
}
