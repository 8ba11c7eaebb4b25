//! Identities of AWS itself: callers that AWS STS names, and the state of an account of AWS IAM.
//!
//! - [`PresignedCaller`] is the proof that a client sends: a presigned `sts:GetCallerIdentity` for one host.
//! - [`Caller`] is the answer of STS.
//! - [`AuthorizationDetails`] are users, groups, roles and policies as AWS IAM lists them, which become the documents of
//!   an [`Account`](crate::Account).

mod caller;
mod details;
mod presigned;

pub use caller::{Caller, MAX_ROLE_SESSION, MAX_USER_SESSION};
pub use details::{AuthorizationDetails, GroupDetail, PolicyDetail, RoleDetail, SshKeyDetail, UserDetail};
pub use presigned::{
    HOST_HEADER, MAX_PASSWORD, MAX_PRESIGNED_SECONDS, PASSWORD_PREFIX, PresignedCaller, PresignedError, StsEndpoint,
    USER_NAME,
};
