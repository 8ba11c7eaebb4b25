//! Links between two Git servers: real Git at both ends, judged by real Git.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;
use support::git;

#[path = "../support/backend.rs"]
mod backend;
#[path = "../support/cgi.rs"]
mod cgi;
mod place;
#[path = "../git_client/server.rs"]
#[allow(dead_code)]
mod server;

mod carrying;
mod commands;
mod diverging;
mod failing;
mod forgotten;
mod heads;
mod policies;
mod regions;
mod replacing;
mod requests;
mod straining;
mod via;
