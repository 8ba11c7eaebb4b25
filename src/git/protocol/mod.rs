//! Git's wire protocol: framing and messages, versions 0, 1 and 2 (gitprotocol-common, gitprotocol-pack,
//! gitprotocol-v2). Blocking readers and writers of bytes; no transport.

mod capabilities;
mod error;
mod fetch_request;
mod filter;
mod ls_refs;
mod pkt_line;
mod refs_advertisement;
mod sideband;

pub use capabilities::{AGENT, Command, RequestHead, Service, Version, advertise_v2, read_command};
pub use error::ProtocolError;
pub use fetch_request::{Deepen, FetchRequest, HaveOrDone, MultiAck, RequestLimits, SidebandWidth, have_or_done};
pub use filter::Filter;
pub use ls_refs::{LsRefs, MAX_REF_PREFIXES};
pub use pkt_line::{MAX_PACKET_BYTES, MAX_PAYLOAD_BYTES, Packet, PacketReader, PacketWriter};
pub use refs_advertisement::{AdvertisedRefs, advertise_refs, announce_service};
pub use sideband::{Band, Progress, Sideband};
