//! [`PushRequest`]: commands, capabilities and options that precede the pack of a push.

use std::io::BufRead;
use std::sync::Arc;

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::hash::Kind as Format;

use crate::memory::{self, Busy, Reservation};
use crate::protocol::{Packet, PacketReader, ProtocolError};

/// Most commands in one push.
pub const MAX_COMMANDS: usize = 1 << 20;
/// Most bytes in the ref names of all commands.
const MAX_NAMES_BYTES: usize = 64 << 20;
/// Memory overhead per line in bytes, in addition to its length.
const LINE_OVERHEAD_BYTES: usize = 64;
/// Most push options in one push.
pub const MAX_PUSH_OPTIONS: usize = 1000;
/// Most bytes in all push options.
const MAX_PUSH_OPTIONS_BYTES: usize = 1 << 20;
/// Most `shallow` lines in one push.
pub const MAX_SHALLOW_LINES: usize = 1 << 20;

/// Capabilities of receive-pack, advertised with the refs; the advertisement adds `object-format` and `agent`.
pub const CAPABILITIES: &str =
    "report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta push-options";

/// Update of one ref that a client requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Name of the ref as the client sent it, which need not be valid.
    pub name: BString,
    /// Expected current value; `None` if the ref must not exist.
    pub old: Option<ObjectId>,
    /// New value; `None` to delete the ref.
    pub new: Option<ObjectId>,
}

/// Capabilities that a client selects for a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushCapabilities {
    /// True to send a status report.
    pub report_status: bool,
    /// True to send a status report that may contain option lines.
    pub report_status_v2: bool,
    /// True to send the report on a side-band.
    pub side_band_64k: bool,
    /// True to send no progress messages.
    pub quiet: bool,
    /// True to apply all commands or none.
    pub atomic: bool,
    /// True if push options follow the commands.
    pub push_options: bool,
    /// User agent of the client.
    pub agent: Option<BString>,
}

/// Everything that precedes the pack of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushRequest {
    /// Commands in the order of the request.
    pub commands: Vec<Command>,
    /// Capabilities that the client selected.
    pub capabilities: PushCapabilities,
    /// Push options, for hooks.
    pub options: Vec<BString>,
    /// Shallow boundary of the client. Informational: every object that a push needs must be in its pack or held.
    pub shallow: Vec<ObjectId>,
    /// Reservation for the request in the memory budget of the process.
    _memory: Memory,
}

/// Memory reservation of a request, shared by its clones.
#[derive(Clone, Debug, Default)]
struct Memory {
    _held: Option<Arc<Reservation<'static>>>,
}

/// Always equal: a reservation does not take part in comparisons of requests.
impl PartialEq for Memory {
    fn eq(&self, _: &Memory) -> bool {
        true
    }
}

impl Eq for Memory {}

/// Reserves memory for the lines of a request while they are read.
struct Meter {
    /// Reservation in the budget of the process; `None` if the budget is exhausted.
    memory: Option<Reservation<'static>>,
    /// Bytes that have been read but not reserved, fewer than [`memory::UNMETERED_BYTES`].
    uncounted: u64,
}

impl Meter {
    fn count(&mut self, line: &[u8]) -> Result<(), Busy> {
        self.uncounted += (line.len() + LINE_OVERHEAD_BYTES) as u64;
        if self.uncounted >= memory::UNMETERED_BYTES {
            if !self.memory.as_mut().is_some_and(|held| held.try_grow(self.uncounted)) {
                return Err(Busy { bytes: self.uncounted });
            }
            self.uncounted = 0;
        }
        Ok(())
    }
}

impl PushRequest {
    /// Creates the request of a push within the process, whose commands apply all or none.
    pub fn atomic(commands: Vec<Command>) -> Self {
        PushRequest {
            commands,
            capabilities: PushCapabilities { atomic: true, ..PushCapabilities::default() },
            options: Vec::new(),
            shallow: Vec::new(),
            _memory: Memory::default(),
        }
    }

