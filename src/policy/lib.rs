//! The IAM policy language, pure: documents are parsed and compiled once, and each request is decided on without I/O.
//!
//! - [`PolicyDocument::parse`] checks a document and names the element that is wrong.
//! - [`Context`] has the condition keys of a request.
//! - [`evaluate()`] decides on a request by the policies of its principal: identity, permissions boundary, session.
//! - [`evaluate_trust`] decides if a principal may assume a role.
//! - [`managed`] has the managed policies of AWS, [`actions`] the actions of CodeCommit.
//!
//! The rules are those of the IAM User Guide ("IAM JSON policy element reference"). Quotations in comments are from
//! there. `docs/identity.md` lists what differs.

pub mod actions;
mod arn;
mod condition;
mod context;
mod document;
mod error;
mod evaluate;
mod glob;
mod json;
pub mod keys;
pub mod managed;
mod parse;
mod pattern;
mod principal;
mod statement;
mod steps;
#[cfg(test)]
mod tests;
mod trust;
mod version;

pub use arn::account_of;
pub use context::{Context, ContextBuilder, Key, PrincipalType, TooManyPaths};
pub use document::{DocumentKind, MAX_DOCUMENT_BYTES, MAX_TEXT_BYTES, PolicyDocument, quota};
pub use error::PolicyError;
pub use evaluate::{Decider, Decision, Layer, NamedPolicy, PolicySet, Request, StatementId, evaluate};
pub use principal::Principal;
pub use statement::{Effect, Statement};
pub use trust::{Grant, TrustDecision, evaluate_trust};
pub use version::Version;
