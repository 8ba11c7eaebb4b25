//! Events in and out, and the ways of running the worker.

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
mod runtime_api;
mod worker;
