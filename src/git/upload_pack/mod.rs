//! upload-pack: answers clients that fetch and clone, on a [`View`] of local packs.
//!
//! Three things are kept apart: *which objects* ([`wants`], [`negotiation`], [`shallow`], [`selection`] with
//! [`commits`], [`trees`] and [`reachable`]), *in which form* ([`form`]) and *how they are sent* ([`send`]).
//! Sets of objects are bits by slot of the packs, so memory is a few bits for each object of the repository.
//!
//! What a client may get is what refs of the view reach, or reached in the recent past: a hidden or
//! unreachable object is answered just like one that does not exist, whether it is wanted or "had".

mod commits;
mod error;
mod form;
mod graph;
mod negotiation;
mod reachable;
mod readiness;
mod selection;
mod send;
mod shallow;
mod slots;
mod sparse;
mod trees;
mod v0;
mod v2;
mod wants;

use std::io::{self, BufRead, BufWriter, Write};
use std::sync::atomic::AtomicBool;

pub use error::ServeError;
pub use graph::WorkLimits;
pub use send::SentPack;

use self::graph::Graph;
use self::wants::Admission;
use super::protocol::{
    AdvertisedRefs, Command, FetchRequest, LsRefs, Offers, PacketReader, PacketWriter, RequestHead, RequestLimits,
    Version, advertise_refs, advertise_v2, read_command,
};
use super::view::View;

/// Capabilities of versions 0 and 1.
const CAPABILITIES: &str = "multi_ack thin-pack side-band side-band-64k ofs-delta shallow deepen-since deepen-not \
    deepen-relative no-progress include-tag multi_ack_detailed allow-tip-sha1-in-want allow-reachable-sha1-in-want";
/// Size of the buffer for answers.
const BUFFER_BYTES: usize = 64 * 1024;

/// How much one client may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// What one request may name.
    pub request: RequestLimits,
    /// Work that one request may cause before its pack.
    pub work: WorkLimits,
}

/// How client and server talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The version that was negotiated.
    pub version: Version,
    /// Whether every request stands for itself (HTTP), or all come over one connection (SSH, `git://`).
    pub stateless: bool,
    /// Whether wants by the name of a ref are offered (version 2). Git's server does not unless told to, for a
    /// reason: when a ref moves after the client was told about it, `git clone --single-branch` then gets the
    /// new object but sets the branch to the old one, and fails.
    pub ref_in_want: bool,
    /// Whether packs leave out all that the client has, and not only what it has where its history and what it wants
    /// meet (version 2). That looks at every tree that the client has.
    pub thorough: bool,
    /// Whether the client is gitferry itself, in this process: it is told of every object that is here, also of those
    /// that refs no longer reach, or never did (version 2).
    pub own: bool,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// The pack that was sent, if it was that far.
    pub pack: Option<SentPack>,
    /// How many objects were read.
    pub reads: u64,
    /// Over a connection with state: another request may follow; call [`serve`] again, best with a fresh view.
    pub may_follow: bool,
}

/// Tells a client that connects what there is: refs in versions 0 and 1, capabilities in version 2.
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

/// Answers one request: a command of version 2, or the whole conversation of versions 0 and 1. Reads no more
/// of `request` than that. A client that can still be told of an error is told.
///
/// Blocking, and may take as long as the client does: bound the time at the transport. Setting `cancel` ends
/// it soon, with an error.
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
            v0::converse(view, &mut graph, &mut input, &mut out, (session.stateless, limits), &mut in_pack)
                .map(|pack| Served { pack, reads: graph.reads(), may_follow: false })
        })
    };
    if let Err(error) = &result
        && !in_pack
        && let Some(message) = error.for_client()
    {
        // The first error is the one to report.
        let _ = PacketWriter::new(&mut out).error(&message);
    }
    if result.is_err() && in_pack {
        // Nothing may follow a pack that has no end.
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

/// Makes an error of the operating system one about the client.
fn client<T>(result: io::Result<T>) -> Result<T, ServeError> {
    result.map_err(ServeError::Client)
}
