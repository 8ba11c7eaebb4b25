//! Git LFS on links with a remote: the real client pushes to one host and pulls from another.

use gitferry_test_support::git;

mod hosts;
mod killed;
mod regions;
mod scripted;
mod servers;
