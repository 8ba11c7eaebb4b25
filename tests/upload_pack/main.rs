//! upload-pack against real Git clients, over `git://` (with state) and HTTP (without).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cloning;
mod fetching;
mod hostile;
mod listing;
mod partial;
mod permission;
mod raw;
mod repo;
mod server;
mod shallow;
mod work;
