//! Git servers that gitferry did not build, reached over HTTP and SSH: Git's own, gitferry's, OpenSSH, and such as
//! misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/cgi.rs"]
mod cgi;
mod credentials;
#[path = "../support/git.rs"]
#[allow(dead_code)]
mod git;
mod head;
mod hosts;
mod http;
#[path = "../host/pair.rs"]
mod pair;
mod place;
mod ssh;
mod ssh_hostile;
mod sshd;
mod wire;
