//! The command against real Git: whatever happens to a repository arrives, whole, exactly once.

mod consolidation;
mod contents;
mod crashes;
mod forks;
mod idle;
mod interrupted;
mod kinds;
mod latency;
mod lfs;
mod links;
mod maintain;
mod names;
mod repair;
mod snapshots;
mod starting;
mod together;
mod usage;
