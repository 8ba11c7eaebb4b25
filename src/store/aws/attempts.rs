//! Counts of the attempts at the requests of all AWS services.

use aws_sdk_dynamodb::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::retries::RequestAttempts;

use gitferry_base::metrics::{AWS_ATTEMPTS, AWS_RETRIES, process};

/// Interceptor that counts the attempts of a client in the metrics of the process.
#[derive(Clone, Copy, Debug)]
pub struct CountAttempts;

impl Intercept for CountAttempts {
    fn name(&self) -> &'static str {
        "CountAttempts"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let service = service(config.load::<Metadata>().map_or("", Metadata::service));
        let outcome = outcome(context.response().map(|response| response.status().as_u16()));
        process().counter(&AWS_ATTEMPTS, &[service, outcome]).increment(1);
        if config.load::<RequestAttempts>().is_some_and(|number| number.attempts() > 1) {
            process().counter(&AWS_RETRIES, &[service]).increment(1);
        }
        Ok(())
    }
}

/// Value of the label `service`, by the SDK's name of the service.
fn service(name: &str) -> &'static str {
    match name {
        "S3" => "s3",
        "DynamoDB" => "dynamodb",
        "SQS" => "sqs",
        "EventBridge" => "eventbridge",
        "KMS" => "kms",
        _ => "other",
    }
}

/// Value of the label `outcome`, by the status of the answer.
fn outcome(status: Option<u16>) -> &'static str {
    match status {
        Some(200..300) => "2xx",
        Some(300..400) => "3xx",
        Some(400..500) => "4xx",
        Some(_) => "5xx",
        None => "no_answer",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_have_few_values() {
        let outcomes: BTreeSet<&str> = (0..=u16::MAX).map(|status| outcome(Some(status))).collect();
        assert_eq!(outcomes, BTreeSet::from(["2xx", "3xx", "4xx", "5xx"]));
        assert_eq!(["DynamoDB", "STS", "a name to come"].map(service), ["dynamodb", "other", "other"]);
    }
}
