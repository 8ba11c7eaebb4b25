//! Client side of Git's protocol: ref advertisements, fetch and push (gitprotocol-pack, gitprotocol-v2,
//! gitprotocol-http).
//!
//! All calls block. A [`Server`] supplies the transport (HTTP, SSH or in process). [`upload_pack`] connects and lists
//! refs; on it stand [`fetch`] and [`known`] (which objects a server has), which share [`haves`]. [`receive_pack`] pushes.

mod answer;
mod bands;
mod capabilities;
mod error;
mod fetch;
mod greeting;
mod haves;
mod known;
mod pack_input;
mod receive_pack;
mod refs;
mod report;
mod server;
mod trailer;
mod upload_pack;

pub use capabilities::{Capabilities, MAX_CAPABILITIES};
pub use error::{ClientError, PackSourceError};
pub use fetch::{FetchPack, MAX_HAVES, MAX_WANTS};
pub use pack_input::{PackInput, empty_pack};
pub use receive_pack::{PackSource, ReceivePack};
pub use refs::{MAX_REFS, MAX_UNUSABLE, RemoteRefs};
pub use report::{PushReport, RefEffect, RefOutcome};
pub use server::{Connection, Deadline, Request, Server};
pub use upload_pack::UploadPack;
