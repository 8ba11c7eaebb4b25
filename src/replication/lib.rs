//! Replication from region to region: look, fold, copy, apply.
//!
//! *Invariant:* a replica's ledger is a prefix of its source's; anything else is a fork: stop and report.
//! *Invariant:* packs are durable in the target before one conditional write makes their changes visible.

mod any_link;
mod apply;
mod compare;
pub mod deliver;
pub mod error;
mod lfs;
mod names;
mod packs;
pub mod pairs;
pub mod pass;
pub mod plan;
pub mod progress;
pub mod remotes;
pub mod repair;
mod staging;
pub mod status;
pub mod transfer;
pub mod verified;

pub use any_link::{AnyLink, Which};
pub use error::ReplicationError;

/// Deliveries run as tasks of their own: this fails to compile when one can no longer be spawned.
#[allow(dead_code)]
fn deliveries_can_be_spawned(link: deliver::Link, id: gitferry_engine::ledger::head::RepositoryId) {
    fn spawnable<T: Send + 'static>(_: T) {}
    spawnable(async move { link.deliver(id).await });
}
