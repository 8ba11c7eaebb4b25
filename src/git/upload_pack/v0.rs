//! Fetch in versions 0 and 1: wants, rounds of haves, pack (gitprotocol-pack).
//!
//! On a stateful connection all rounds share one input. Over HTTP each request repeats the wants and the common haves,
//! and ends after one round.

use std::io::{self, BufRead, Write};

use gix::ObjectId;

use super::error::{ServeError, client};
use super::graph::Graph;
use super::negotiation::Negotiation;
use super::selection::RevisionSpec;
use super::send::{SentPack, send_pack};
use super::session::Limits;
use super::wants::{Admission, Wants};
use super::{pattern_lists, shallow};
use crate::protocol::{
    FetchRequest, HaveOrDone, MultiAck, Packet, PacketReader, PacketWriter, ProtocolError, have_or_done,
};
use crate::view::View;

/// Runs the conversation after the advertisement. Sets `in_pack` once errors can no longer be sent as `ERR` packets.
pub(crate) fn converse<R: BufRead>(
    view: &View,
    graph: &mut Graph<'_>,
    input: &mut PacketReader<R>,
    out: &mut dyn Write,
    stateless: bool,
    limits: &Limits,
    in_pack: &mut bool,
) -> Result<Option<SentPack>, ServeError> {
    let mut admission = Admission::new(view, graph);
    let request = FetchRequest::read_v0(input, view.format, &limits.request, &mut |want| admission.admit(want, graph))?;
    if request.wants.is_empty() {
        return Ok(None);
    }
    let mut negotiation = Negotiation::new(view, graph, false);
    let mut wants = Wants::check(view, graph, &mut negotiation.reachable, &request)?;
    let sparse = pattern_lists::read(view, graph, &mut negotiation.reachable, &request.filter.sparse)?;
    let mut spec = RevisionSpec { wants: wants.slots.clone(), sparse, ..RevisionSpec::default() };
    let change = shallow::apply(view, graph, &mut negotiation.reachable, &request, &wants.commits, &mut spec)?;
    // Parents of unshallowed commits are wants, too.
    wants.commits.extend(spec.wants.iter().skip(wants.slots.len()));
    if request.deepen.is_some() {
        let mut lines = PacketWriter::new(&mut *out);
        client(change.write(&mut lines).and_then(|()| lines.flush_packet()))?;
    }
    // A stateless client asks for the shallow boundary alone, then repeats the request with haves.
    if input.at_end()? {
        return client(out.flush()).map(|()| None);
    }
    let mut rounds = Rounds { graph, wants: &wants, request: &request, negotiation: &mut negotiation, last: None };
    if !rounds.run(input, &mut PacketWriter::new(&mut *out), stateless, limits)? {
        return client(out.flush()).map(|()| None);
    }
    spec.hold(negotiation.common, graph)?;
    *in_pack = true;
    send_pack(view, graph, spec, &request, out).map(Some)
}

struct Rounds<'r, 'v, 'a> {
    graph: &'r mut Graph<'a>,
    wants: &'r Wants,
    request: &'r FetchRequest,
    negotiation: &'r mut Negotiation<'v>,
    /// Last common have.
    last: Option<ObjectId>,
}

impl Rounds<'_, '_, '_> {
    /// Answers haves. Returns true when the pack follows; false if the client disconnected, or ended a stateless
    /// request without `done`.
    fn run<R: BufRead, W: Write>(
        &mut self,
        input: &mut PacketReader<R>,
        out: &mut PacketWriter<W>,
        stateless: bool,
        limits: &Limits,
    ) -> Result<bool, ServeError> {
        let detailed = self.request.multi_ack == MultiAck::Detailed;
        let mut got_common = false;
        let mut got_other = false;
        let mut sent_ready = false;
        let mut haves = 0;
        loop {
            let line = match input.read()? {
                None => return Ok(false),
                Some(Packet::Data(data)) => {
                    have_or_done(data.strip_suffix(b"\n").unwrap_or(data), self.graph.packs().format())?
                }
                // A flush packet ends a round of haves.
                Some(_) => {
                    if detailed && got_common && !got_other && self.is_ready()? {
                        sent_ready = true;
                        client(self.ack(self.last, " ready", out))?;
                    }
                    if self.last.is_none() || self.request.multi_ack != MultiAck::None {
                        client(out.line(b"NAK"))?;
                    }
                    if self.request.no_done && sent_ready {
                        client(self.ack(self.last, "", out))?;
                        return Ok(true);
                    }
                    client(out.flush())?;
                    if stateless {
                        return Ok(false);
                    }
                    got_common = false;
                    got_other = false;
                    continue;
                }
            };
            match line {
                HaveOrDone::Done => {
                    match self.last {
                        Some(_) if self.request.multi_ack != MultiAck::None => client(self.ack(self.last, "", out))?,
                        Some(_) => {}
                        None => client(out.line(b"NAK"))?,
                    }
                    return Ok(true);
                }
                HaveOrDone::Have(id) => {
                    haves += 1;
                    if haves > limits.request.haves {
                        return Err(ProtocolError::TooMany { what: "haves", limit: limits.request.haves }.into());
                    }
                    if self.have(id, &mut sent_ready, out)? { got_common = true } else { got_other = true }
                }
            }
        }
    }

    /// Answers one have. Returns true if it is common.
    fn have<W: Write>(
        &mut self,
        id: ObjectId,
        sent_ready: &mut bool,
        out: &mut PacketWriter<W>,
    ) -> Result<bool, ServeError> {
        let mode = self.request.multi_ack;
        if self.negotiation.have(&id, self.graph)? {
            let first = self.last.replace(id).is_none();
            let status = match mode {
                MultiAck::Detailed => " common",
                MultiAck::Continue => " continue",
                MultiAck::None if first => "",
                MultiAck::None => return Ok(true),
            };
            client(self.ack(Some(id), status, out))?;
            return Ok(true);
        }
        if mode != MultiAck::None && self.is_ready()? {
            *sent_ready |= mode == MultiAck::Detailed;
            let status = if mode == MultiAck::Detailed { " ready" } else { " continue" };
            client(self.ack(Some(id), status, out))?;
        }
        Ok(false)
    }

    fn is_ready(&mut self) -> Result<bool, ServeError> {
        self.negotiation.is_ready(self.wants, self.graph)
    }

    fn ack<W: Write>(&self, id: Option<ObjectId>, status: &str, out: &mut PacketWriter<W>) -> io::Result<()> {
        id.map_or(Ok(()), |id| out.line(format!("ACK {id}{status}").as_bytes()))
    }
}
