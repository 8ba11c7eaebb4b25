//! What `infra/` and `docker/` make: that it says what the program and `docs/operations.md` say, and, where Terraform
//! and its provider are to be had, that it works.

#![allow(clippy::match_bool, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alone;
mod applied;
mod circles;
mod compose;
mod config;
mod hcl_files;
mod house;
mod link;
mod metrics;
mod policies;
mod region;
mod running;
mod simulate;
mod terraform;
mod validated;
