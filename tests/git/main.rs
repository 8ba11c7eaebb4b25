//! Git formats and protocols, beside real git.

#![allow(clippy::match_bool, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod content;
mod git_client;
mod local_repository;
mod pack_cache;
mod packs;
mod receive_pack;
mod refspecs;
mod upload_pack;
