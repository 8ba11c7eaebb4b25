//! The record of a request in the audit trail.

use gitferry_audit::{Action, Entry};
use serde_json::Value;

use crate::call::Call;
use crate::error::Result;
use crate::service::Service;

/// Records the end of a request: its action, its parameters, and the answer of a change without secrets.
pub(crate) fn record(entry: &Entry, call: &Call, outcome: &Result<Value>) {
    if let (Some(service), Some(name)) = (call.service, &call.action) {
        let action = Action::new(name.as_str()).of(source(service));
        entry.action(if call.reads_only { action } else { action.writes() });
    }
    if let Some(Value::Object(parameters)) = &call.parameters {
        for (name, value) in parameters {
            entry.parameter(name, value.clone());
        }
    }
    match outcome {
        Ok(answer) => {
            if !call.reads_only {
                entry.response(answer.clone());
            }
            entry.succeeded();
        }
        Err(error) => entry.refused(error.code(), error.message()),
    }
}

/// Source of the events of a service, as CloudTrail names it.
fn source(service: Service) -> &'static str {
    match service {
        Service::Iam => "iam.amazonaws.com",
        Service::Sts => "sts.amazonaws.com",
        Service::CodeCommit => "codecommit.amazonaws.com",
    }
}
