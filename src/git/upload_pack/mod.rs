//! upload-pack: serves fetches and clones from a [`View`] of local packs.
//!
//! Three concerns are separate: object selection ([`wants`], [`negotiation`], [`shallow`], [`selection`] with
//! [`commits`], [`trees`], [`sparse`] and [`reachable`]), pack reuse ([`reuse`]) and transport ([`send`]). Sets of
//! objects are bitmaps over the slots of the pack set, so memory is a few bits per object of the repository.
//!
//! Clients may fetch the objects that refs of the view reach, or reached recently. Hidden and unreachable objects
//! are answered exactly like objects that do not exist, in wants and in haves.

mod commits;
mod error;
mod graph;
mod negotiation;
mod pattern_lists;
mod reachable;
mod readiness;
mod reuse;
mod selection;
mod send;
mod session;
mod shallow;
mod slots;
mod sparse;
mod trees;
mod v0;
mod v2;
mod wants;

use std::io::{BufRead, BufWriter, Write};
use std::sync::atomic::AtomicBool;

pub use error::ServeError;
pub use graph::WorkLimits;
pub use send::SentPack;
pub use session::{Limits, Session};

use self::error::client;
use self::graph::Graph;
use self::wants::Admission;
use super::protocol::{
    AdvertisedRefs, Command, FetchRequest, LsRefs, Offers, PacketReader, PacketWriter, RequestHead, Version,
    advertise_refs, advertise_v2, read_command,
};
use super::view::View;

/// Capabilities of versions 0 and 1.
const CAPABILITIES: &str = "multi_ack thin-pack side-band side-band-64k ofs-delta shallow deepen-since deepen-not \
    deepen-relative no-progress include-tag multi_ack_detailed allow-tip-sha1-in-want allow-reachable-sha1-in-want";
/// Size of the output buffer in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Outcome of [`serve`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Pack that was sent; `None` if the request did not get as far.
    pub pack: Option<SentPack>,
    /// Number of objects read.
    pub reads: u64,
    /// True if another request may follow on a stateful connection: call [`serve`] again, ideally with a fresh view.
    pub may_follow: bool,
}

/// Sends the initial advertisement: refs in versions 0 and 1, capabilities in version 2.
pub fn advertise(view: &View, session: Session, out: &mut dyn Write) -> Result<(), ServeError> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
    if session.version == Version::V2 {
        client(advertise_v2(view.format, session.ref_in_want, &mut out))?;
    } else {
        let refs = AdvertisedRefs { head: true, peeled: Some(view.peeled_tags()?), filter: true };
        let no_done = if session.stateless { " no-done" } else { "" };
        let capabilities = format!("{CAPABILITIES}{no_done}");
        client(advertise_refs(view, session.version, refs, &capabilities, &mut out))?;
    }
    client(out.flush())
}

/// Serves one request: a command of version 2, or the whole conversation of versions 0 and 1. Reads no further into
/// `request`. Errors are sent to the client as `ERR` packets or on the error band as long as the protocol allows.
///
/// Blocks for as long as the client does: bound the time at the transport. Once `cancel` is set, returns
/// [`ServeError::Cancelled`] soon.
pub fn serve(
    view: &View,
    request: &mut dyn BufRead,
    session: Session,
    out: &mut dyn Write,
    limits: &Limits,
    cancel: &AtomicBool,
) -> Result<Served, ServeError> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
    let mut in_pack = false;
    let mut input = PacketReader::new(request);
    let result = if session.version == Version::V2 {
        command(view, session, &mut input, &mut out, limits, cancel, &mut in_pack)
    } else {
        Graph::new(&view.packs, limits.work, cancel).and_then(|mut graph| {
            v0::converse(view, &mut graph, &mut input, &mut out, session.stateless, limits, &mut in_pack)
                .map(|pack| Served { pack, reads: graph.reads(), may_follow: false })
        })
    };
    if let Err(error) = &result
        && !in_pack
        && let Some(message) = error.for_client()
    {
        // A failure to send the error is less useful than the error itself.
        let _ = PacketWriter::new(&mut out).error(&message);
    }
    if result.is_err() && in_pack {
        // Nothing may follow a truncated pack.
        let _ = out.flush();
    }
    result
}

fn command(
    view: &View,
    session: Session,
    input: &mut PacketReader<&mut dyn BufRead>,
    out: &mut dyn Write,
    limits: &Limits,
    cancel: &AtomicBool,
    in_pack: &mut bool,
) -> Result<Served, ServeError> {
    let Some(RequestHead { command, has_arguments, .. }) = read_command(input, view.format)? else {
        return Ok(Served::default());
    };
    match command {
        Command::LsRefs => {
            let request = if has_arguments { LsRefs::read(input)? } else { LsRefs::default() };
            let peeled = if request.peel { Some(view.peeled_tags()?) } else { None };
            client(request.answer(view, peeled, out))?;
            Ok(Served { may_follow: true, ..Served::default() })
        }
        Command::Fetch => {
            let mut graph = Graph::new(&view.packs, limits.work, cancel)?;
            let request = if has_arguments {
                let mut admission = Admission::new(view, &graph);
                let offers = Offers { ref_in_want: session.ref_in_want };
                FetchRequest::read_v2(input, view.format, (&limits.request, offers), &mut |want| {
                    admission.admit(want, &graph)
                })?
            } else {
                FetchRequest::default()
            };
            let pack = v2::fetch(view, &mut graph, &request, session, out, in_pack)?;
            Ok(Served { pack, reads: graph.reads(), may_follow: true })
        }
    }
}
