//! Objects in S3: what is sent, what is believed, what is copied without passing here. Against the emulator;
//! what that cannot do (deny, redirect, fail half-way) is done to its answers on the wire.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/aws.rs"]
mod aws;
#[path = "../support/faulty.rs"]
mod faulty;
#[allow(dead_code)]
#[path = "../support/git.rs"]
mod git;
#[path = "../support/proxy.rs"]
mod proxy;

mod consolidating;
mod creating;
mod errors;
mod in_parts;
mod regions;
mod uploads;
mod wire;
