//! gitferry keeps Git repositories identical across regions.
//!
//! It ships an ordered, hash-chained change log plus immutable packs, so the cost of a change is the
//! size of the change. `ARCHITECTURE.md` is the map; each module below is one room of it.

pub mod aws;
mod certificates;
pub mod clock;
pub mod config;
pub mod counter;
pub mod decorate;
mod durable;
pub mod error;
pub mod events;
pub mod fault;
pub mod git;
pub mod host;
pub mod ledger;
pub mod objects;
pub mod printable;
mod private;
pub mod region;
pub mod remote;
pub mod replication;
pub mod retry;
pub mod supervise;
pub mod table;
mod text;

pub mod worker;

pub use error::Kind;
