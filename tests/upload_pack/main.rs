//! upload-pack against real Git clients, over `git://` (with state) and HTTP (without).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cloning;
mod fetching;
mod hostile;
mod listing;
mod parity;
mod partial;
mod permission;
mod random;
mod raw;
mod repo;
mod server;
mod shallow;
mod traced;
mod work;
