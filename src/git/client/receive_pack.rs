//! Connection to `git-receive-pack`: advertised refs and push.

use std::io::{self, BufRead, BufWriter, Write};
use std::time::Duration;

use gix::ObjectId;
use gix::hash::Kind as Format;

use super::answer::Answer;
use super::bands::BandReader;
use super::capabilities::Capabilities;
use super::error::{At, ClientError, PackSourceError};
use super::greeting::Greeting;
use super::refs::{Advertisement, RemoteRefs};
use super::report::{PushReport, read_report};
use super::server::{Connection, Deadline, Server};
use super::upload_pack::{BUFFER_BYTES, send_flush};
use crate::protocol::{AGENT, HEX_BYTES, PacketWriter, ProtocolError, Service, Version, hex_of};
use crate::receive_pack::{Command, MAX_COMMANDS};
use crate::refname::check_ref_name;

/// Timeout for the report on a push, keep-alive packets notwithstanding. Checks of the largest packs and hooks take
/// less.
const REPORT_TIMEOUT: Duration = Duration::from_hours(1);
/// Timeout for the end of the answer after the report: the refs have moved, only `post-receive` may still run.
const REST_TIMEOUT: Duration = Duration::from_mins(1);

/// Closure that writes a pack, or fails with any error.
pub type PackSource<'p> = &'p mut dyn FnMut(&mut dyn Write) -> Result<(), PackSourceError>;

/// Connection to `git-receive-pack`.
pub struct ReceivePack<'s> {
    server: &'s dyn Server,
    connection: Box<dyn Connection>,
    advertisement: Advertisement,
    /// True if a push may follow on this connection.
    idle: bool,
}

