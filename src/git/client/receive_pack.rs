//! One conversation with `git-receive-pack`: what it has, and pushing to it.

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
use super::upload_pack::{BUFFER_BYTES, say_goodbye};
use crate::protocol::{AGENT, HEX_BYTES, PacketWriter, ProtocolError, Service, Version, hex_of};
use crate::receive_pack::{Command, MAX_COMMANDS};
use crate::refname::check_ref_name;

/// How long a report on a push is waited for, however often the server says that it is alive: checks of the largest
/// packs, and hooks, take less.
const REPORT_TIME: Duration = Duration::from_hours(1);
/// How long the end of the answer is waited for once the report is there: the refs have moved, and what is still running
/// (`post-receive`) is the server's own affair.
const REST_TIME: Duration = Duration::from_mins(1);

/// Writes a pack, or fails with any error.
pub type PackSource<'p> = &'p mut dyn FnMut(&mut dyn Write) -> Result<(), PackSourceError>;

/// One conversation with `git-receive-pack`.
pub struct ReceivePack<'s> {
    server: &'s dyn Server,
    connection: Box<dyn Connection>,
    told: Advertisement,
    /// Whether a push may follow on this connection.
    idle: bool,
}

impl<'s> ReceivePack<'s> {
    /// Connects, in version 0: there is no version 2 of pushing.
    pub fn open(server: &'s dyn Server) -> Result<ReceivePack<'s>, ClientError> {
        let mut connection = server.connect(Service::ReceivePack, Version::V0)?;
        let at = At { server: server.url(), doing: "connecting to git-receive-pack" };
        match Greeting::read(connection.as_mut(), at)? {
            Greeting::Refs(_, told) => Ok(ReceivePack { server, connection, told: *told, idle: true }),
            Greeting::Commands(_) => Err(at.protocol(ProtocolError::unexpected("refs", b"version 2"))),
        }
    }

    /// What the server has, hidden refs excepted. It tells of neither `HEAD` nor symbolic refs.
    pub fn refs(&self) -> &RemoteRefs {
        &self.told.refs
    }

    /// Hands out what [`ReceivePack::refs`] tells of, which is nothing from then on.
    pub fn take_refs(&mut self) -> RemoteRefs {
        let nothing = RemoteRefs::none(self.format());
        std::mem::replace(&mut self.told.refs, nothing)
    }

    /// Where the server is: a URL without credentials.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Objects that it has beside its refs, with all that they need: some of them.
    pub fn extra_haves(&self) -> &[ObjectId] {
        &self.told.extra_haves
    }

    /// Commits whose parents it lacks.
    pub fn shallow(&self) -> &[ObjectId] {
        &self.told.shallow
    }

    /// What it can do: `no-thin`, `ofs-delta`, `delete-refs`, …
    pub fn capabilities(&self) -> &Capabilities {
        &self.told.capabilities
    }

    /// How objects are named there.
    pub fn format(&self) -> Format {
        self.told.refs.format
    }

    /// Pushes: each command is done or refused for itself, if it still finds its old value. `pack` writes the pack that
    /// all of them need ([`empty_pack`](super::empty_pack) if that is none); it is called once, or not at all where
    /// nothing but deletions is left. Commands that the server could not even be asked for are refused here.
    ///
    /// When `pack` fails, the push is cut off, so that the server refuses it as a whole, and the error is
    /// [`ClientError::PackSource`]. After an error that leaves open whether the server has done anything, see
    /// [`ReceivePack::confirm`].
    ///
    /// May be called again; over a connection with state that connects anew.
    pub fn push(&mut self, commands: &[Command], pack: Option<PackSource<'_>>) -> Result<PushReport, ClientError> {
        self.push_as(commands, pack, false)
    }

    /// Pushes; with `atomic`, all commands are done or none, for which the server has to have that capability.
    pub fn push_as(
        &mut self,
        commands: &[Command],
        pack: Option<PackSource<'_>>,
        atomic: bool,
    ) -> Result<PushReport, ClientError> {
        let at = At { server: self.server.url(), doing: "pushing" };
        let mut report = PushReport::of(commands, Ok(()));
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
                return Err(at.unsupported(format!("take {format} objects any more")));
            }
        }
        if atomic && !self.capabilities().has("atomic") {
            return Err(at.unsupported("change several refs in one step"));
        }
        let told = self.push_sent(&sent, pack, atomic, at)?;
        let mut outcomes = told.refs.into_iter();
        for outcome in report.refs.iter_mut().filter(|outcome| outcome.result.is_ok()) {
            if let Some(told) = outcomes.next() {
                *outcome = told;
            }
        }
        Ok(PushReport { unpack: told.unpack, refs: report.refs, messages: told.messages })
    }

    /// Why a command is not sent.
    fn objection(&self, command: &Command) -> Option<String> {
        if let Err(error) = check_ref_name(command.name.as_ref()) {
            return Some(error.to_string());
        }
        if [command.old, command.new].into_iter().flatten().any(|id| id.kind() != self.format()) {
            return Some(format!("the server has {} objects", self.format()));
        }
        match (command.old, command.new) {
            (None, None) => Some("there is nothing to delete".into()),
            (_, None) if !self.capabilities().has("delete-refs") => Some("the server does not delete refs".into()),
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
        let (format, stateless) = (self.format(), self.connection.is_stateless());
        let words = PushWords::of(self.capabilities());
        let mut text = words.text(self.capabilities(), format);
        if atomic {
            text += " atomic";
        }
        let needs_pack = commands.iter().any(|command| command.new.is_some());
        let pack = match pack {
            Some(pack) if needs_pack => Some(pack),
            None if needs_pack => return Err(at.unsupported("take new values without a pack")),
            _ => None,
        };
        self.idle = false;
        let mut request = self.connection.request()?;
        let sent = send(&mut request, commands, format, &text, pack);
        if let Err(SendError::Pack(error)) = sent {
            // Dropped, not finished: what has arrived is no whole push.
            drop(request);
            return Err(ClientError::PackSource { server: at.server.into(), error });
        }
        // A server that gives up before it has read all tells why, here or in its answer.
        request.finish()?;
        let written = match sent {
            Err(SendError::Write(error)) => Err(at.io(error)),
            _ => Ok(()),
        };
        let deadline = self.connection.deadline();
        deadline.set(Some(REPORT_TIME));
        let report = read_answer(self.connection.answer(), &deadline, words, commands, format, at);
        deadline.set(None);
        let report = report.map_err(ClientError::of_push);
        self.idle = stateless;
        match (report, written) {
            (Ok(Some(report)), _) => Ok(report),
            (Err(error), Ok(())) => Err(error),
            // What the server says itself is more than that the connection broke.
            (Err(error @ (ClientError::Remote { .. } | ClientError::Declined { .. })), Err(_)) => Err(error),
            (_, Err(error)) => Err(error),
            (Ok(None), Ok(())) => self.confirm(commands),
        }
    }

    /// Looks which commands have been done, by reading the refs again. For servers that do not report, and for pushes
    /// that have ended in doubt.
    pub fn confirm(&mut self, commands: &[Command]) -> Result<PushReport, ClientError> {
        *self = ReceivePack::open(self.server)?;
        let mut report = PushReport::of(commands, Ok(()));
        for (command, outcome) in commands.iter().zip(&mut report.refs) {
            let value = self.refs().object(command.name.as_ref());
            if value != command.new {
                let shown = |id: Option<ObjectId>| id.map_or("not there".to_owned(), |id| format!("at {id}"));
                outcome.result = Err(format!("it is {}, not {}", shown(value), shown(command.new)));
            }
        }
        Ok(report)
    }
}

