//! Host of one region: serves the region's repositories with Git over smart HTTP (gitprotocol-http), Git LFS, and Git
//! over SSH (`ssh`).
//!
//! This crate covers HTTP, SSH, authentication and routing to repositories. The Git protocol is implemented in
//! `gitferry_git` and runs on one thread per request, within the [`HostLimits`](gitferry_config::HostLimits).
//!
//! A request goes through these folders in this order:
//!
//! - `listen`: from sockets to requests; `client`: the client of a request and its connections;
//! - `request`: the path of one request, its route, protection against what browsers are made to send, refusals, and no
//!   response before the request's body has been read;
//! - `ssh`: the path of one command over SSH, from the socket to the same services;
//! - `auth`: the principal of a request and what the principal may do;
//! - a service: `fetch`, `push`, `forward` (pushes that a replica forwards to the primary), `lfs`, `frontier`, `head`,
//!   `readiness`, the page of `metrics`, or the door of the APIs of AWS (`apis`), which are the crate `gitferry_api`.
//!
//! Services stand on `exchange` (a request on a thread of its own, with blocking bodies), `admission` (how many requests
//! and how much computing at a time, in fair shares) and `views` (the open repositories, and their maintenance). `host`
//! puts the services together.

mod admission;
mod announcer;
mod apis;
pub mod auth;
mod client;
mod codecommit;
mod exchange;
mod fetch;
pub mod forward;
mod frontier;
mod head;
mod host;
mod lfs;
pub mod listen;
mod metrics;
mod push;
pub mod quotas;
mod readiness;
mod request;
pub mod ssh;
pub mod views;

pub use host::{Host, HostOptions};
pub use push::create_on_push::{Upstream, upstreams};
pub use push::policies::PushPolicies;
pub use push::quarantines::Quarantines;
