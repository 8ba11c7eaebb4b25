//! Replication: brings the target of a link to the state of its source.
//!
//! Between regions, a delivery reads both heads and the changes between them, folds the changes, copies packs and LFS
//! objects, and applies all of it in one conditional transaction (`deliver.rs`). [`mirror`] holds the links with a Git
//! server at one end.
//!
//! *Invariant:* a replica's ledger is a prefix of its source's; anything else is a fork: stop and report.
//! *Invariant:* packs are durable in the target before one conditional write makes their changes visible.

mod apply;
mod carried;
mod compare;
mod deliver;
pub mod error;
mod lfs;
pub mod link;
pub mod mirror;
mod names;
mod packs;
pub mod pairs;
pub mod pass;
pub mod plan;
pub mod progress;
pub mod repair;
mod staging;
mod statistics;
pub mod status;
pub mod transfer;
pub mod verified;

pub use error::ReplicationError;

/// Fails to compile when the future of a delivery is no longer `Send`: deliveries run as spawned tasks.
#[allow(dead_code)]
fn deliveries_can_be_spawned(link: link::Link, id: gitferry_engine::ledger::head::RepositoryId) {
    fn spawnable<T: Send + 'static>(_: T) {}
    spawnable(async move { link.deliver(id).await });
}
