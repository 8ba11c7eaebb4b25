//! Links between regions: replication, faults, events, AWS from end to end.

#![allow(clippy::match_bool, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod account;
mod aws_end_to_end;
mod events;
mod faults;
mod formats;
mod replication;
