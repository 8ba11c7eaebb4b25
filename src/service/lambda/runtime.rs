//! The Lambda Runtime API ("Using the Lambda runtime API for custom runtimes" in the Lambda Developer Guide).
//! `lambda_runtime` asks for invocations and posts answers. Here is what it leaves to its caller: an environment in
//! which it does not panic, reports of failures under an error type of gitferry, and an end with an error where the API
//! breaks its contract.

use std::any::Any;
use std::convert::Infallible;
use std::error::Error;
use std::panic::AssertUnwindSafe;

use axum::http::uri::{InvalidUri, Uri};
use futures::FutureExt as _;
use lambda_runtime::tower::ServiceExt as _;
use lambda_runtime::tower::layer::layer_fn;
use lambda_runtime::{Context, LambdaEvent, LambdaInvocation, Runtime, Service, service_fn};
use lambda_runtime_api_client::body::Body;
use lambda_runtime_api_client::{BoxError, PooledClient, build_request};
use serde_json::{Value, json};

use gitferry_base::Kind;
use gitferry_base::error::chain;

/// Environment variable with the host and port of the API.
const ADDRESS: &str = "AWS_LAMBDA_RUNTIME_API";
/// Environment variables that Lambda sets besides, and that `lambda_runtime` demands.
const NAME: &str = "AWS_LAMBDA_FUNCTION_NAME";
const VERSION: &str = "AWS_LAMBDA_FUNCTION_VERSION";
const MEMORY: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";

const API: &str = "/2018-06-01/runtime";
const ERROR_TYPE_HEADER: &str = "lambda-runtime-function-error-type";
/// Error type of all reports.
const ERROR_TYPE: &str = "gitferry.Failed";

/// A failure of the Runtime API, or of the environment that names it.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A variable that Lambda sets is missing.
    #[error("{0} is not set: this command runs only in AWS Lambda")]
    NotInLambda(&'static str),
    /// A variable that Lambda sets has no valid value.
    #[error("the Lambda Runtime API cannot be asked: {variable} is {value:?}: {reason}")]
    Variable {
        /// Name of the variable.
        variable: &'static str,
        /// Value of the variable.
        value: String,
        /// Fault of the value.
        reason: String,
    },
    /// A request failed, or its answer did not arrive.
    #[error("the Lambda Runtime API failed: {0}")]
    Failed(String),
    /// The API refused the report of an error.
    #[error("the Lambda Runtime API did not take an error: it answered {0}")]
    Refused(String),
    /// An answer of the API is not an invocation.
    #[error("the Lambda Runtime API sent no valid invocation: {0}")]
    NoInvocation(String),
}

impl RuntimeError {
    /// The kind of the error, which says what the caller can do.
    pub fn kind(&self) -> Kind {
        match self {
            RuntimeError::NotInLambda(_) => Kind::Usage,
            RuntimeError::Variable { .. } => Kind::Environment,
            RuntimeError::Failed(_) | RuntimeError::Refused(_) | RuntimeError::NoInvocation(_) => Kind::Transient,
        }
    }
}

/// The Runtime API that the environment names.
#[derive(Debug)]
pub struct RuntimeApi {
    client: PooledClient,
}

impl RuntimeApi {
    /// Reads the variables that Lambda sets.
    ///
    /// # Errors
    /// A variable is missing or has no valid value.
    pub fn from_environment() -> Result<Self, RuntimeError> {
        let address = variable(ADDRESS)?;
        let invalid = |variable, value: &str, reason: &dyn ToString| RuntimeError::Variable {
            variable,
            value: value.to_owned(),
            reason: reason.to_string(),
        };
        let endpoint: Uri = address.parse().map_err(|error: InvalidUri| invalid(ADDRESS, &address, &error))?;
        if endpoint.authority().is_none() {
            return Err(invalid(ADDRESS, &address, &"it names no host"));
        }
        variable(NAME)?;
        variable(VERSION)?;
        let memory = variable(MEMORY)?;
        memory.parse::<i32>().map_err(|error| invalid(MEMORY, &memory, &error))?;
        Ok(RuntimeApi { client: PooledClient::builder().with_endpoint(endpoint).build() })
    }

    /// Passes invocations to `handle`, and its answers and failures to Lambda, one invocation after the other. Returns the
    /// error that ended it: the API cannot be reached, or sends what is not an invocation.
    pub(super) async fn serve<H>(&self, handle: &H) -> RuntimeError
    where
        H: AsyncFn(&Context, &[u8]) -> Result<Value, String>,
    {
        // The layer replaces the payload by the answer, which the service passes on to be posted.
        let answer = service_fn(async |event: LambdaEvent<Value>| Ok::<_, Infallible>(event.payload));
        let runtime = Runtime::new(answer).layer(layer_fn(|post| {
            service_fn(move |invocation| self.process(invocation, handle, Clone::clone(&post)))
        }));
        // `Runtime` panics over a response without the headers of an invocation, such as an error of the API.
        match AssertUnwindSafe(runtime.run()).catch_unwind().await {
            Ok(Ok(())) => unreachable!("the runtime asks for invocations without end"),
            Ok(Err(error)) => match error.downcast::<RuntimeError>() {
                Ok(error) => *error,
                Err(error) => failed(&*error),
            },
            Err(panic) => RuntimeError::NoInvocation(message_of(&*panic)),
        }
    }

    /// Processes one invocation; `post` sends its payload as the answer.
    async fn process<H, P>(&self, mut invocation: LambdaInvocation, handle: &H, post: P) -> Result<(), BoxError>
    where
        H: AsyncFn(&Context, &[u8]) -> Result<Value, String>,
        P: Service<LambdaInvocation, Response = (), Error = BoxError>,
    {
        let handling = AssertUnwindSafe(handle(&invocation.context, &invocation.body));
        let failure = match handling.catch_unwind().await {
            Ok(Ok(answer)) => {
                invocation.body = answer.to_string().into();
                return post.oneshot(invocation).await;
            }
            Ok(Err(failure)) => failure,
            Err(panic) => format!("a bug in gitferry: {}", message_of(&*panic)),
        };
        match self.report(&format!("invocation/{}/error", invocation.context.request_id), &failure).await {
            // As with answers that the API refuses: nothing is left to do for the invocation.
            Err(error @ RuntimeError::Refused(_)) => {
                tracing::error!(%error, request = invocation.context.request_id, "a failure is not reported");
                Ok(())
            }
            result => Ok(result?),
        }
    }

    /// Reports that the function could not start.
    ///
    /// # Errors
    /// The API cannot be reached, or refuses the report.
    pub async fn fail_to_start(&self, message: &str) -> Result<(), RuntimeError> {
        self.report("init/error", message).await
    }

    async fn report(&self, path: &str, message: &str) -> Result<(), RuntimeError> {
        let body = json!({ "errorType": ERROR_TYPE, "errorMessage": message, "stackTrace": [] });
        let request = build_request().method("POST").uri(format!("{API}/{path}")).header(ERROR_TYPE_HEADER, ERROR_TYPE);
        let request = request.body(Body::from(body.to_string())).map_err(|error| failed(&error))?;
        let response = self.client.call(request).await.map_err(|error| failed(&*error))?;
        if response.status().is_success() { Ok(()) } else { Err(RuntimeError::Refused(response.status().to_string())) }
    }
}

fn variable(name: &'static str) -> Result<String, RuntimeError> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or(RuntimeError::NotInLambda(name))
}

fn failed(error: &(dyn Error + 'static)) -> RuntimeError {
    RuntimeError::Failed(chain(error))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".into())
}
