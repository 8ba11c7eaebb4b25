//! Connection to `git-upload-pack`: version negotiation and listing of refs.

use std::io::{self, BufWriter, Write};

use gix::ObjectId;
use gix::hash::Kind as Format;

use super::answer::Answer;
use super::capabilities::Capabilities;
use super::error::{At, ClientError};
use super::greeting::Greeting;
use super::refs::{RemoteRefs, read_ls_refs};
use super::server::{Connection, Server};
use crate::protocol::{AGENT, LsRefs, PacketWriter, Service, Version};

/// Bytes of the write buffer of a request.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Connection to `git-upload-pack`. If a request ends the connection (over SSH in versions 0 and 1), the next request
/// reconnects.
pub struct UploadPack<'s> {
    pub(super) server: &'s dyn Server,
    pub(super) connection: Box<dyn Connection>,
    /// Protocol version offered to the server.
    offered: Version,
    version: Version,
    capabilities: Capabilities,
    format: Format,
    /// Refs from the advertisement of versions 0 and 1, until the first listing takes them.
    advertised: Option<RemoteRefs>,
    /// Shallow commit from the advertisement (versions 0 and 1).
    pub(super) shallow: Option<ObjectId>,
    /// True if a request may follow on this connection.
    pub(super) idle: bool,
}

impl<'s> UploadPack<'s> {
    /// Connects and offers version 2.
    pub fn open(server: &'s dyn Server) -> Result<UploadPack<'s>, ClientError> {
        UploadPack::open_in(server, Version::V2)
    }

    /// Connects and offers a version. In version 0 the server advertises all refs at once: a listing of all refs saves
    /// one request compared with version 2.
    pub fn open_in(server: &'s dyn Server, offered: Version) -> Result<UploadPack<'s>, ClientError> {
        let mut connection = server.connect(Service::UploadPack, offered)?;
        let at = At { server: server.url(), doing: "connecting to git-upload-pack" };
        let (version, capabilities, advertised, shallow) = match Greeting::read(connection.as_mut(), at)? {
            Greeting::Refs(version, advertisement) => {
                (version, advertisement.capabilities, Some(advertisement.refs), advertisement.shallow)
            }
            Greeting::Commands(all) if all.has("ls-refs") && all.has("fetch") => (Version::V2, all, None, Vec::new()),
            Greeting::Commands(_) => return Err(at.unsupported("list refs and fetch in version 2 of the protocol")),
        };
        let format = capabilities.format().map_err(|name| at.unknown_format(name.as_ref()))?;
        let shallow = shallow.first().copied();
        Ok(UploadPack { server, connection, offered, version, capabilities, format, advertised, shallow, idle: true })
    }

    /// Protocol version that the server speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Capabilities of the server.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Object format of the server.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Fails with [`ClientError::Shallow`] if the advertisement lists shallow commits (versions 0 and 1).
    pub fn check_whole(&self) -> Result<(), ClientError> {
        match self.shallow {
            Some(commit) => Err(ClientError::Shallow { server: self.server.url().into(), commit }),
            None => Ok(()),
        }
    }

    /// Lists `HEAD` and the refs that begin with one of `prefixes` (all if empty), as of now.
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

    /// Reconnects if the last request has ended the connection.
    pub(super) fn ready(&mut self) -> Result<(), ClientError> {
        if !self.idle {
            *self = UploadPack::open_in(self.server, self.offered)?;
        }
        Ok(())
    }

    /// Capabilities `object-format` and `agent` of the client, each sent only if the server advertises the same.
    pub(super) fn client_identification(&self) -> Vec<String> {
        let format = self.capabilities().value("object-format").map(|_| format!("object-format={}", self.format()));
        format.into_iter().chain(self.capabilities().agent().map(|_| AGENT.into())).collect()
    }

    /// Command line and capabilities that precede the arguments of a version 2 command.
    pub(super) fn command_head(&self, command: &str) -> Vec<u8> {
        let mut lines = vec![format!("command={command}")];
        lines.extend(self.client_identification());
        let mut head: Vec<u8> =
            lines.iter().flat_map(|line| format!("{:04x}{line}\n", line.len() + 5).into_bytes()).collect();
        head.extend_from_slice(b"0001");
        head
    }

    /// Sends one request. The caller reads the whole answer before it sends the next one.
    pub(super) fn send(
        &mut self,
        at: At<'_>,
        write: impl FnOnce(&mut PacketWriter<&mut dyn Write>) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        self.idle = false;
        let mut request = self.connection.request()?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, &mut request);
        let written = write(&mut PacketWriter::new(&mut out)).and_then(|()| out.flush());
        // Unsent bytes are dropped, not flushed again.
        let _ = out.into_parts();
        request.finish()?;
        let Err(error) = written else { return Ok(()) };
        // A server that answers before the request ends sends the reason as an `ERR` packet.
        Answer::new(self.connection.answer(), at).line("the reason of its early answer")?;
        Err(at.io(error))
    }
}

/// Ends the conversation with a flush packet, so that a server of version 0 or 1 that waits for wants logs no error.
impl Drop for UploadPack<'_> {
    fn drop(&mut self) {
        if self.idle && self.version != Version::V2 && !self.connection.is_stateless() {
            send_flush(self.connection.as_mut());
        }
    }
}

/// Sends a flush packet without waiting for an answer.
pub(super) fn send_flush(connection: &mut dyn Connection) {
    if let Ok(mut request) = connection.request() {
        let _ = request.write_all(b"0000").and_then(|()| request.flush());
    }
}
