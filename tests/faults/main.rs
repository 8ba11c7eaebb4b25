//! Everything that can go wrong: bad input, failing stores, lost answers, races, crashes anywhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/faulty.rs"]
mod faulty;
#[path = "../support/stale.rs"]
mod stale;
#[path = "../support/mod.rs"]
mod support;

mod commits;
mod crowd;
mod disk;
mod environment;
mod everywhere;
mod half_visible;
mod histories;
mod identities;
mod lagging;
mod large;
mod lfs;
mod pool;
mod racing;
mod sources;
mod stores;
mod sweeps;
