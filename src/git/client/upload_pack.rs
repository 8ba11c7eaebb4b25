//! One conversation with `git-upload-pack`: opening it in whatever version the server speaks, and listing refs.

use std::io::{self, BufWriter, Write};

use gix::ObjectId;
use gix::hash::Kind as Format;

use super::answer::Answer;
use super::capabilities::Capabilities;
use super::error::{At, ClientError};
use super::greeting::Greeting;
use super::refs::{RemoteRefs, read_ls_refs};
use super::server::{Connection, Server};
use crate::protocol::{LsRefs, PacketWriter, Service, Version};

/// Bytes that a request is written in at once.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// One conversation with `git-upload-pack`. Where one request ends it (over SSH, in versions 0 and 1), the next one
/// connects anew.
pub struct UploadPack<'s> {
    pub(super) server: &'s dyn Server,
    pub(super) connection: Box<dyn Connection>,
    /// The version that it was asked for.
    offered: Version,
    version: Version,
    capabilities: Capabilities,
    format: Format,
    /// What versions 0 and 1 have told when the connection was made, until it is asked for.
    advertised: Option<RemoteRefs>,
    /// Where the server's history ends, if it says so at once (versions 0 and 1).
    pub(super) shallow: Option<ObjectId>,
    /// Whether a request may follow on this connection.
    pub(super) idle: bool,
}

impl<'s> UploadPack<'s> {
    /// Connects, offering version 2.
    pub fn open(server: &'s dyn Server) -> Result<UploadPack<'s>, ClientError> {
        UploadPack::open_in(server, Version::V2)
    }

    /// Connects, offering a version. In version 0 a server tells all its refs at once: one request less than in version
    /// 2 where all of them are to be listed.
    pub fn open_in(server: &'s dyn Server, offered: Version) -> Result<UploadPack<'s>, ClientError> {
        let mut connection = server.connect(Service::UploadPack, offered)?;
        let at = At { server: server.url(), doing: "connecting to git-upload-pack" };
        let (version, capabilities, advertised, shallow) = match Greeting::read(connection.as_mut(), at)? {
            Greeting::Refs(version, told) => (version, told.capabilities, Some(told.refs), told.shallow),
            Greeting::Commands(all) if all.has("ls-refs") && all.has("fetch") => (Version::V2, all, None, Vec::new()),
            Greeting::Commands(_) => return Err(at.unsupported("list refs and fetch in version 2 of the protocol")),
        };
        let format = capabilities.format().map_err(|name| at.unsupported(format!("be used: it has {name} objects")))?;
        let shallow = shallow.first().copied();
        Ok(UploadPack { server, connection, offered, version, capabilities, format, advertised, shallow, idle: true })
    }

    /// The version that the server speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the server can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// How objects are named there.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Fails where the server has said that its history ends somewhere, which it does at once in versions 0 and 1.
    pub fn check_whole(&self) -> Result<(), ClientError> {
        match self.shallow {
            Some(commit) => Err(ClientError::Shallow { server: self.server.url().into(), commit }),
            None => Ok(()),
        }
    }

    /// `HEAD` and the refs whose names begin with one of `prefixes`, or all, as they are now.
    pub fn list(&mut self, prefixes: &[&[u8]]) -> Result<RemoteRefs, ClientError> {
        if self.version != Version::V2 && self.advertised.is_none() {
            self.idle = false;
        }
        self.ready()?;
        let at = self.at("listing refs");
        let unborn = self.capabilities.command_has("ls-refs", "unborn");
        let request = LsRefs { unborn, ..LsRefs::of(prefixes) };
        if let Some(refs) = self.advertised.take() {
            return refs.only(&request).map_err(|error| at.protocol(error));
        }
        let head = self.command_head("ls-refs");
        self.send(at, |out| {
            out.get_mut().write_all(&head)?;
            request.write(out)
        })?;
        let format = self.format;
        let refs = read_ls_refs(&mut Answer::new(self.connection.answer(), at), format, &request, at)?;
        self.idle = true;
        Ok(refs)
    }

    pub(super) fn at(&self, doing: &'static str) -> At<'s> {
        At { server: self.server.url(), doing }
    }

    /// Connects anew where the last request has ended the conversation.
    pub(super) fn ready(&mut self) -> Result<(), ClientError> {
        if !self.idle {
            *self = UploadPack::open_in(self.server, self.offered)?;
        }
        Ok(())
    }

    /// What precedes the arguments of a command of version 2.
    pub(super) fn command_head(&self, command: &str) -> Vec<u8> {
        let mut lines = vec![format!("command={command}")];
        lines.extend(self.named());
        let mut head: Vec<u8> =
            lines.iter().flat_map(|line| format!("{:04x}{line}\n", line.len() + 5).into_bytes()).collect();
        head.extend_from_slice(b"0001");
        head
    }

    /// Sends one request. Until its answer has been read, no other may follow.
    pub(super) fn send(
        &mut self,
        at: At<'_>,
        write: impl FnOnce(&mut PacketWriter<&mut dyn Write>) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        self.idle = false;
        let mut request = self.connection.request()?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, &mut request);
        let written = write(&mut PacketWriter::new(&mut out)).and_then(|()| out.flush());
        // What could not be sent is not tried again.
        let _ = out.into_parts();
        request.finish()?;
        let Err(error) = written else { return Ok(()) };
        // A server that has answered before it was asked all tells why.
        Answer::new(self.connection.answer(), at).line("the reason")?;
        Err(at.io(error))
    }
}

/// A server of version 0 or 1 that waits for wants is told that there are none, so that it does not complain.
impl Drop for UploadPack<'_> {
    fn drop(&mut self) {
        if self.idle && self.version != Version::V2 && !self.connection.is_stateless() {
            say_goodbye(self.connection.as_mut());
        }
    }
}

/// Sends a flush packet, and does not wait for anything.
pub(super) fn say_goodbye(connection: &mut dyn Connection) {
    if let Ok(mut request) = connection.request() {
        let _ = request.write_all(b"0000").and_then(|()| request.flush());
    }
}
