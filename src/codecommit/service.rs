//! The API as the path of requests sees it.

use std::sync::Arc;

use async_trait::async_trait;
use gitferry_api::{ApiError, Asked, Call, JsonApi, MAX_BODY_BYTES, Result, Service, shown};
use gitferry_content::limits::MAX_COMMIT_BYTES;
use gitferry_engine::ledger::change::Actor;
use gitferry_engine::region::Region;
use serde_json::Value;

use crate::input;
use crate::model::model;
use crate::operation::Ask;
use crate::ports::Repositories;
use crate::settings::Settings;
use crate::table::find;
use crate::workshop::Workshop;

/// Largest body of an operation with contents of files, in bytes: all contents of a commit in Base64, and what other
/// operations have.
const MAX_CONTENT_BODY_BYTES: usize = (MAX_COMMIT_BYTES as usize).div_ceil(3) * 4 + MAX_BODY_BYTES;

/// The API of CodeCommit on the repositories of a region.
#[derive(Debug)]
pub struct CodeCommit {
    workshop: Workshop,
}

impl CodeCommit {
    /// The API of the host of `region`, whose work on repositories is that of `repositories`.
    pub fn new(region: Region, repositories: Arc<dyn Repositories>, settings: Settings) -> Self {
        CodeCommit { workshop: Workshop { region, repositories, settings } }
    }
}

#[async_trait]
impl JsonApi for CodeCommit {
    fn service(&self) -> Service {
        Service::CodeCommit
    }

    fn most_body_bytes(&self, operation: &str) -> usize {
        let served = model().operation(operation).filter(|operation| find(operation.name).is_some());
        match served {
            Some(operation) if input::has_content(model(), operation) => MAX_CONTENT_BODY_BYTES,
            _ => MAX_BODY_BYTES,
        }
    }

    async fn answer(&self, asked: &Asked<'_>, call: &mut Call) -> Result<Value> {
        let operation = model().operation(asked.operation).ok_or_else(|| {
            let text = format!("CodeCommit has no operation {}.", shown(asked.operation));
            ApiError::new("UnknownOperationException", 400, text)
        })?;
        call.action = Some(operation.name.to_owned());
        call.reads_only = operation.reads_only;
        let served = find(operation.name).ok_or_else(|| {
            let text = format!("This host does not serve {} yet.", operation.name);
            ApiError::new("NotImplementedException", 501, text)
        })?;
        let input = input::read(model(), operation, asked.body)?;
        call.parameters = Some(input::audited(model(), operation, &input));
        let caller = &asked.caller;
        if let Some(name) = input.get("repositoryName").or_else(|| input.get("oldName")).and_then(Value::as_str) {
            asked.entry.repository(name);
        }
        let address = caller.client.address.to_string();
        let actor = Actor::new(&caller.principal.arn(), Some(&address)).to_string();
        let ask = Ask { workshop: &self.workshop, operation, input, caller, actor };
        let result = (served.perform)(&ask).await;
        match &result {
            Ok(result) => debug_assert!(input::is_result(operation, result), "{}: {result}", operation.name),
            Err(error) => debug_assert!(is_known(operation.has_error(error.code()), error.code()), "{error}"),
        }
        result
    }
}

/// Returns true for an error of the operation, or one that every operation may have.
fn is_known(of_operation: bool, code: &str) -> bool {
    of_operation
        || matches!(
            code,
            "AccessDenied"
                | "InternalFailure"
                | "OperationNotAllowedException"
                | "ServiceUnavailable"
                | "ValidationException"
        )
}