impl<'s> ReceivePack<'s> {
    /// Connects in version 0: push has no version 2.
    pub fn open(server: &'s dyn Server) -> Result<ReceivePack<'s>, ClientError> {
        let mut connection = server.connect(Service::ReceivePack, Version::V0)?;
        let at = At { server: server.url(), doing: "connecting to git-receive-pack" };
        match Greeting::read(connection.as_mut(), at)? {
            Greeting::Refs(_, advertisement) => {
                Ok(ReceivePack { server, connection, advertisement: *advertisement, idle: true })
            }
            Greeting::Commands(_) => Err(at.protocol(ProtocolError::unexpected("refs", b"version 2"))),
        }
    }

    /// Advertised refs. `git-receive-pack` advertises neither hidden refs nor `HEAD` nor targets of symbolic refs.
    pub fn refs(&self) -> &RemoteRefs {
        &self.advertisement.refs
    }

    /// Takes the advertised refs; [`ReceivePack::refs`] is empty afterwards.
    pub fn take_refs(&mut self) -> RemoteRefs {
        let nothing = RemoteRefs::none(self.format());
        std::mem::replace(&mut self.advertisement.refs, nothing)
    }

    /// URL of the server without credentials.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Advertised `.have` objects: held by the server with everything they reach, but not named by its refs.
    pub fn extra_haves(&self) -> &[ObjectId] {
        &self.advertisement.extra_haves
    }

    /// Shallow commits of the server: their parents are missing.
    pub fn shallow(&self) -> &[ObjectId] {
        &self.advertisement.shallow
    }

    /// Capabilities of the server: `no-thin`, `ofs-delta`, `delete-refs`, …
    pub fn capabilities(&self) -> &Capabilities {
        &self.advertisement.capabilities
    }

    /// Object format of the server.
    pub fn format(&self) -> Format {
        self.advertisement.refs.format
    }

    /// Pushes. Each command succeeds or is refused on its own, and succeeds only if its old value still matches.
    ///
    /// `pack` writes the pack that the commands need ([`empty_pack`](super::empty_pack) if they need no objects). It is
    /// called once, or never if only deletions remain. Commands that the protocol or the server's capabilities rule out
    /// are refused here, without a request.
    ///
    /// May be called again; on a stateful connection that reconnects.
    ///
    /// # Errors
    /// [`ClientError::PackSource`] if `pack` fails: the push is cut off, so that the server refuses it as a whole.
    /// After an error that leaves the outcome open, [`ReceivePack::confirm`] reads it.
    pub fn push(&mut self, commands: &[Command], pack: Option<PackSource<'_>>) -> Result<PushReport, ClientError> {
        self.push_as(commands, pack, false)
    }

    /// Pushes; with `atomic`, all commands succeed or none. The server must advertise `atomic`.
    pub fn push_as(
        &mut self,
        commands: &[Command],
        pack: Option<PackSource<'_>>,
        atomic: bool,
    ) -> Result<PushReport, ClientError> {
        let at = At { server: self.server.url(), doing: "pushing" };
        let mut report = PushReport::uniform(commands, Ok(()));
        let mut sent = Vec::with_capacity(commands.len());
        for (command, outcome) in commands.iter().zip(&mut report.refs) {
            match self.objection(command) {
                Some(reason) => outcome.result = Err(reason),
                None => sent.push(command.clone()),
            }
        }
        if sent.len() > MAX_COMMANDS {
            return Err(at.protocol(ProtocolError::TooMany { what: "commands", limit: MAX_COMMANDS }));
        }
        if atomic && sent.len() < commands.len() {
            for outcome in report.refs.iter_mut().filter(|outcome| outcome.result.is_ok()) {
                outcome.result = Err("atomic push failure".into());
            }
            return Ok(report);
        }
        if sent.is_empty() {
            return Ok(report);
        }
        if !self.idle {
            let format = self.format();
            *self = ReceivePack::open(self.server)?;
            if self.format() != format {
                let now = self.format();
                return Err(at.unsupported(format!("take {format} objects: its object format changed to {now}")));
            }
        }
        if atomic && !self.capabilities().has("atomic") {
            return Err(at.unsupported("update several refs atomically: it does not advertise `atomic`"));
        }
        let answer = self.push_sent(&sent, pack, atomic, at)?;
        debug_assert_eq!(answer.refs.len(), sent.len(), "a report has one outcome per command sent");
        let mut outcomes = answer.refs.into_iter();
        for outcome in report.refs.iter_mut().filter(|outcome| outcome.result.is_ok()) {
            if let Some(answered) = outcomes.next() {
                *outcome = answered;
            }
        }
        Ok(PushReport { unpack: answer.unpack, refs: report.refs, messages: answer.messages })
    }

    /// Reason not to send a command; `None` if it may be sent.
    fn objection(&self, command: &Command) -> Option<String> {
        if let Err(error) = check_ref_name(command.name.as_ref()) {
            return Some(error.to_string());
        }
        if [command.old, command.new].into_iter().flatten().any(|id| id.kind() != self.format()) {
            return Some(format!("the object format of the server is {}", self.format()));
        }
        match (command.old, command.new) {
            (None, None) => Some("the ref to delete does not exist".into()),
            (_, None) if !self.capabilities().has("delete-refs") => {
                Some("the server does not delete refs: it does not advertise `delete-refs`".into())
            }
            _ => None,
        }
    }

    fn push_sent(
        &mut self,
        commands: &[Command],
        pack: Option<PackSource<'_>>,
        atomic: bool,
        at: At<'_>,
    ) -> Result<PushReport, ClientError> {
        let format = self.format();
        let stateless = self.connection.is_stateless();
        let selected = PushCapabilities::select(self.capabilities());
        let mut capabilities = selected.text(self.capabilities(), format);
        if atomic {
            capabilities += " atomic";
        }
        let needs_pack = commands.iter().any(|command| command.new.is_some());
        let pack = match pack {
            Some(pack) if needs_pack => Some(pack),
            None if needs_pack => return Err(at.unsupported("create or update refs without a pack")),
            _ => None,
        };
        self.idle = false;
        let mut request = self.connection.request()?;
        let sent = send(&mut request, commands, format, &capabilities, pack);
        if let Err(SendError::Pack(error)) = sent {
            // Dropped without `finish`: the server sees a truncated push.
            drop(request);
            return Err(ClientError::PackSource { server: at.server.into(), error });
        }
        // A server that aborts before it has read everything gives the reason here or in its answer.
        request.finish()?;
        let written = match sent {
            Err(SendError::Write(error)) => Err(at.io(error)),
            _ => Ok(()),
        };
        let deadline = self.connection.deadline();
        deadline.set(Some(REPORT_TIMEOUT));
        let report = read_answer(self.connection.answer(), &deadline, selected, commands, format, at);
        deadline.set(None);
        let report = report.map_err(ClientError::after_push);
        self.idle = stateless;
        match (report, written) {
            (Ok(Some(report)), _) => Ok(report),
            (Err(error), Ok(())) => Err(error),
            // The server's own message says more than the broken connection.
            (Err(error @ (ClientError::Remote { .. } | ClientError::Declined { .. })), Err(_)) => Err(error),
            (_, Err(error)) => Err(error),
            (Ok(None), Ok(())) => self.confirm(commands),
        }
    }

    /// Reads the refs again and compares them with the commands. For servers without `report-status`, and for pushes
    /// with an open outcome.
    pub fn confirm(&mut self, commands: &[Command]) -> Result<PushReport, ClientError> {
        *self = ReceivePack::open(self.server)?;
        let mut report = PushReport::uniform(commands, Ok(()));
        for (command, outcome) in commands.iter().zip(&mut report.refs) {
            let value = self.refs().object(command.name.as_ref());
            if value != command.new {
                let shown = |id: Option<ObjectId>| id.map_or("absent".to_owned(), |id| format!("at {id}"));
                outcome.result = Err(format!("the ref is {}, expected {}", shown(value), shown(command.new)));
            }
        }
        Ok(report)
    }
}

/// Ends the conversation with a flush packet, so that a server that waits for commands logs no error.
impl Drop for ReceivePack<'_> {
    fn drop(&mut self) {
        if self.idle && !self.connection.is_stateless() {
            send_flush(self.connection.as_mut());
        }
    }
}

