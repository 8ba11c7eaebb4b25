//! Pushes of real Git into a region, over a server for `git://` that consists of the library and a socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/git.rs"]
#[allow(dead_code)]
mod git;
mod server;

mod checks;
mod concurrent;
mod empty_tree;
mod figures;
mod fsck;
mod head;
mod hostile;
mod lfs;
mod limits;
mod oracles;
mod packs;
mod reachability;
mod refs;
mod refusals;
mod rules;
mod symbolic;
