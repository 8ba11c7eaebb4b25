//! The APIs of AWS that a host offers beside Git, on one address: the query APIs of IAM and STS, and the path of every
//! request, which JSON APIs of other rooms share ([`JsonApi`]).
//!
//! A request comes as [`ApiRequest`] with its whole body, and leaves as [`Answer`]; HTTP itself is the host's.
//! [`Apis::answer`] is the path of one request:
//!
//! 1. `rates`: requests of one network, and of one principal, are limited;
//! 2. Signature Version 4 proves the principal, before a parameter is read;
//! 3. `protocol`: parameters become a tree, and the tree the input of an operation;
//! 4. `service` finds the operation: those of IAM are a table (`iam`), those of STS an enumeration (`sts`); a request with
//!    `X-Amz-Target` goes to its [`JsonApi`], which does the work of 3 to 6;
//! 5. `access`: the principal's policies decide on what the operation demands;
//! 6. the operation reads the account in memory, or changes it in one commit;
//! 7. [`Apis`] finishes the request in one place, with its action, parameters and error.

mod access;
mod apis;
mod audited;
mod call;
mod changes;
mod error;
mod iam;
mod json;
mod page;
mod protocol;
mod rates;
mod service;
mod sts;

pub use access::{Demand, Resource};
pub use apis::{ApiRequest, Apis};
pub use call::Call;
pub use error::{ApiError, Result, shown};
pub use iam::operations as iam_operations;
pub use json::{Asked, JsonApi};
pub use protocol::Answer;
pub use service::Service;
pub use sts::OPERATIONS as STS_OPERATIONS;
pub use sts::issuers::{IssuerKeys, IssuerSettings};

/// Largest body of a request, in bytes, unless a [`JsonApi`] takes a larger one for its operation: a policy of the
/// greatest length (131,072 characters), percent-encoded, and more.
pub const MAX_BODY_BYTES: usize = 1 << 20;