/// Capabilities that the client selects for the answer to a push.
#[derive(Clone, Copy)]
struct PushCapabilities {
    report: Option<&'static str>,
    bands: bool,
}

impl PushCapabilities {
    fn select(capabilities: &Capabilities) -> PushCapabilities {
        let report = ["report-status-v2", "report-status"].into_iter().find(|name| capabilities.has(name));
        PushCapabilities { report, bands: capabilities.has("side-band-64k") }
    }

    fn text(self, capabilities: &Capabilities, format: Format) -> String {
        let mut words: Vec<String> = self.report.into_iter().map(String::from).collect();
        words.extend(self.bands.then(|| "side-band-64k".into()));
        words.extend(capabilities.has("quiet").then(|| "quiet".into()));
        words.extend(capabilities.has("object-format").then(|| format!("object-format={format}")));
        words.extend(capabilities.has("agent").then(|| AGENT.into()));
        words.join(" ")
    }
}

enum SendError {
    /// The connection fails.
    Write(io::Error),
    /// The source of the pack fails.
    Pack(PackSourceError),
}

fn send(
    request: &mut dyn Write,
    commands: &[Command],
    format: Format,
    capabilities: &str,
    pack: Option<PackSource<'_>>,
) -> Result<(), SendError> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, ErrorRecorder { out: request, failed: None });
    let mut result =
        write_commands(&mut PacketWriter::new(&mut out), commands, format, capabilities).map_err(SendError::Write);
    if let (Ok(()), Some(pack)) = (&result, pack) {
        result = pack(&mut out).map_err(SendError::Pack);
    }
    if result.is_ok() {
        result = out.flush().map_err(SendError::Write);
    }
    // A failed write to the server takes precedence: the pack's source may have failed because of it.
    let (recorder, _) = out.into_parts();
    recorder.failed.map_or(result, |error| Err(SendError::Write(error)))
}

/// Writes `<old> <new> <name>` lines, the first one with the capabilities, and a flush packet.
fn write_commands<W: Write>(
    out: &mut PacketWriter<W>,
    commands: &[Command],
    format: Format,
    capabilities: &str,
) -> io::Result<()> {
    let null = ObjectId::null(format);
    for (row, command) in commands.iter().enumerate() {
        let mut old = [0; HEX_BYTES];
        let mut new = [0; HEX_BYTES];
        let old = hex_of(command.old.as_ref().unwrap_or(&null), &mut old);
        let new = hex_of(command.new.as_ref().unwrap_or(&null), &mut new);
        let (nul, capabilities) = if row == 0 { (&b"\0"[..], capabilities.as_bytes()) } else { (&b""[..], &b""[..]) };
        out.parts(&[old, b" ", new, b" ", &command.name, nul, capabilities])?;
    }
    out.flush_packet()
}

/// Writer that records its first error.
struct ErrorRecorder<'w> {
    out: &'w mut dyn Write,
    failed: Option<io::Error>,
}

impl ErrorRecorder<'_> {
    fn record<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let same = io::Error::new(error.kind(), error.to_string());
            if error.kind() != io::ErrorKind::Interrupted {
                self.failed.get_or_insert(error);
            }
            same
        })
    }
}

impl Write for ErrorRecorder<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let result = self.out.write(data);
        self.record(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.flush();
        self.record(result)
    }
}

/// Reads the report; `None` if the server supports none.
fn read_answer(
    input: &mut dyn BufRead,
    deadline: &Deadline,
    selected: PushCapabilities,
    commands: &[Command],
    format: Format,
    at: At<'_>,
) -> Result<Option<PushReport>, ClientError> {
    if !selected.bands {
        return match selected.report {
            Some(_) => read_report(&mut Answer::new(input, at), commands, format, at).map(Some),
            None => io::copy(input, &mut io::sink()).map(|_| None).map_err(|error| at.io(error)),
        };
    }
    let mut bands = BandReader::new(input, at);
    let report = match selected.report {
        Some(_) => read_report(&mut Answer::new(&mut bands, at), commands, format, at).map(Some),
        None => Ok(None),
    };
    if let Ok(Some(_)) = report {
        deadline.set(Some(REST_TIMEOUT));
    }
    let rest = io::copy(&mut bands, &mut io::sink()).map_err(|error| at.io(error));
    let messages = bands.bands.messages.finish(at);
    match (report?, rest) {
        (Some(report), _) => Ok(Some(PushReport { messages, ..report })),
        (None, rest) => rest.map(|_| None),
    }
}
