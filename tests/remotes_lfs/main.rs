//! Git LFS on links with a remote: the real client pushes to one host and pulls from another.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/backend.rs"]
#[allow(dead_code)]
mod backend;
#[path = "../support/cgi.rs"]
mod cgi;
#[path = "../support/lfs_work.rs"]
#[allow(dead_code)]
mod lfs_work;
#[path = "../host/pair.rs"]
mod pair;
#[path = "../support/mod.rs"]
mod support;
use support::git;

mod hosts;
mod killed;
mod regions;
mod scripted;
mod servers;
