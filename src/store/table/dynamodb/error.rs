//! What DynamoDB answers, as the errors of a table.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::CancellationReason;

use crate::aws::failure::{Attempts, Cause, Failure, failure};
use crate::table::TableError;

/// Why a transaction did not happen. It has changed nothing.
#[derive(Debug)]
pub enum Cancelled {
    /// Conditions did not hold; one entry per action, `true` where its condition failed.
    Conditions(Vec<bool>),
    /// Another transaction is at work on an item, or the table is throttled: the same again may succeed.
    ForNow(String),
    /// DynamoDB does not take it.
    Invalid(String),
}

/// What the reasons of a cancelled transaction, one per action, come to.
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
    let for_now = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];
    match reasons.iter().any(|reason| for_now.contains(&code(reason).as_str())) {
        true => Cancelled::ForNow(text),
        false => Cancelled::Invalid(text),
    }
}

/// A failed request as the error of a table.
pub fn failed<E, R>(table: &str, error: &SdkError<E, R>, attempts: &Attempts, write: bool) -> TableError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let Failure { cause, reason, ambiguous } = failure(error, attempts);
    let table = table.to_owned();
    // Whatever the last attempt says: an earlier one may have done it.
    if write && ambiguous {
        return TableError::Unavailable { table, reason, ambiguous };
    }
    match cause {
        Cause::Unavailable => TableError::Unavailable { table, reason, ambiguous: false },
        Cause::Invalid => TableError::Invalid { table, reason },
        Cause::NotFound => TableError::Environment {
            table,
            reason: format!(
                "there is no such table, or it is not ready ({reason}); make it (infra/ does), or correct the table's \
                 name, or the AWS region or endpoint, in the configuration"
            ),
        },
        Cause::Denied => TableError::Environment {
            table,
            reason: format!("AWS refuses ({reason}); see that the credentials are right and that they allow this"),
        },
        Cause::Setup => TableError::Environment {
            table,
            reason: format!("{reason}; give credentials and an AWS region by the environment, a profile, or `aws`"),
        },
        Cause::Other => TableError::Environment { table, reason },
    }
}