    /// Reads a request up to the pack; `None` if the client has nothing to push.
    pub fn read<R: BufRead>(input: &mut PacketReader<R>, format: Format) -> Result<Option<Self>, ProtocolError> {
        let mut request = PushRequest {
            commands: Vec::new(),
            capabilities: PushCapabilities::default(),
            options: Vec::new(),
            shallow: Vec::new(),
            _memory: Memory::default(),
        };
        let mut names_bytes = 0;
        let mut meter = Meter { memory: memory::budget().try_take(0), uncounted: 0 };
        let mut first = true;
        loop {
            let packet = match input.read()? {
                None if first => return Ok(None),
                None => return Err(ProtocolError::Truncated("the end of the commands")),
                Some(packet) => packet,
            };
            let line = match packet {
                Packet::Flush => break,
                Packet::Data(data) => {
                    meter.count(data)?;
                    packet.line().unwrap_or_default()
                }
                Packet::Delimiter | Packet::ResponseEnd => return Err(ProtocolError::unexpected("a command", b"")),
            };
            first = false;
            request.add_line(line, format, &mut names_bytes)?;
        }
        request._memory = Memory { _held: meter.memory.map(Arc::new) };
        if request.commands.is_empty() {
            return Ok(None);
        }
        if request.capabilities.push_options {
            request.read_options(input)?;
        }
        Ok(Some(request))
    }

    /// Adds a shallow commit or a command. `names_bytes` counts the ref names of all commands so far.
    fn add_line(&mut self, line: &[u8], format: Format, names_bytes: &mut usize) -> Result<(), ProtocolError> {
        if let Some(id) = line.strip_prefix(b"shallow ") {
            let id = id.split(|byte| *byte == 0).next().unwrap_or_default();
            bounded(self.shallow.len(), MAX_SHALLOW_LINES, "shallow commits")?;
            self.shallow.push(parse_id(id, format).ok_or_else(|| unexpected(line))?);
            return Ok(());
        }
        if line.starts_with(b"push-cert") {
            let expected = "commands without a push certificate (signed pushes are not supported)";
            return Err(ProtocolError::unexpected(expected, line));
        }
        bounded(self.commands.len(), MAX_COMMANDS, "commands")?;
        let (line, capabilities) = match line.find_byte(0) {
            Some(end) if self.commands.is_empty() => (&line[..end], Some(&line[end + 1..])),
            Some(end) => (&line[..end], None),
            None => (line, None),
        };
        let command = parse_command(line, format)?;
        *names_bytes += command.name.len();
        bounded(*names_bytes, MAX_NAMES_BYTES, "bytes of ref names")?;
        self.commands.push(command);
        if let Some(capabilities) = capabilities {
            self.capabilities = parse_capabilities(capabilities, format)?;
        }
        Ok(())
    }

    fn read_options<R: BufRead>(&mut self, input: &mut PacketReader<R>) -> Result<(), ProtocolError> {
        let mut bytes = 0;
        loop {
            let packet = input.read_required("the end of the push options")?;
            let Some(line) = packet.line() else {
                return match packet {
                    Packet::Flush => Ok(()),
                    _ => Err(ProtocolError::unexpected("a push option", b"")),
                };
            };
            bytes += line.len();
            bounded(self.options.len(), MAX_PUSH_OPTIONS, "push options")?;
            bounded(bytes, MAX_PUSH_OPTIONS_BYTES, "bytes of push options")?;
            self.options.push(line.into());
        }
    }

    /// Returns true if a pack follows: always, unless all commands delete refs.
    pub fn has_pack(&self) -> bool {
        self.commands.iter().any(|command| command.new.is_some())
    }
}

fn bounded(count: usize, limit: usize, what: &'static str) -> Result<(), ProtocolError> {
    if count >= limit { Err(ProtocolError::TooMany { what, limit }) } else { Ok(()) }
}

fn unexpected(line: &[u8]) -> ProtocolError {
    ProtocolError::unexpected("<old id> <new id> <ref>", line)
}

/// Parses `<old id> <new id> <name>`.
fn parse_command(line: &[u8], format: Format) -> Result<Command, ProtocolError> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let mut id = || fields.next().and_then(|id| parse_id(id, format)).ok_or_else(|| unexpected(line));
    let old = id()?;
    let new = id()?;
    let name = fields.next().filter(|name| !name.is_empty()).ok_or_else(|| unexpected(line))?;
    let present = |id: ObjectId| Some(id).filter(|id| !id.is_null());
    Ok(Command { name: name.into(), old: present(old), new: present(new) })
}

fn parse_id(hex: &[u8], format: Format) -> Option<ObjectId> {
    if hex.len() != format.len_in_hex() {
        return None;
    }
    ObjectId::from_hex(hex).ok()
}

