//! The Lambda Runtime API ("Using the Lambda runtime API for custom runtimes" in the Lambda Developer Guide):
//! three requests over HTTP on the loopback interface.

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Client, Response};
use serde_json::{Value, json};

use gitferry_base::Kind;

/// Environment variable with the host and port of the API.
pub const ADDRESS_VARIABLE: &str = "AWS_LAMBDA_RUNTIME_API";
const VERSION: &str = "2018-06-01";
const REQUEST_ID: &str = "lambda-runtime-aws-request-id";
const DEADLINE: &str = "lambda-runtime-deadline-ms";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";

/// A failed request to the Runtime API.
#[derive(Debug, thiserror::Error)]
#[error("the Lambda Runtime API {what}: {reason}")]
pub struct RuntimeError {
    what: &'static str,
    reason: String,
    kind: Kind,
}

impl RuntimeError {
    /// The kind of the error, which says what the caller can do.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// An invocation of the function.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Request id.
    pub id: String,
    /// Time at which Lambda stops the function.
    pub deadline: Timestamp,
    /// The event.
    pub payload: Vec<u8>,
}

/// Client of the Runtime API.
#[derive(Clone, Debug)]
pub struct RuntimeApi {
    client: Client,
    base: String,
}

impl RuntimeApi {
    /// Makes a client for the API at `HOST:PORT`.
    pub fn new(address: &str) -> Result<Self, RuntimeError> {
        // No time limit: the next invocation may be hours away, and the process is frozen meanwhile.
        let client = Client::builder().no_proxy().build();
        let failed = |error: reqwest::Error| RuntimeError {
            what: "cannot be asked",
            reason: error.to_string(),
            kind: Kind::Environment,
        };
        Ok(RuntimeApi { client: client.map_err(failed)?, base: format!("http://{address}/{VERSION}/runtime") })
    }

    /// Waits for the next invocation.
    pub async fn next(&self) -> Result<Invocation, RuntimeError> {
        let what = "told of no invocation";
        let response = self.client.get(format!("{}/invocation/next", self.base)).send().await;
        let response = accepted(what, response)?;
        let headers = response.headers().clone();
        let invalid = |field: &str| RuntimeError { what, reason: format!("no valid {field}"), kind: Kind::Corrupt };
        let deadline = header(&headers, DEADLINE).and_then(|text| text.parse().ok());
        let deadline = deadline.and_then(|millis| Timestamp::from_millisecond(millis).ok());
        let payload = response.bytes().await.map_err(|error| failed(what, &error))?.to_vec();
        Ok(Invocation {
            id: header(&headers, REQUEST_ID).ok_or_else(|| invalid(REQUEST_ID))?.to_owned(),
            deadline: deadline.ok_or_else(|| invalid(DEADLINE))?,
            payload,
        })
    }

    /// Answers an invocation.
    pub async fn respond(&self, id: &str, answer: &Value) -> Result<(), RuntimeError> {
        let request = self.client.post(format!("{}/invocation/{id}/response", self.base));
        accepted("did not take an answer", request.body(answer.to_string()).send().await).map(drop)
    }

    /// Reports a failed invocation.
    pub async fn fail(&self, id: &str, message: &str) -> Result<(), RuntimeError> {
        self.report(&format!("invocation/{id}/error"), message).await
    }

    /// Reports that the function could not start.
    pub async fn fail_to_start(&self, message: &str) -> Result<(), RuntimeError> {
        self.report("init/error", message).await
    }

    async fn report(&self, path: &str, message: &str) -> Result<(), RuntimeError> {
        let body = json!({ "errorType": "gitferry.Failed", "errorMessage": message, "stackTrace": [] });
        let request = self.client.post(format!("{}/{path}", self.base)).header(ERROR_TYPE, "gitferry.Failed");
        accepted("did not take an error", request.body(body.to_string()).send().await).map(drop)
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn accepted(what: &'static str, response: reqwest::Result<Response>) -> Result<Response, RuntimeError> {
    let response = response.map_err(|error| failed(what, &error))?;
    match response.status() {
        status if status.is_success() => Ok(response),
        status => {
            let kind = if status.is_server_error() { Kind::Transient } else { Kind::Internal };
            Err(RuntimeError { what, reason: format!("it answered {status}"), kind })
        }
    }
}

fn failed(what: &'static str, error: &reqwest::Error) -> RuntimeError {
    RuntimeError { what, reason: error.to_string(), kind: Kind::Transient }
}
