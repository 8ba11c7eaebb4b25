//! What the failure of a request means, whatever service it was for, and whether the request may have taken
//! effect all the same.

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

/// What the failure of a request calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// What the request names does not exist: a table, a bucket, a queue.
    NotFound,
    /// Who asked may not do this, or is not known.
    Denied,
    /// The request cannot even be made: no credentials, no region, no endpoint.
    Setup,
    /// The request is not valid.
    Invalid,
    /// For now: network, time-outs, throttling, failures of the service, credentials that are being renewed.
    Unavailable,
    /// Another answer of the service, which its own code explains.
    Other,
}

impl Cause {
    /// What the caller should do.
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
    /// What it calls for.
    pub cause: Cause,
    /// What the service, or what lies before it, says.
    pub reason: String,
    /// An attempt at it was sent and never answered clearly: it may have taken effect.
    pub ambiguous: bool,
}

/// Watches the attempts at one request; goes into the request as an interceptor. The SDK reports how the last
/// attempt failed, but an earlier one may be the one that took effect.
#[derive(Clone, Debug, Default)]
pub struct Attempts(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    sent: AtomicBool,
    /// Attempts that were sent and had no clear answer, or have none yet.
    unclear: AtomicU32,
}

impl Attempts {
    /// Whether any attempt got as far as the network.
    fn sent(&self) -> bool {
        self.0.sent.load(Ordering::SeqCst)
    }

    /// Whether any attempt may have taken effect without a word.
    pub fn ambiguous(&self) -> bool {
        self.0.unclear.load(Ordering::SeqCst) > 0
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
        self.0.unclear.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let clear = match (context.response(), context.output_or_error()) {
            // The service has spoken; its own failures leave open how far it got.
            (Some(response), _) => response.status().as_u16() < 500,
            (None, Some(Err(error))) => error.as_connector_error().is_some_and(|error| never_connected(error)),
            (None, _) => false,
        };
        if clear {
            let less = |unclear: u32| Some(unclear.saturating_sub(1));
            let _ = self.0.unclear.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        }
        Ok(())
    }
}

/// Whether there was nobody to send anything to.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind as E;
    chain(error).filter_map(|error| error.downcast_ref::<io::Error>()).any(|error| {
        matches!(error.kind(), E::ConnectionRefused | E::HostUnreachable | E::NetworkUnreachable | E::AddrNotAvailable)
    })
}

/// Tells what a failed request means.
pub fn failure<E, R>(error: &SdkError<E, R>, attempts: &Attempts) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug,
{
    let (cause, reason) = match error {
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or("an error without a code");
            if is_expired(code) {
                identity::forget();
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

/// Whether an error code says that the credentials of a request have expired.
pub fn is_expired(code: &str) -> bool {
    matches!(code, "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "TokenRefreshRequired")
}

/// What an error code calls for. An unclear answer (5xx) is always one to repeat.
fn cause_of_code(code: &str, unclear: bool) -> Cause {
    match code {
        "ResourceNotFoundException" | "TableNotFoundException" | "NoSuchBucket" => Cause::NotFound,
        // The next attempt asks with new ones.
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
        _ if unclear => Cause::Unavailable,
        _ => Cause::Other,
    }
}

fn cause_before_answer(error: &(dyn Error + 'static), sent: bool) -> Cause {
    let credentials = chain(error).find_map(|error| error.downcast_ref::<CredentialsError>());
    match credentials {
        Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) => Cause::Setup,
        // The provider exists and failed this time: the role's service, the metadata endpoint.
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

/// An error and what is behind it, each thing said once.
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