fn parse_capabilities(words: &[u8], format: Format) -> Result<PushCapabilities, ProtocolError> {
    let mut found = PushCapabilities::default();
    let mut client_format: BString = Format::Sha1.to_string().into();
    for word in words.split(|byte| *byte == b' ') {
        match word.split_once_str("=").unwrap_or((word, b"")) {
            (b"report-status", _) => found.report_status = true,
            (b"report-status-v2", _) => found.report_status_v2 = true,
            (b"side-band-64k", _) => found.side_band_64k = true,
            (b"quiet", _) => found.quiet = true,
            (b"atomic", _) => found.atomic = true,
            (b"push-options", _) => found.push_options = true,
            (b"agent", name) => found.agent = Some(name.into()),
            (b"object-format", name) => client_format = name.into(),
            _ => {}
        }
    }
    if client_format != format.to_string() {
        return Err(ProtocolError::ObjectFormat { server: format, client: client_format });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PacketWriter;
    use proptest::prelude::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const NULL: &str = "0000000000000000000000000000000000000000";

    /// Packet lines with this data; `None` is a flush packet.
    fn packets(lines: &[Option<&[u8]>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = PacketWriter::new(&mut bytes);
        for line in lines {
            match line {
                Some(line) => out.data(line).unwrap(),
                None => out.flush_packet().unwrap(),
            }
        }
        bytes
    }

    fn read(lines: &[Option<&[u8]>]) -> Result<Option<PushRequest>, String> {
        let bytes = packets(lines);
        let mut input = PacketReader::new(&bytes[..]);
        let request = PushRequest::read(&mut input, Format::Sha1).map_err(|e| e.to_string());
        assert!(input.at_end().unwrap() || request.is_err());
        request
    }

    #[test]
    fn a_whole_request() {
        let first = format!("{NULL} {A} refs/heads/a b\0 report-status-v2 atomic push-options agent=git/2\n");
        let second = format!("{A} {NULL} refs/heads/c");
        let shallow = format!("shallow {A}\n");
        let lines =
            [Some(shallow.as_bytes()), Some(first.as_bytes()), Some(second.as_bytes()), None, Some(b"x=y"), None];
        let request = read(&lines).unwrap().unwrap();
        let id = ObjectId::from_hex(A.as_bytes()).unwrap();
        assert_eq!(
            request.commands,
            [
                Command { name: "refs/heads/a b".into(), old: None, new: Some(id) },
                Command { name: "refs/heads/c".into(), old: Some(id), new: None },
            ]
        );
        assert!(request.capabilities.atomic && request.capabilities.report_status_v2 && request.has_pack());
        assert_eq!((request.options, request.shallow), (vec!["x=y".into()], vec![id]));
    }

    #[test]
    fn nothing_to_push_and_nonsense() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[None]), Ok(None));
        for line in ["", "x", A, &format!("{A} {A}"), &format!("{A} {A} "), &format!("{A}{A} refs/x"), "push-cert\0x"] {
            assert!(read(&[Some(line.as_bytes()), None]).is_err(), "{line}");
        }
        let sha256 = format!("{A} {A} refs/x\0object-format=sha256");
        assert!(read(&[Some(sha256.as_bytes()), None]).unwrap_err().contains("server sha1; client sha256"));
        let options = format!("{A} {A} refs/x\0push-options");
        assert!(read(&[Some(options.as_bytes()), None]).unwrap_err().contains("push options"));
        let many = vec![Some(&b"o"[..]); MAX_PUSH_OPTIONS + 1];
        assert!(
            read(&[&[Some(options.as_bytes()), None], &many[..], &[None]].concat()).unwrap_err().contains("too many")
        );
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(lines in proptest::collection::vec(proptest::option::of(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "[01]{40} [01]{40} [a-z/\\x00 =-]{0,20}".prop_map(String::into_bytes),
                "(shallow |push-)[0-9a-f\\x00]{0,41}".prop_map(String::into_bytes),
            ]), 0..10)
        ) {
            let lines: Vec<Option<&[u8]>> = lines.iter().map(Option::as_deref).collect();
            let bytes = packets(&lines);
            let _ = PushRequest::read(&mut PacketReader::new(&bytes[..]), Format::Sha1);
        }
    }
}
