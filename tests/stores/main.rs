//! Object stores and tables: one conformance suite per trait, AWS on an emulator, the embedded ones when disks fail.

#![allow(clippy::match_bool, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod aws_objects;
mod aws_stores;
mod conformance;
mod embedded_stores;
mod faults;
mod formats;
