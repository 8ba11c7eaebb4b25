//! Pushes of real Git into a region, over a server for `git://` that consists of the library and a socket.

mod authorization;
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
mod reachability;
mod refs;
mod refusals;
mod rules;
mod symbolic;
