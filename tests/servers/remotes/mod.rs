//! Links between two Git servers: real Git at both ends, judged by real Git.

use gitferry_test_support::git;

mod place;

mod carrying;
mod commands;
mod diverging;
mod failing;
mod forgotten;
mod heads;
mod policies;
mod regions;
mod replacing;
mod requests;
mod straining;
mod via;