/// A server that waits for commands is told that there are none, so that it does not complain.
impl Drop for ReceivePack<'_> {
    fn drop(&mut self) {
        if self.idle && !self.connection.is_stateless() {
            say_goodbye(self.connection.as_mut());
        }
    }
}

/// What the server is asked to do beside the commands.
#[derive(Clone, Copy)]
struct PushWords {
    report: Option<&'static str>,
    bands: bool,
}

impl PushWords {
    fn of(capabilities: &Capabilities) -> PushWords {
        let report = ["report-status-v2", "report-status"].into_iter().find(|word| capabilities.has(word));
        PushWords { report, bands: capabilities.has("side-band-64k") }
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
    /// The server takes no more.
    Write(io::Error),
    /// There is no more to send.
    Pack(PackSourceError),
}

fn send(
    request: &mut dyn Write,
    commands: &[Command],
    format: Format,
    words: &str,
    pack: Option<PackSource<'_>>,
) -> Result<(), SendError> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, Watched { out: request, failed: None });
    let mut result =
        write_commands(&mut PacketWriter::new(&mut out), commands, format, words).map_err(SendError::Write);
    if let (Ok(()), Some(pack)) = (&result, pack) {
        result = pack(&mut out).map_err(SendError::Pack);
    }
    if result.is_ok() {
        result = out.flush().map_err(SendError::Write);
    }
    // Whatever the source of the pack makes of it: the server's failure came first.
    let (watched, _) = out.into_parts();
    watched.failed.map_or(result, |error| Err(SendError::Write(error)))
}

