//! Events: hints that a repository changed. A lost event costs time until the next sweep, a duplicate one or two reads.
//!
//! In: [`codecommit`] parses events, and [`sqs`] is the queue that brings them; [`crate::delivery::intake`] acts on
//! them. Out: a commit leaves a row in the [`outbox`], and [`eventbridge`] announces it. Nothing here knows of links.

pub mod codecommit;
pub mod detail;
pub mod eventbridge;
pub mod in_process;
pub mod outbox;
pub mod sqs;
