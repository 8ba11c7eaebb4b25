//! Host of one region: serves the region's repositories with Git over smart HTTP (gitprotocol-http) and Git LFS.
//!
//! This crate covers HTTP, authentication and routing to repositories. The Git protocol is implemented in
//! `gitferry_git` and runs on one thread per request, within the [`HostLimits`](gitferry_config::HostLimits).
//!
//! `request` is the path of one request: it calls one of the services that `host` puts together. Around them:
//!
//! - from sockets to requests: `listen`, `connections`, `client`, `proxies`;
//! - before a service: `route`, `browser_guard`, `auth`, `tokens`, `refusal`;
//! - fetches: `fetch`, `upload_pack`; the open repositories that they read: `views`, `maintenance`;
//! - pushes: `push`, `push_destination`, `create_on_push`, `forward`; on their thread: `receive_pack`, `push_states`,
//!   `push_policies`, `hook`, `quarantines`;
//! - admission control: `admission`, `permits`, `fair_share`;
//! - bodies: `drain`, `shared_body`, `exchange`, `request_body`, `response_body`.

mod admission;
mod announcer;
pub mod auth;
mod browser_guard;
mod client;
mod connections;
pub mod create_on_push;
mod cross_site;
mod drain;
mod exchange;
mod fair_share;
mod fetch;
pub mod forward;
mod frontier;
mod git_http;
mod head;
mod hook;
mod host;
mod lfs;
pub mod listen;
mod maintenance;
mod metrics;
mod permits;
mod proxies;
mod push;
mod push_destination;
pub mod push_policies;
mod push_states;
pub mod quarantines;
mod readiness;
mod rebinding;
mod receive_pack;
mod refusal;
mod request;
mod request_body;
mod response_body;
mod route;
mod shared_body;
pub mod tokens;
mod upload_pack;
mod urls;
pub mod views;

pub use host::{Host, HostOptions};
