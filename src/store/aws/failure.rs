//! Classification of failed AWS requests of all services, and detection of requests that may have taken effect.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::{BoxError, ProvideErrorMetadata, SdkError};

use super::identity;
use gitferry_base::Kind;

/// Cause of a failed request, by the reaction that it requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The table, bucket or queue does not exist.
    NotFound,
    /// The credentials are invalid or lack permission.
    Denied,
    /// The request cannot be built or sent: no credentials, no region, no endpoint.
    Setup,
    /// The request is malformed.
    Invalid,
    /// Temporary: network, timeouts, throttling, service failures, credentials under renewal.
    Unavailable,
    /// Any other error code of the service.
    Other,
}

impl Cause {
    /// Classifies the cause by what the caller can do.
    pub fn kind(self) -> Kind {
        match self {
            Cause::Unavailable => Kind::Transient,
            Cause::Invalid => Kind::Internal,
            Cause::NotFound | Cause::Denied | Cause::Setup | Cause::Other => Kind::Environment,
        }
    }
}

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Classified cause.
    pub cause: Cause,
    /// Error code and message of the service, or the chain of errors before the request reached it.
    pub reason: String,
    /// True if an attempt was sent without a conclusive answer: the request may have taken effect.
    pub ambiguous: bool,
}

/// Interceptor that tracks the attempts at one request. The SDK reports only the error of the last attempt, but an
/// earlier attempt may have taken effect.
#[derive(Clone, Debug, Default)]
pub struct Attempts(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    sent: AtomicBool,
    /// Attempts that were sent and have no conclusive answer.
    inconclusive: AtomicU32,
}

impl Attempts {
    /// Returns true if an attempt reached the network.
    fn sent(&self) -> bool {
        self.0.sent.load(Ordering::SeqCst)
    }

    /// Returns true if an attempt may have taken effect without a conclusive answer.
    pub fn ambiguous(&self) -> bool {
        self.0.inconclusive.load(Ordering::SeqCst) > 0
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.sent.store(true, Ordering::SeqCst);
        self.0.inconclusive.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let conclusive = match (context.response(), context.output_or_error()) {
            // A 5xx leaves open if the request took effect.
            (Some(response), _) => response.status().as_u16() < 500,
            (None, Some(Err(error))) => error.as_connector_error().is_some_and(|error| never_connected(error)),
            (None, _) => false,
        };
        if conclusive {
            let less = |inconclusive: u32| Some(inconclusive.saturating_sub(1));
            let _ = self.0.inconclusive.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        }
        Ok(())
    }
}

/// Returns true if no connection was established, so that nothing was sent.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind as E;
    chain(error).filter_map(|error| error.downcast_ref::<io::Error>()).any(|error| {
        matches!(error.kind(), E::ConnectionRefused | E::HostUnreachable | E::NetworkUnreachable | E::AddrNotAvailable)
    })
}

/// Classifies a failed request. Expired credentials are dropped from the cache.
pub fn failure<E, R>(error: &SdkError<E, R>, attempts: &Attempts) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug,
{
    let (cause, reason) = match error {
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or("an error without a code");
            if is_expired(code) {
                identity::invalidate();
            }
            let reason = match service.err().message() {
                Some(message) => format!("{code}: {message}"),
                None => code.to_owned(),
            };
            (cause_of_code(code, attempts.ambiguous()), reason)
        }
        SdkError::DispatchFailure(dispatch) => match dispatch.as_connector_error() {
            Some(error) => (cause_before_answer(error, attempts.sent()), explain(error)),
            None => (Cause::Unavailable, "the request was not sent".to_owned()),
        },
        SdkError::TimeoutError(_) => (Cause::Unavailable, "the request timed out".to_owned()),
        SdkError::ConstructionFailure(_) => (Cause::Setup, explain_source(error)),
        _ => (Cause::Unavailable, explain_source(error)),
    };
    Failure { cause, reason, ambiguous: attempts.ambiguous() }
}

/// Returns true if the error code means that the credentials have expired.
pub fn is_expired(code: &str) -> bool {
    matches!(code, "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "TokenRefreshRequired")
}

/// Classifies an error code. An inconclusive answer (5xx) with an unknown code is temporary.
fn cause_of_code(code: &str, inconclusive: bool) -> Cause {
    match code {
        "ResourceNotFoundException" | "TableNotFoundException" | "NoSuchBucket" => Cause::NotFound,
        // The next attempt resolves new credentials.
        code if is_expired(code) => Cause::Unavailable,
        "AccessDenied"
        | "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "OptInRequired" => Cause::Denied,
        "ValidationException"
        | "ValidationError"
        | "SerializationException"
        | "IdempotentParameterMismatchException" => Cause::Invalid,
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "ProvisionedThroughputExceededException"
        | "ProvisionedThroughputExceeded"
        | "ThrottlingError"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "TransactionInProgressException"
        | "TransactionConflictException"
        | "RequestTimeout"
        | "InternalServerError"
        | "InternalFailure"
        | "ServiceUnavailable" => Cause::Unavailable,
        _ if inconclusive => Cause::Unavailable,
        _ => Cause::Other,
    }
}

fn cause_before_answer(error: &(dyn Error + 'static), sent: bool) -> Cause {
    let credentials = chain(error).find_map(|error| error.downcast_ref::<CredentialsError>());
    match credentials {
        Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) => Cause::Setup,
        // The provider, such as STS or the metadata endpoint, failed temporarily.
        Some(_) => Cause::Unavailable,
        None if sent => Cause::Unavailable,
        None => Cause::Setup,
    }
}

fn explain_source<E, R>(error: &SdkError<E, R>) -> String
where
    E: Error + 'static,
    R: std::fmt::Debug,
{
    error.source().map_or_else(|| error.to_string(), explain)
}

/// Formats an error and its sources, without repetitions.
fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for part in chain(error).map(ToString::to_string) {
        if text.ends_with(&part) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    text
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}
