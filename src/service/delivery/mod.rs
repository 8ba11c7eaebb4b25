//! Deliveries: from an announced change to a target that has it.
//!
//! [`intake`] turns events into jobs ([`job`]), which are [`pending`] as durable rows that outlive the message and the
//! process. [`scheduler`] decides without I/O which repository is delivered next. [`run`](mod@run) delivers one
//! ([`request`]), for the worker, the Lambda function and the commands. [`link`] is what all of them know of a link, whose
//! answers about events are in [`lookup`]; [`regions`] and [`mirror`] implement it.

pub mod intake;
pub mod job;
pub mod link;
pub mod lookup;
mod mirror;
pub mod pending;
mod regions;
pub mod request;
pub mod run;
pub(crate) mod scheduler;

pub use job::RepositoryKey;
pub use link::Link;
