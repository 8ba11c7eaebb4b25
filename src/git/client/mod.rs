//! The client side of Git's protocol: what a server has, fetching from it, pushing to it (gitprotocol-pack,
//! gitprotocol-v2, gitprotocol-http). Blocking; the way to a server is a [`Server`].

mod error;
mod server;

pub use error::ClientError;
pub use server::{Connection, Request, Server};
