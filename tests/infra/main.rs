//! What `infra/` and `docker/` make: that it says what the program and its documents say, and that it works, on an emulator.

#![allow(clippy::match_bool, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alone;
mod applied;
mod circles;
mod codecommit;
mod compose;
mod config;
mod container;
mod emulated;
mod founding;
mod hcl_files;
mod host;
mod house;
mod identity;
mod lengths;
mod link;
mod metrics;
mod modules;
mod newest;
mod older;
mod policies;
mod prices;
mod region;
mod running;
mod scripts;
mod secret_files;
mod simulate;
mod terraform;
mod validated;
mod variables;
