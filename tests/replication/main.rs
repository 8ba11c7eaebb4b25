//! The command against real Git: whatever happens to a repository arrives, whole, exactly once.

#[path = "../support/mod.rs"]
mod support;

mod contents;
mod crashes;
mod forks;
mod kinds;
mod links;
mod names;
mod together;
