//! Git's wire protocol, versions 0, 1 and 2: pkt-lines and messages (gitprotocol-common, gitprotocol-pack,
//! gitprotocol-v2). Blocking readers and writers without a transport.

use std::io::{self, BufRead};

mod capabilities;
mod error;
mod fetch_request;
mod fetch_request_writing;
mod filter;
mod ls_refs;
mod pkt_line;
mod refs_advertisement;
mod sideband;

pub use capabilities::{AGENT, Command, RequestHead, Service, Version, advertise_v2, read_command};
pub use error::{BodyTooLarge, ProtocolError};
pub(crate) use fetch_request::parse_id;
pub use fetch_request::{
    Deepen, FetchRequest, HaveOrDone, MAX_LINE_BYTES, MultiAck, Offers, RequestLimits, SidebandWidth, Want,
    have_or_done,
};
pub(crate) use fetch_request_writing::write_ids;
pub use filter::{Filter, Kinds};
pub(crate) use ls_refs::{HEX_BYTES, hex_of};
pub use ls_refs::{LsRefs, MAX_REF_PREFIXES};
pub(crate) use pkt_line::Head;
pub use pkt_line::{MAX_PACKET_BYTES, MAX_PAYLOAD_BYTES, Packet, PacketReader, PacketWriter};
pub use refs_advertisement::{AdvertisedRefs, advertise_refs, announce_service};
pub use sideband::{Band, Progress, Sideband};

/// Reads and discards the remaining input, at most `limit` bytes. A client whose connection closes while it still sends
/// may miss the answer.
pub fn drain(input: &mut dyn BufRead, limit: u64) {
    let mut left = limit;
    while left > 0 {
        match input.fill_buf().map(<[u8]>::len) {
            Ok(0) => return,
            Ok(count) => {
                input.consume(count);
                left = left.saturating_sub(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
