//! Links with a remote at one end: any Git server.
//!
//! Remote → Remote is pass-through: look at the refs of both, ask the source what of the target's it has
//! (`plan.rs` decides without I/O), and let the pack that the source sends flow into the target's receive-pack. A
//! region at one end is a server within the process (`region/server.rs`), so that there is one way for all. What
//! events say is in `service/events/remote.rs`.

pub mod checkpoint;
mod common;
pub mod endpoint;
pub mod ends;
pub mod error;
pub mod explain;
pub mod gate;
mod head;
pub mod lfs;
pub mod look;
mod moves;
mod names;
mod needed;
mod order;
pub mod pass;
pub mod plan;
pub mod policy;
pub mod push;
pub mod relay;
mod replace;
pub mod report;
pub mod rows;
mod settle;
mod slices;
pub mod status;
pub mod supply;
mod transfer;
mod turn;
mod update;
pub mod via;

pub use endpoint::Endpoint;
pub use error::RemotesError;
pub use pass::RemoteLink;
