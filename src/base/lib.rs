//! Foundation of all other crates: error kinds, clock, retry, checksums, durable and private files, crash points,
//! counters, capacities of caches, metrics, supervision of tasks.

pub mod capacity;
pub mod certificates;
pub mod checksum;
pub mod chunks;
pub mod clock;
pub mod counter;
pub mod durable;
pub mod error;
pub mod fault;
pub mod metrics;
pub mod printable;
pub mod private;
pub mod retry;
pub mod supervise;
pub mod text;

pub use error::Kind;
