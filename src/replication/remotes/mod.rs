//! Links with a remote at one end: any Git server.
//!
//! Remote → Remote is pass-through: look at the refs of both, ask the source what of the target's it has
//! (`plan.rs` decides without I/O), and let the pack that the source sends flow into the target's receive-pack.

pub mod plan;
pub mod policy;
pub mod report;
