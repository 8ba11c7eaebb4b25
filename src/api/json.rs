//! JSON APIs of other rooms, on the path that all requests take.

use std::fmt;

use async_trait::async_trait;
use gitferry_audit::Entry;
use gitferry_iam::Authenticated;
use serde_json::Value;

use crate::MAX_BODY_BYTES;
use crate::call::Call;
use crate::error::Result;
use crate::service::Service;

/// A request of a JSON API, whose principal is proven and whose rate is counted.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Principal and condition keys, and the state of the account that decides.
    pub caller: Authenticated,
    /// Name of the operation behind the prefix of `X-Amz-Target`, as the client sent it.
    pub operation: &'a str,
    /// The body, as the client sent it.
    pub body: &'a [u8],
    /// Entry of the request in the audit trail.
    pub entry: &'a Entry,
}

/// A JSON API: it reads the body, authorizes and answers. Signature, rates, log and audit trail are not its business.
#[async_trait]
pub trait JsonApi: Send + Sync + fmt::Debug {
    /// Service of the API.
    fn service(&self) -> Service;

    /// Most bytes of the body of an operation, of this name: [`MAX_BODY_BYTES`] or more.
    fn most_body_bytes(&self, _: &str) -> usize {
        MAX_BODY_BYTES
    }

    /// Answers a request, and fills in `call` as facts are known. Null is the result of an operation without one.
    ///
    /// # Errors
    /// Those of the API. Before a right is proven, no error depends on the state of a repository.
    async fn answer(&self, asked: &Asked<'_>, call: &mut Call) -> Result<Value>;
}
