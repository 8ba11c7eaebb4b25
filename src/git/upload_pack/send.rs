//! Sends the pack of a fetch, multiplexed with progress on side-bands if the client supports them.

use std::io::{self, Write};

use super::error::ServeError;
use super::graph::Graph;
use super::reuse::{DeltaSupport, client_fault, write_entries};
use super::selection::{RevisionSpec, select};
use crate::pack::PackStream;
use crate::protocol::{Band, FetchRequest, Progress, Sideband, SidebandWidth};
use crate::view::View;

/// Statistics of a sent pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentPack {
    /// Number of objects in the pack.
    pub objects: u64,
    /// Number of objects that were resolved and recompressed, because their stored delta could not be reused.
    pub recompressed: u64,
    /// Size of the pack in bytes.
    pub bytes: u64,
}

/// Output to the client, with or without side-bands.
enum Channel<'o> {
    Plain(&'o mut dyn Write),
    Bands { bands: Sideband<&'o mut dyn Write>, quiet: bool },
}

impl Write for Channel<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(out) => out.write(data),
            Channel::Bands { bands, .. } => bands.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Channel::Plain(out) => out.flush(),
            Channel::Bands { bands, .. } => bands.flush(),
        }
    }
}

impl Channel<'_> {
    fn progress(&mut self, progress: &mut Progress, count: u64) -> Result<(), ServeError> {
        match self {
            Channel::Plain(_) => Ok(()),
            Channel::Bands { bands, quiet } => progress.update(count, *quiet, bands).map_err(ServeError::Client),
        }
    }

    fn done(&mut self, progress: &mut Progress, count: u64) -> Result<(), ServeError> {
        match self {
            Channel::Plain(_) => Ok(()),
            Channel::Bands { bands, quiet } => progress.done(count, *quiet, bands).map_err(ServeError::Client),
        }
    }

    fn message(&mut self, text: &str) -> Result<(), ServeError> {
        match self {
            Channel::Bands { bands, quiet: false } => {
                bands.message(Band::Progress, text.as_bytes()).map_err(ServeError::Client)
            }
            _ => Ok(()),
        }
    }

    /// Sends an error on the error band. Without side-bands, the client only sees a truncated pack.
    fn send_error(&mut self, error: &ServeError) {
        if let (Channel::Bands { bands, .. }, Some(text)) = (self, error.for_client()) {
            // A failure to send the error is less useful than the error itself.
            let _ = bands.message(Band::Error, format!("{text}\n").as_bytes());
        }
    }
}

/// Selects objects and sends them as one pack. After an error the pack has no trailer; the error has been sent on the
/// error band if there is one.
pub(crate) fn send_pack(
    view: &View,
    graph: &mut Graph<'_>,
    spec: RevisionSpec,
    request: &FetchRequest,
    out: &mut dyn Write,
) -> Result<SentPack, ServeError> {
    let quiet = request.no_progress;
    let banded = request.sideband != SidebandWidth::None;
    let mut channel = match request.sideband {
        SidebandWidth::None => Channel::Plain(&mut *out),
        SidebandWidth::Small => Channel::Bands { bands: Sideband::small(&mut *out), quiet },
        SidebandWidth::Large => Channel::Bands { bands: Sideband::large(&mut *out), quiet },
    };
    let sent = match send(view, graph, spec, request, &mut channel) {
        Ok(sent) => sent,
        Err(error) => {
            channel.send_error(&error);
            return Err(error);
        }
    };
    drop(channel);
    if banded {
        out.write_all(b"0000").map_err(ServeError::Client)?;
    }
    out.flush().map_err(ServeError::Client)?;
    Ok(sent)
}

fn send(
    view: &View,
    graph: &mut Graph<'_>,
    spec: RevisionSpec,
    request: &FetchRequest,
    channel: &mut Channel<'_>,
) -> Result<SentPack, ServeError> {
    let mut enumerating = Progress::new("Enumerating objects", None);
    let mut tick = |count: u64| {
        if count.is_multiple_of(1024) { channel.progress(&mut enumerating, count) } else { Ok(()) }
    };
    let selection = select(view, graph, spec, (&request.filter, request.include_tag), &mut tick)?;
    channel.done(&mut enumerating, selection.count)?;
    let objects = u32::try_from(selection.count).map_err(|_| ServeError::TooManyObjects(selection.count))?;
    let mut sending = Progress::new("Sending objects", Some(selection.count));
    let mut stream = PackStream::new(&mut *channel, graph.packs().format(), objects).map_err(client_fault)?;
    // No thin packs for partial clones: they may lack objects that their haves reach.
    let deltas = DeltaSupport { ofs_delta: request.ofs_delta, thin: request.thin_pack && request.filter.is_empty() };
    let stats = write_entries(graph, &selection, deltas, &mut stream, &mut |count, channel| {
        channel.progress(&mut sending, count.into())
    })?;
    let (built, channel) = stream.finish().map_err(client_fault)?;
    let summary = format!("Total {objects} ({} as stored, {} recompressed)\n", stats.copied, stats.recompressed);
    channel.message(&summary)?;
    Ok(SentPack { objects: selection.count, recompressed: stats.recompressed, bytes: built.bytes })
}
