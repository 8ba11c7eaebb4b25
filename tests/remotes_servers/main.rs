//! `gitferry replicate` between servers that run as they do elsewhere, each in processes of its own: `git http-backend`,
//! OpenSSH, gitferry's host, and dulwich, a Git server in Python that shares no code with Git. Judged by real Git.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;
use support::git;

#[path = "../support/backend.rs"]
#[allow(dead_code)]
mod backend;
#[path = "../support/cgi.rs"]
mod cgi;
mod damage;
mod faults;
mod in_pairs;
#[path = "../host/pair.rs"]
mod pair;
#[path = "../support/python.rs"]
mod python;
mod server;
mod slices;
#[path = "../support/spoiler.rs"]
mod spoiler;
#[path = "../remote/sshd.rs"]
mod sshd;
