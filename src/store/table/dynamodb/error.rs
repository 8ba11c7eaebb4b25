//! Conversion of DynamoDB's errors to [`TableError`].

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::CancellationReason;

use crate::aws::failure::{Attempts, Cause, Failure, failure};
use crate::table::TableError;

/// Reason why a transaction was cancelled. The transaction has changed nothing.
#[derive(Debug)]
pub enum Cancelled {
    /// Conditions did not hold; one entry per action, true if its condition failed.
    Conditions(Vec<bool>),
    /// The transaction conflicts with another one, or the table is throttled: a retry may succeed.
    Transient(String),
    /// DynamoDB rejects the transaction as malformed.
    Invalid(String),
}

/// Summarises the cancellation reasons of a transaction, one per action.
pub fn cancelled(reasons: &[CancellationReason]) -> Cancelled {
    let code = |reason: &CancellationReason| reason.code().unwrap_or("None").to_owned();
    let failed: Vec<bool> = reasons.iter().map(|reason| code(reason) == "ConditionalCheckFailed").collect();
    if failed.contains(&true) {
        return Cancelled::Conditions(failed);
    }
    let mut text: Vec<String> = Vec::new();
    for reason in reasons.iter().filter(|reason| code(reason) != "None") {
        let part = match reason.message() {
            Some(message) => format!("{}: {message}", code(reason)),
            None => code(reason),
        };
        if !text.contains(&part) {
            text.push(part);
        }
    }
    let text = text.join("; ");
    let transient = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];
    if reasons.iter().any(|reason| transient.contains(&code(reason).as_str())) {
        Cancelled::Transient(text)
    } else {
        Cancelled::Invalid(text)
    }
}

/// Converts a failed request. `write` marks requests that may have changed the table.
pub fn failed<E, R>(table: &str, error: &SdkError<E, R>, attempts: &Attempts, write: bool) -> TableError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let Failure { cause, reason, ambiguous } = failure(error, attempts);
    let table = table.to_owned();
    // An earlier attempt may have been committed, no matter how the last one failed.
    if write && ambiguous {
        return TableError::Unavailable { table, reason, ambiguous };
    }
    match cause {
        Cause::Unavailable => TableError::Unavailable { table, reason, ambiguous: false },
        Cause::Invalid => TableError::Invalid { table, reason },
        Cause::NotFound => TableError::Environment {
            table,
            reason: format!(
                "there is no such table, or it is not ready ({reason}); create the table (infra/ does), or correct the \
                 table name, AWS region or endpoint in the configuration"
            ),
        },
        Cause::Denied => TableError::Environment {
            table,
            reason: format!("AWS denies access ({reason}); check the credentials and their permissions"),
        },
        Cause::Setup => TableError::Environment {
            table,
            reason: format!("{reason}; set credentials and an AWS region in the environment, a profile, or `aws`"),
        },
        Cause::Other => TableError::Environment { table, reason },
    }
}
