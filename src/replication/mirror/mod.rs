//! Mirroring between Git servers: links with a remote (any Git server) at one end.
//!
//! A pass (`pass.rs`) lists the refs of both sides (`list_refs.rs`), decides without I/O which refs change (`plan.rs`)
//! and in which order (`push_order.rs`), and lets the pack that the source's upload-pack sends flow into the target's
//! receive-pack (`channel.rs`). Nothing is stored on the way. A region at one end is a Git server within the process
//! (`region/server.rs`), so that all links take one path. `service/delivery/mirror.rs` delivers for events.

mod at_once;
mod channel;
pub mod checkpoint;
pub mod endpoint;
pub mod ends;
pub mod error;
pub mod explain;
mod find_haves;
mod head;
mod hold_back;
pub mod known_objects;
pub mod lease;
pub mod lfs;
pub mod link;
pub mod list_refs;
mod name_conflicts;
mod names;
pub mod object_source;
mod object_supply;
pub mod parts;
pub mod pass;
pub mod plan;
pub mod policy;
mod preserve;
pub mod push;
mod push_order;
mod pusher;
pub mod report;
pub mod rows;
mod settle;
mod slices;
mod stages;
pub mod status;
mod target;
pub mod task;
mod update;
mod update_order;
pub mod via;

pub use endpoint::Endpoint;
pub use error::MirrorError;
pub use link::RemoteLink;
pub use parts::RemoteLinkParts;
