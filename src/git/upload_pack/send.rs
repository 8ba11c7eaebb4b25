//! Sending a pack, with progress, to clients of all ages.

use std::io::{self, Write};

use super::error::ServeError;
use super::form::{Form, client_fault, write_entries};
use super::graph::Graph;
use super::selection::{Ends, select};
use crate::pack::PackStream;
use crate::protocol::{Band, FetchRequest, Progress, Sideband, SidebandWidth};
use crate::view::View;

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentPack {
    /// How many objects.
    pub objects: u64,
    /// How many of them were resolved and compressed anew.
    pub recompressed: u64,
    /// Bytes of the pack.
    pub bytes: u64,
}

/// The way to the client.
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

    fn say(&mut self, text: &str) -> Result<(), ServeError> {
        match self {
            Channel::Bands { bands, quiet: false } => {
                bands.message(Band::Progress, text.as_bytes()).map_err(ServeError::Client)
            }
            _ => Ok(()),
        }
    }

    /// Tells the client that nothing will follow. Without bands it sees that the pack has no end.
    fn fail(&mut self, error: &ServeError) {
        if let (Channel::Bands { bands, .. }, Some(text)) = (self, error.for_client()) {
            // The first error is the one to report.
            let _ = bands.message(Band::Error, format!("{text}\n").as_bytes());
        }
    }
}

/// Selects objects and sends them as one pack. After an error the client has been told, or cannot be; the
/// pack then has no trailer.
pub(crate) fn send_pack(
    view: &View,
    graph: &mut Graph<'_>,
    ends: Ends,
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
    let sent = match send(view, graph, ends, request, &mut channel) {
        Ok(sent) => sent,
        Err(error) => {
            channel.fail(&error);
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
    ends: Ends,
    request: &FetchRequest,
    channel: &mut Channel<'_>,
) -> Result<SentPack, ServeError> {
    let mut enumerating = Progress::new("Enumerating objects", None);
    let mut tick = |count: u64| match count % 1024 {
        0 => channel.progress(&mut enumerating, count),
        _ => Ok(()),
    };
    let selection = select(view, graph, ends, (&request.filter, request.include_tag), &mut tick)?;
    channel.done(&mut enumerating, selection.count)?;
    let objects = u32::try_from(selection.count).map_err(|_| ServeError::TooManyObjects(selection.count))?;
    let mut counting = Progress::new("Sending objects", Some(selection.count));
    let mut stream = PackStream::new(&mut *channel, graph.packs().format(), objects).map_err(client_fault)?;
    // A partial clone may lack what it would otherwise be known to have.
    let form = Form { ofs_delta: request.ofs_delta, thin: request.thin_pack && request.filter.is_empty() };
    let reuse = write_entries(graph, &selection, form, &mut stream, &mut |count, channel| {
        channel.progress(&mut counting, count.into())
    })?;
    let (built, channel) = stream.finish().map_err(client_fault)?;
    channel.say(&format!("Total {objects} ({} as stored, {} recompressed)\n", reuse.copied, reuse.made))?;
    Ok(SentPack { objects: selection.count, recompressed: reuse.made, bytes: built.bytes })
}