/// `<old> <new> <name>`, the first one with what is asked for beside, and a flush packet.
fn write_commands<W: Write>(
    out: &mut PacketWriter<W>,
    commands: &[Command],
    format: Format,
    words: &str,
) -> io::Result<()> {
    let null = ObjectId::null(format);
    for (row, command) in commands.iter().enumerate() {
        let (mut old, mut new) = ([0; HEX_BYTES], [0; HEX_BYTES]);
        let old = hex_of(command.old.as_ref().unwrap_or(&null), &mut old);
        let new = hex_of(command.new.as_ref().unwrap_or(&null), &mut new);
        let (nul, words) = if row == 0 { (&b"\0"[..], words.as_bytes()) } else { (&b""[..], &b""[..]) };
        out.parts(&[old, b" ", new, b" ", &command.name, nul, words])?;
    }
    out.flush_packet()
}

/// Remembers that writing has failed.
struct Watched<'w> {
    out: &'w mut dyn Write,
    failed: Option<io::Error>,
}

impl Watched<'_> {
    fn watch<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let same = io::Error::new(error.kind(), error.to_string());
            if error.kind() != io::ErrorKind::Interrupted {
                self.failed.get_or_insert(error);
            }
            same
        })
    }
}

impl Write for Watched<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let result = self.out.write(data);
        self.watch(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.flush();
        self.watch(result)
    }
}

/// Reads the report, or `None` where the server gives none.
fn read_answer(
    input: &mut dyn BufRead,
    deadline: &Deadline,
    words: PushWords,
    commands: &[Command],
    format: Format,
    at: At<'_>,
) -> Result<Option<PushReport>, ClientError> {
    if !words.bands {
        return match words.report {
            Some(_) => read_report(&mut Answer::new(input, at), commands, format, at).map(Some),
            None => io::copy(input, &mut io::sink()).map(|_| None).map_err(|error| at.io(error)),
        };
    }
    let mut bands = BandReader::new(input, at);
    let report = match words.report {
        Some(_) => read_report(&mut Answer::new(&mut bands, at), commands, format, at).map(Some),
        None => Ok(None),
    };
    if let Ok(Some(_)) = report {
        deadline.set(Some(REST_TIME));
    }
    let rest = io::copy(&mut bands, &mut io::sink()).map_err(|error| at.io(error));
    let messages = bands.bands.messages.finish(at);
    match (report?, rest) {
        (Some(report), _) => Ok(Some(PushReport { messages, ..report })),
        (None, rest) => rest.map(|_| None),
    }
}
