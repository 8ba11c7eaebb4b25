//! Pushes to a replica that are forwarded to the host of the primary.
//!
//! The request is passed on as it is, credentials included: the primary authorizes it. The response is streamed back as
//! it arrives, except for the last packet, which is held back until the change has been replicated into this region. A
//! client that reads here after its push therefore reads its own write.

pub(crate) mod headers;
mod held_tail;
pub(crate) mod other_host;
pub(crate) mod push;

pub use other_host::{Forwarder, ForwarderError};
