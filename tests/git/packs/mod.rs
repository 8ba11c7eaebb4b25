//! Packs against the real Git: checking, indexing, building, connectivity.
mod building;
mod checking;
mod connecting;
mod hostile;
mod large;
mod mutated;
mod support;
