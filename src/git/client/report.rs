//! Status report of a push (gitprotocol-pack, "Report Status").

use std::collections::HashMap;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::hash::Kind as Format;

use super::answer::{Answer, Line};
use super::error::{At, ClientError, one_line};
use crate::protocol::{ProtocolError, parse_id};
use crate::receive_pack::{Command, MAX_COMMANDS};

/// Most bytes of reasons and effects kept of one report.
const MAX_KEPT_BYTES: usize = 16 << 20;
/// Result of a refusal whose reason exceeds [`MAX_KEPT_BYTES`].
const REASON_DROPPED: &str = "the server refused the update; its report is too long to keep the reason";
/// Result of a command that the report does not mention.
const UNREPORTED: &str = "the server's report does not mention this ref";

/// Outcome of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushReport {
    /// Outcome of the pack as a whole; the error is the server's reason.
    pub unpack: Result<(), String>,
    /// One outcome per command, in the order of the commands.
    pub refs: Vec<RefOutcome>,
    /// Progress text of the server, line by line.
    pub messages: Vec<String>,
}

/// Outcome of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefOutcome {
    /// Ref of the command.
    pub name: BString,
    /// Result of the command; the error is the reason of the refusal.
    pub result: Result<(), String>,
    /// Updates that the server made in place of the command (`report-status-v2`).
    pub effects: Vec<RefEffect>,
}

/// Update that a server made in place of a command. Absent fields are as in the command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefEffect {
    /// Updated ref.
    pub name: Option<BString>,
    /// Old object; the null id if the ref was created.
    pub old: Option<ObjectId>,
    /// New object; the null id if the ref was deleted.
    pub new: Option<ObjectId>,
    /// True if the update was not a fast-forward.
    pub forced: bool,
}

impl PushReport {
    /// Returns true if the pack was accepted and every command succeeded.
    pub fn is_ok(&self) -> bool {
        self.unpack.is_ok() && self.refs.iter().all(|outcome| outcome.result.is_ok())
    }

    /// Report with the same result for all commands.
    pub(super) fn uniform(commands: &[Command], result: Result<(), String>) -> Self {
        let outcome =
            |command: &Command| RefOutcome { name: command.name.clone(), result: result.clone(), effects: Vec::new() };
        PushReport { unpack: Ok(()), refs: commands.iter().map(outcome).collect(), messages: Vec::new() }
    }
}

/// Reads a report on `commands`, `report-status` or `report-status-v2`, up to its flush packet.
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
    /// Command that `option` lines refer to.
    current: Option<usize>,
    /// True if an effect of the current command has begun, to which further options belong.
    begun: bool,
    /// Bytes that may still be kept.
    room: usize,
}

impl<'c> ReportLines<'c> {
    fn new(commands: &'c [Command], format: Format) -> Self {
        let rows = commands.iter().enumerate().map(|(row, command)| (command.name.as_bstr(), row)).collect();
        let report = PushReport::uniform(commands, Err(UNREPORTED.into()));
        ReportLines { report, rows, format, current: None, begun: false, room: MAX_KEPT_BYTES }
    }

    /// Reserves room for `bytes`. Returns false if they exceed the limit.
    fn reserve(&mut self, bytes: usize) -> bool {
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
                let kept = self.reserve(reason.len());
                self.outcome(name, Err(if kept { reason } else { REASON_DROPPED.into() }));
            }
            Some((b"option", option)) => self.option(option)?,
            _ => return Err(ProtocolError::unexpected("ok, ng or option", line)),
        }
        Ok(())
    }

    /// Records the result of a command. A server may report one command several times, each time with options.
    fn outcome(&mut self, name: &[u8], result: Result<(), String>) {
        self.begun = false;
        self.current = self.rows.get(name.as_bstr()).copied();
        if let Some(outcome) = self.current.and_then(|row| self.report.refs.get_mut(row))
            && (outcome.result.is_ok() || outcome.result == Err(UNREPORTED.into()))
        {
            outcome.result = result;
        }
    }

    fn option(&mut self, option: &[u8]) -> Result<(), ProtocolError> {
        let (word, value) = option.split_once_str(" ").unwrap_or((option, b""));
        let Some(row) = self.current else { return Ok(()) };
        // Unknown options may come from future versions of the protocol.
        let bytes = match word {
            b"refname" => value.len(),
            b"old-oid" | b"new-oid" | b"forced-update" => 0,
            _ => return Ok(()),
        };
        let bytes = if self.begun { bytes } else { bytes + size_of::<RefEffect>() };
        if !self.reserve(bytes) {
            // The rest is dropped: a partial effect would describe a different update.
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
