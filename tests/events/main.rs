//! Events in and out, and the ways of running the worker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backup;
mod bridge;
mod isolation;
mod lambda;
mod metrics;
mod names;
mod one_bad;
mod outbox;
mod parsing;
mod place;
mod queue;
mod remotes;
mod remotes_announced;
mod remotes_gone;
mod remotes_lambda;
mod remotes_turns;
mod replicate;
mod samples;
mod worker;

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/cgi.rs"]
mod cgi;

#[path = "../support/backend.rs"]
mod backend;

#[path = "../support/aws.rs"]
mod aws;

#[path = "../support/queues.rs"]
mod queues;

#[path = "../support/running.rs"]
mod running;

#[path = "../support/waiting.rs"]
mod waiting;
