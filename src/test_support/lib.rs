//! What tests and benchmarks share: decorators of stores, emulators, real servers and clients, fixtures. In no product build.

#![allow(
    missing_docs,
    clippy::match_bool,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::new_without_default
)]

pub mod aws;
pub mod aws_region;
pub mod backend;
pub mod cgi;
pub mod faults;
pub mod faulty;
pub mod formats;
pub mod git;
pub mod lfs_work;
pub mod nginx;
pub mod node;
pub mod objects;
pub mod operation;
pub mod pair;
pub mod paths;
pub mod prometheus;
pub mod proxy;
pub mod pushed_packs;
pub mod python;
pub mod queues;
pub mod receiving;
pub mod running;
pub mod samples;
pub mod scripted_server;
pub mod serving;
pub mod spoiler;
pub mod sshd;
pub mod stale;
pub mod table;
pub mod waiting;
pub mod world;
