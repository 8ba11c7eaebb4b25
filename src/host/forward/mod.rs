//! Pushes to a replica that are forwarded to the host of the primary.
//!
//! The primary authorizes the request again: it gets the client's credentials as they are or, from a host with an account,
//! a delegation of the authenticated principal (`gitferry_iam::Delegated`). The response is streamed back as it arrives,
//! except for the last packet, which is held back until the change has been replicated into this region. A client that
//! reads here after its push therefore reads its own write.
//!
//! `push` does that for requests over HTTP, `conversation` for commands over SSH.

mod conversation;
pub(crate) mod headers;
mod held_tail;
pub(crate) mod other_host;
pub(crate) mod push;

pub use other_host::{Forwarder, ForwarderError};
