//! The worker as a Lambda function, for SQS batches, single events and schedules.

pub mod handler;
pub mod links;
pub mod runtime;
mod work;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use lambda_runtime::Context;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::worker::metrics::LinkMetrics;
use gitferry_base::clock::Clock;
use gitferry_base::retry::Attempts;
use handler::{Handler, HandlerError};
use runtime::{RuntimeApi, RuntimeError};

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
/// Fails when the Runtime API cannot be reached, or sends what is not an invocation.
pub async fn run(
    api: &RuntimeApi,
    handler: &Handler,
    clock: &dyn Clock,
    report: Report<'_>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RuntimeError> {
    tokio::select! {
        result = serve(api, handler, clock, report) => result,
        _ = stop.wait_for(|stop| *stop) => Ok(()),
    }
}

async fn serve(api: &RuntimeApi, handler: &Handler, clock: &dyn Clock, report: Report<'_>) -> Result<(), RuntimeError> {
    let invoked = AtomicBool::new(false);
    let handle = async |context: &Context, payload: &[u8]| {
        invoked.store(true, Ordering::Relaxed);
        let outcome = invoke(handler, clock, context, payload).await;
        // Before the answer: afterwards the process is frozen.
        report(&handler.take_metrics());
        outcome.map_err(|error| {
            tracing::error!(%error, request = context.request_id, "an invocation failed");
            error.to_string()
        })
    };
    let mut attempts = Attempts::default();
    loop {
        let error = api.serve(&handle).await;
        // Attempts are counted from the last invocation.
        if invoked.swap(false, Ordering::Relaxed) {
            attempts = Attempts::default();
        }
        if !matches!(error, RuntimeError::Failed(_)) || !attempts.again(error.kind()).await {
            return Err(error);
        }
        tracing::warn!(%error, "asking again");
    }
}

async fn invoke(
    handler: &Handler,
    clock: &dyn Clock,
    context: &Context,
    payload: &[u8],
) -> Result<Value, HandlerError> {
    let remaining = time_until_deadline(context, clock.now()).ok_or(HandlerError::Deadline(context.deadline))?;
    handler.handle(payload, Instant::now() + time_for_work(remaining)).await
}

/// Time until Lambda stops the function, zero once the deadline has passed; `None` for a deadline that is not a time.
fn time_until_deadline(context: &Context, now: Timestamp) -> Option<Duration> {
    let deadline = Timestamp::from_millisecond(i64::try_from(context.deadline).ok()?).ok()?;
    Some(deadline.duration_since(now).try_into().unwrap_or(Duration::ZERO))
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

    #[test]
    fn deadlines() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let until = |deadline| {
            let mut context = Context::default();
            context.deadline = deadline;
            time_until_deadline(&context, now)
        };
        assert_eq!(until(1_800_000_060_000), Some(Duration::from_secs(60)));
        assert_eq!(until(1_799_999_999_999), Some(Duration::ZERO));
        assert_eq!(until(0), Some(Duration::ZERO));
        // No instant lies that far ahead: the invocation fails, not the process.
        assert_eq!(until(u64::MAX), None);
    }
}
