//! The public formats: a state that gitferry writes in all of them, and the same state as an older build wrote it.
//!
//! [`scenario`] writes the state, [`state`] reads it as lines of text that are equal for equal states, [`fixture`] opens
//! the state of the older build in `tests/fixtures/stores-2`.

pub mod aws;
pub mod fixture;
pub mod scenario;
pub mod sources;
pub mod stand_ins;
pub mod state;

/// Source of the link `dr`, on the file system and in SQLite.
pub const US: &str = "us-east-1";
/// Target of the link `dr`, on S3 and DynamoDB.
pub const EU: &str = "eu-west-1";
/// Target of the link `chain`, which continues `dr`, on the file system and in SQLite.
pub const AP: &str = "ap-south-1";
/// Prefix of the region's objects in its bucket.
pub const PREFIX: &str = "git";
