//! The client side of Git's protocol against real Git and against gitferry's own services, with state (as over SSH)
//! and without (as over HTTP).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/git.rs"]
#[allow(dead_code)]
mod git;
#[path = "../receive_pack/server.rs"]
#[allow(dead_code)]
mod receiving;
mod server;
#[path = "../upload_pack/server.rs"]
#[allow(dead_code)]
mod serving;

mod damage;
mod fetching;
mod knowing;
mod listing;
mod own;
mod pushing;
mod refused;
mod scripted;
