//! Links between two Git servers: real Git at both ends, judged by real Git.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/git.rs"]
#[allow(dead_code)]
mod git;
mod place;
#[path = "../git_client/server.rs"]
#[allow(dead_code)]
mod server;

mod carrying;
mod diverging;
mod failing;
mod heads;
mod policies;
mod regions;
mod requests;
