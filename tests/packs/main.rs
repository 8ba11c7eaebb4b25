//! Packs against the real Git: checking, indexing, building, connectivity.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod building;
mod checking;
mod connecting;
mod hostile;
mod large;
mod mutated;
mod support;
