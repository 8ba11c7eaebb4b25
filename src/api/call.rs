//! Facts about a request while it is answered, and at its end.

use gitferry_iam::Authenticated;
use serde_json::Value;

use crate::service::Service;

/// One request of an API. Fields are filled in as they are proven: what is missing at the end was never reached.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Service that the request addresses.
    pub service: Option<Service>,
    /// Name of the operation, such as `CreateUser`.
    pub action: Option<String>,
    /// True if the operation changes nothing.
    pub reads_only: bool,
    /// Principal that the signature has proven; `None` for an operation that needs no credentials.
    pub caller: Option<Authenticated>,
    /// Parameters as the client sent them, without tokens and passwords.
    pub parameters: Option<Value>,
}

impl Call {
    /// ARN of the caller, or `anonymous`.
    pub fn actor(&self) -> String {
        self.caller.as_ref().map_or_else(|| "anonymous".to_owned(), |caller| caller.principal.arn())
    }

    /// Name of the action as in policies, such as `iam:CreateUser`; `unknown` if the request names none that is offered.
    pub fn full_action(&self) -> String {
        match (self.service, &self.action) {
            (Some(service), Some(action)) => format!("{}:{action}", service.name()),
            _ => "unknown".to_owned(),
        }
    }
}
