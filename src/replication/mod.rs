//! Replication from region to region: look, fold, copy, apply.
//!
//! *Invariant:* a replica's ledger is a prefix of its source's; anything else is a fork: stop and report.
//! *Invariant:* packs are durable in the target before one conditional write makes their changes visible.

mod apply;
mod compare;
pub mod deliver;
pub mod error;
pub mod lease;
pub mod pass;
pub mod plan;
pub mod progress;
mod staging;
pub mod status;
pub mod transfer;

pub use error::ReplicationError;
