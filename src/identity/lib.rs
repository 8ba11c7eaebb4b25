//! The account of a region at work: `gitferry_iam` knows what the documents of an account mean, and `gitferry_account`
//! keeps them in a repository. This crate joins the two.
//!
//! - [`Identities`] authenticates requests by the newest state of the account.
//! - [`Administration`] founds the account and changes it, one commit for each change.

mod administration;
pub mod aws;
mod data_keys;
mod identities;
mod key_opener;

pub use administration::{Administration, AdministrationError, Founded, Founding, found, has_account};
pub use data_keys::{Resealing, Rotation, RotationPlan};
pub use identities::{CATCH_UP_TIMEOUT, Identities, SERVICES, Unavailable};
pub use key_opener::RETRY_INTERVAL;
