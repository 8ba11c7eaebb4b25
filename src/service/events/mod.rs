//! Events: hints that a repository changed. Never the truth: a lost one costs time until the next sweep, a
//! duplicate costs one or two reads.
//!
//! In: [`codecommit`] reads them, [`intake`] turns one into a due mark ([`due`]), [`sqs`] takes them from a
//! queue. Out: a commit leaves a row in the [`outbox`], and [`eventbridge`] tells the world.

pub mod codecommit;
pub mod detail;
pub mod due;
pub mod eventbridge;
pub mod in_process;
pub mod intake;
pub mod outbox;
pub(crate) mod remote;
pub mod sqs;
