//! The `fetch` command of version 2 (gitprotocol-v2). Every request is self-contained.

use std::io::{self, Write};

use gix::ObjectId;

use super::error::{ServeError, client};
use super::graph::Graph;
use super::negotiation::Negotiation;
use super::selection::RevisionSpec;
use super::send::{SentPack, send_pack};
use super::session::Session;
use super::wants::Wants;
use super::{pattern_lists, shallow};
use crate::protocol::{FetchRequest, PacketWriter};
use crate::view::View;

/// Serves one `fetch` request. Sets `in_pack` once errors can only be sent on the side-band.
pub(crate) fn fetch(
    view: &View,
    graph: &mut Graph<'_>,
    request: &FetchRequest,
    session: Session,
    out: &mut dyn Write,
    in_pack: &mut bool,
) -> Result<Option<SentPack>, ServeError> {
    let mut negotiation = Negotiation::new(view, graph, session.own);
    let wants = Wants::check(view, graph, &mut negotiation.reachable, request)?;
    if wants.slots.is_empty() && !request.wait_for_done {
        // As in Git, the answer to a request without wants is empty.
        return client(out.flush()).map(|()| None);
    }
    let mut acknowledged = Vec::new();
    for id in &request.haves {
        if negotiation.have(id, graph)? {
            acknowledged.push(*id);
        }
    }
    if !request.haves.is_empty() && !request.done {
        let ready = !request.wait_for_done && negotiation.is_ready(&wants, graph)?;
        client(acknowledge(&acknowledged, ready, &mut PacketWriter::new(&mut *out)))?;
        if !ready {
            return Ok(None);
        }
    }
    let sparse = pattern_lists::read(view, graph, &mut negotiation.reachable, &request.filter.sparse)?;
    let thorough = session.thorough;
    let mut spec = RevisionSpec { wants: wants.slots.clone(), thorough, sparse, ..RevisionSpec::default() };
    let change = shallow::apply(view, graph, &mut negotiation.reachable, request, &wants.commits, &mut spec)?;
    spec.hold(negotiation.common, graph)?;
    let mut lines = PacketWriter::new(&mut *out);
    if request.deepen.is_some() || !request.shallow.is_empty() {
        client(lines.line(b"shallow-info").and_then(|()| change.write(&mut lines)).and_then(|()| lines.delimiter()))?;
    }
    if !wants.refs.is_empty() {
        client(wanted_refs(&wants, &mut lines))?;
    }
    client(lines.line(b"packfile"))?;
    *in_pack = true;
    send_pack(view, graph, spec, request, out).map(Some)
}

/// Writes the `acknowledgments` section.
fn acknowledge<W: Write>(ids: &[ObjectId], ready: bool, out: &mut PacketWriter<W>) -> io::Result<()> {
    out.line(b"acknowledgments")?;
    if ids.is_empty() {
        out.line(b"NAK")?;
    }
    for id in ids {
        out.line(format!("ACK {id}").as_bytes())?;
    }
    if !ready {
        return out.flush_packet();
    }
    out.line(b"ready")?;
    out.delimiter()
}

fn wanted_refs<W: Write>(wants: &Wants, out: &mut PacketWriter<W>) -> io::Result<()> {
    out.line(b"wanted-refs")?;
    for wanted in &wants.refs {
        out.parts(&[wanted.id.to_string().as_bytes(), b" ", &wanted.name, b"\n"])?;
    }
    out.delimiter()
}
