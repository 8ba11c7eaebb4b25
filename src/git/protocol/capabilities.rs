//! Protocol versions, services, and the capability advertisement and command header of version 2 (gitprotocol-v2).

use std::io::{self, BufRead, Write};

use gix::bstr::{BString, ByteSlice};
use gix::hash::Kind as Format;

use super::error::ProtocolError;
use super::pkt_line::{Packet, PacketReader, PacketWriter};

/// Capability `agent` that gitferry sends to peers.
pub const AGENT: &str = concat!("agent=gitferry/", env!("CARGO_PKG_VERSION"));
/// Most lines in the header of a command.
const MAX_CAPABILITY_LINES: usize = 1000;

/// Version of the wire protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Original protocol.
    #[default]
    V0,
    /// Version 0, preceded by a line `version 1`.
    V1,
    /// Command-based protocol, for fetches only.
    V2,
}

impl Version {
    /// Returns the highest version that a client offers. `parameters` is the value of `GIT_PROTOCOL` or of the
    /// `Git-Protocol` header, or one extra parameter of a `git://` request. Unknown parameters are ignored.
    pub fn negotiate(parameters: &[u8]) -> Version {
        let versions = parameters.split(|byte| *byte == b':').filter_map(|parameter| match parameter {
            b"version=1" => Some(Version::V1),
            b"version=2" => Some(Version::V2),
            _ => None,
        });
        versions.max().unwrap_or_default()
    }

    /// Number of the version.
    pub fn number(self) -> u8 {
        match self {
            Version::V0 => 0,
            Version::V1 => 1,
            Version::V2 => 2,
        }
    }
}

/// Service that a client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Serves fetches.
    UploadPack,
    /// Accepts pushes.
    ReceivePack,
}

impl Service {
    /// Name of the service in requests.
    pub fn name(self) -> &'static str {
        match self {
            Service::UploadPack => "git-upload-pack",
            Service::ReceivePack => "git-receive-pack",
        }
    }

    /// Parses the name of a service.
    pub fn from_name(name: &[u8]) -> Option<Service> {
        [Service::UploadPack, Service::ReceivePack].into_iter().find(|service| service.name().as_bytes() == name)
    }
}

/// Writes the capability advertisement of upload-pack in version 2; `ref-in-want` is optional.
pub fn advertise_v2(format: Format, ref_in_want: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut out = PacketWriter::new(out);
    out.line(b"version 2")?;
    out.line(AGENT.as_bytes())?;
    out.line(b"ls-refs=unborn")?;
    out.parts(&[b"fetch=shallow wait-for-done filter", if ref_in_want { b" ref-in-want" } else { b"" }, b"\n"])?;
    out.line(b"server-option")?;
    out.line(format!("object-format={format}").as_bytes())?;
    out.flush_packet()
}

/// Command of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `ls-refs`.
    LsRefs,
    /// `fetch`.
    Fetch,
}

/// Header of a version 2 request: everything before the arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Requested command.
    pub command: Command,
    /// True if the header ends in a delimiter, so that arguments follow.
    pub has_arguments: bool,
    /// User agent of the client.
    pub agent: Option<BString>,
}

/// Reads the header of a request; `None` if the client ends the session instead.
pub fn read_command<R: BufRead>(
    input: &mut PacketReader<R>,
    format: Format,
) -> Result<Option<RequestHead>, ProtocolError> {
    let mut command = None;
    let mut agent = None;
    let mut client_format: BString = Format::Sha1.to_string().into();
    let mut lines = 0;
    let has_arguments = loop {
        let packet = match input.read()? {
            None if lines == 0 => return Ok(None),
            None => return Err(ProtocolError::Truncated("the end of the request")),
            Some(packet) => packet,
        };
        match packet {
            Packet::Flush if lines == 0 => return Ok(None),
            Packet::Flush => break false,
            Packet::Delimiter => break true,
            Packet::ResponseEnd => return Err(ProtocolError::unexpected("a command", b"response-end")),
            Packet::Data(_) => {}
        }
        lines += 1;
        if lines > MAX_CAPABILITY_LINES {
            return Err(ProtocolError::TooMany { what: "capability lines", limit: MAX_CAPABILITY_LINES });
        }
        let line = packet.line().unwrap_or_default();
        match line.split_once_str("=") {
            Some((b"command", name)) if command.is_none() => command = Some(command_named(name)?),
            Some((b"agent", name)) => agent = Some(name.into()),
            Some((b"object-format", name)) => client_format = name.into(),
            // For hooks and traces of Git's server: ignored.
            Some((b"server-option" | b"session-id", _)) => {}
            _ => return Err(ProtocolError::unexpected("a command or capability", line)),
        }
    };
    let command = command.ok_or(ProtocolError::Truncated("the command"))?;
    if client_format != format.to_string() {
        return Err(ProtocolError::ObjectFormat { server: format, client: client_format });
    }
    Ok(Some(RequestHead { command, has_arguments, agent }))
}

fn command_named(name: &[u8]) -> Result<Command, ProtocolError> {
    match name {
        b"ls-refs" => Ok(Command::LsRefs),
        b"fetch" => Ok(Command::Fetch),
        other => Err(ProtocolError::unexpected("the command ls-refs or fetch", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(input: &str) -> Result<Option<RequestHead>, String> {
        read_command(&mut PacketReader::new(input.as_bytes()), Format::Sha1).map_err(|e| e.to_string())
    }

    #[test]
    fn versions() {
        assert_eq!(Version::negotiate(b""), Version::V0);
        assert_eq!(Version::negotiate(b"version=1"), Version::V1);
        assert_eq!(Version::negotiate(b"x=y:version=2:version=1"), Version::V2);
        assert_eq!(Version::negotiate(b"version=3"), Version::V0);
    }

    #[test]
    fn request_heads() {
        assert_eq!(head(""), Ok(None));
        assert_eq!(head("0000"), Ok(None));
        let ls_refs = RequestHead { command: Command::LsRefs, has_arguments: false, agent: Some("a".into()) };
        assert_eq!(head("0014command=ls-refs\n000bagent=a0000"), Ok(Some(ls_refs)));
        assert!(
            head("0012command=fetch\n0018object-format=sha2560001").unwrap_err().contains("server sha1; client sha256")
        );
        for bad in ["0012command=fetch\n", "0010command=push0001", "000cagent=a\n0001", "0006x\n0001"] {
            assert!(head(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_heads_never_panic(
            lines in proptest::collection::vec("(command|agent|object-format|server-option|session-id|)=?[ -~]{0,20}", 0..6),
            rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let packets = lines.iter().map(|line| format!("{:04x}{line}", line.len() + 4));
            let mut bytes = packets.collect::<String>().into_bytes();
            bytes.extend(rest);
            let _ = read_command(&mut PacketReader::new(&bytes[..]), Format::Sha1);
        }

        #[test]
        fn arbitrary_parameters_name_a_version(parameters in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Version::negotiate(&parameters);
        }
    }
}
