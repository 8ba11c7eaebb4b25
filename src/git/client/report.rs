//! What a server says became of a push (gitprotocol-pack, "Report Status").

use std::collections::HashMap;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::hash::Kind as Format;

use super::answer::{Answer, Line};
use super::error::{At, ClientError, one_line};
use crate::protocol::{ProtocolError, parse_id};
use crate::receive_pack::{Command, MAX_COMMANDS};

/// Most bytes of reasons and effects that are kept of a whole report.
const MAX_KEPT_BYTES: usize = 16 << 20;
/// What is said of a refusal for which there is no room.
const NO_ROOM: &str = "the server refuses it, and says more than is kept";
/// What is said of a command that the server says nothing about.
const UNTOLD: &str = "the server does not say what became of it";

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushReport {
    /// What is wrong with the pack as a whole, if anything is.
    pub unpack: Result<(), String>,
    /// One for each command, in their order.
    pub refs: Vec<RefOutcome>,
    /// The server's words for people, line by line.
    pub messages: Vec<String>,
}

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefOutcome {
    /// The ref that the command named.
    pub name: BString,
    /// Why it was refused, if it was.
    pub result: Result<(), String>,
    /// What the server has done instead of what was asked, where it says so (`report-status-v2`).
    pub effects: Vec<RefEffect>,
}

/// What a server has done instead of a command. What is not told is as the command has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefEffect {
    /// The ref that was changed.
    pub name: Option<BString>,
    /// What it was before; the null id if it was not there.
    pub old: Option<ObjectId>,
    /// What it is now; the null id if it is gone.
    pub new: Option<ObjectId>,
    /// Whether what it was before is no longer reached by it.
    pub forced: bool,
}

impl PushReport {
    /// Whether every command was done.
    pub fn is_ok(&self) -> bool {
        self.unpack.is_ok() && self.refs.iter().all(|outcome| outcome.result.is_ok())
    }

    /// A report that says one thing of all commands, until more is known.
    pub(super) fn of(commands: &[Command], result: Result<(), String>) -> Self {
        let outcome =
            |command: &Command| RefOutcome { name: command.name.clone(), result: result.clone(), effects: Vec::new() };
        PushReport { unpack: Ok(()), refs: commands.iter().map(outcome).collect(), messages: Vec::new() }
    }
}

/// Reads a report of either version on `commands`, up to its flush packet.
pub(super) fn read_report(
    answer: &mut Answer<'_>,
    commands: &[Command],
    format: Format,
    at: At<'_>,
) -> Result<PushReport, ClientError> {
    let unpack = match answer.text("the report on the push")? {
        b"unpack ok" => Ok(()),
        line => match line.strip_prefix(b"unpack ") {
            Some(reason) => Err(one_line(reason)),
            None => return Err(at.protocol(ProtocolError::unexpected("unpack ok", line))),
        },
    };
    let mut lines = ReportLines::new(commands, format);
    for _ in 0..8 * MAX_COMMANDS {
        match answer.line("the end of the report on the push")? {
            Line::Text(line) => lines.add(line).map_err(|error| at.protocol(error))?,
            Line::Flush => return Ok(PushReport { unpack, ..lines.report }),
            Line::Delimiter => return Err(at.protocol(ProtocolError::unexpected("ok or ng", b"delimiter"))),
        }
    }
    Err(at.protocol(ProtocolError::TooMany { what: "lines in a report", limit: 8 * MAX_COMMANDS }))
}

struct ReportLines<'c> {
    report: PushReport,
    rows: HashMap<&'c BStr, usize>,
    format: Format,
    /// The command that options refer to, and whether it has an effect already that they are parts of.
    current: Option<usize>,
    begun: bool,
    /// Bytes that may still be kept.
    room: usize,
}

impl<'c> ReportLines<'c> {
    fn new(commands: &'c [Command], format: Format) -> Self {
        let rows = commands.iter().enumerate().map(|(row, command)| (command.name.as_bstr(), row)).collect();
        let report = PushReport::of(commands, Err(UNTOLD.into()));
        ReportLines { report, rows, format, current: None, begun: false, room: MAX_KEPT_BYTES }
    }

    /// Whether something of this size may be kept.
    fn keeps(&mut self, bytes: usize) -> bool {
        let left = self.room.checked_sub(bytes);
        self.room = left.unwrap_or(self.room);
        left.is_some()
    }

    fn add(&mut self, line: &[u8]) -> Result<(), ProtocolError> {
        match line.split_once_str(" ") {
            Some((b"ok", name)) => self.outcome(name, Ok(())),
            Some((b"ng", rest)) => {
                let (name, reason) = rest.split_once_str(" ").unwrap_or((rest, b"failed"));
                let reason = one_line(reason);
                let kept = self.keeps(reason.len());
                self.outcome(name, Err(if kept { reason } else { NO_ROOM.into() }));
            }
            Some((b"option", option)) => self.option(option)?,
            _ => return Err(ProtocolError::unexpected("ok, ng or option", line)),
        }
        Ok(())
    }

    /// A server may speak of one command several times: each time with options of its own.
    fn outcome(&mut self, name: &[u8], result: Result<(), String>) {
        self.begun = false;
        self.current = self.rows.get(name.as_bstr()).copied();
        if let Some(outcome) = self.current.and_then(|row| self.report.refs.get_mut(row))
            && (outcome.result.is_ok() || outcome.result == Err(UNTOLD.into()))
        {
            outcome.result = result;
        }
    }

    fn option(&mut self, option: &[u8]) -> Result<(), ProtocolError> {
        let (word, value) = option.split_once_str(" ").unwrap_or((option, b""));
        let Some(row) = self.current else { return Ok(()) };
        // Others are options of times to come.
        let bytes = match word {
            b"refname" => value.len(),
            b"old-oid" | b"new-oid" | b"forced-update" => 0,
            _ => return Ok(()),
        };
        let bytes = if self.begun { bytes } else { bytes + size_of::<RefEffect>() };
        if !self.keeps(bytes) {
            // Nothing more is kept of it: half an effect would be another one.
            self.current = None;
        }
        let Some(outcome) = self.current.and_then(|_| self.report.refs.get_mut(row)) else { return Ok(()) };
        if !std::mem::replace(&mut self.begun, true) {
            outcome.effects.push(RefEffect::default());
        }
        let Some(effect) = outcome.effects.last_mut() else { return Ok(()) };
        match word {
            b"refname" => effect.name = Some(value.into()),
            b"old-oid" => effect.old = Some(parse_id(value, self.format)?),
            b"new-oid" => effect.new = Some(parse_id(value, self.format)?),
            _ => effect.forced = true,
        }
        Ok(())
    }
}
