//! Everything that can go wrong: bad input, failing stores, lost answers, races, crashes anywhere.

mod commits;
mod crowd;
mod disk;
mod environment;
pub mod everywhere;
mod half_visible;
pub mod histories;
mod identities;
mod lagging;
mod large;
mod lfs;
mod pool;
mod racing;
mod sources;
mod stores;
mod sweeps;
