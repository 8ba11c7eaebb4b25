//! An account of users, groups, roles and policies as documents, and the ways to prove who one is. No stores, no HTTP
//! framework, no network: the clock and random bytes are handed in.
//!
//! - [`Account`] is one state of an account, read from the documents of its repository ([`documents`] lists them).
//! - [`edit::Editor`] makes the next state: pure edits, one commit each, with the errors of AWS.
//! - [`Authenticator`] finds the [`Principal`] of a request, and the condition keys that policies read.
//! - [`Sts`] decides on temporary credentials; [`web_identity`] verifies tokens of identity providers.
//! - [`secret`] keeps passwords as hashes, and secret access keys sealed under a data key that a key service opens.

mod account;
mod arn;
mod assemble;
mod authenticate;
mod authenticated;
mod authentication_error;
pub mod aws;
mod delegation;
pub mod documents;
pub mod edit;
mod error;
mod ids;
mod index;
mod key_ring;
pub mod model;
mod names;
mod policies;
mod policy_sets;
mod principal;
mod random;
mod request;
pub mod secret;
mod session;
pub mod sigv4;
mod simulate;
pub mod ssh_key;
mod sts;
mod throttle;
pub mod web_identity;

#[cfg(test)]
mod tests;

pub use account::{Account, AccountError};
pub use arn::{AccountId, IamArn, NotAnAccount};
pub use authenticate::{Authenticator, SshLogin};
pub use authenticated::{Authenticated, ClientFacts, Stranger};
pub use authentication_error::AuthenticationError;
pub use delegation::{
    Bearer, CLIENT_LIFETIME, Delegated, DelegationError, HOST_LIFETIME, MAX_DELEGATION, MAX_HOST_SKEW, MAX_USED,
    NotDelegated, SCHEME as DELEGATION_SCHEME,
};
pub use error::{Code, IamError, Result};
pub use ids::IdKind;
pub use key_ring::{KeyRing, KeyRingError, Opening};
pub use names::Tags;
pub use policy_sets::MAX_POLICY_SETS;
pub use principal::{Credential, FEDERATED_PROVIDER, Principal, TOKEN_ISSUE_TIME};
pub use random::{NoRandomness, Random, SystemRandom};
pub use request::{Payload, RequestParts};
pub use session::{Credentials, MAX_SESSIONS, MAX_TOKEN, Session, Subject, TokenError};
pub use simulate::Simulated;
pub use sts::{
    AssumeRole, AssumedRole, DEFAULT_USER_SECONDS, MAX_CHAINED_SECONDS, MAX_ROOT_SECONDS, MAX_USER_SECONDS, Sts,
};
pub use throttle::{FAILURE_WINDOW, MAX_COUNTED, MAX_FAILURES, Throttle, TooMany};
