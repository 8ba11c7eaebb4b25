//! Deliveries: from an announced change to a target that has it.
//!
//! [`intake`] turns events into [`pending`] jobs, durable rows that outlive the message and the process. [`scheduler`]
//! decides without I/O which repository is delivered next. [`run`](mod@run) delivers one, for the worker, the Lambda
//! function and the commands. [`link`] is what all of them know of a link; [`regions`] and [`mirror`] implement it.

pub mod intake;
pub mod link;
mod mirror;
pub mod pending;
mod regions;
pub mod run;
pub(crate) mod scheduler;

pub use link::{Link, RepositoryKey};
