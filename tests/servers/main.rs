//! Git servers that gitferry did not build, and links to and from them.

#![allow(clippy::match_bool, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod formats;
mod remote;
mod remotes;
mod remotes_lfs;
mod remotes_servers;
