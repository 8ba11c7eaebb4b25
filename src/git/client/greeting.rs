//! First answer of a server after the client connects, in any protocol version.

use std::io::{self, BufRead};

use gix::hash::Kind as Format;

use super::answer::{Answer, Line};
use super::capabilities::Capabilities;
use super::error::{At, ClientError};
use super::refs::Advertisement;
use super::server::Connection;
use crate::protocol::{ProtocolError, Version};

/// First answer of a server.
pub(super) enum Greeting {
    /// Version 0 or 1: capabilities and all refs.
    Refs(Version, Box<Advertisement>),
    /// Version 2: capabilities only.
    Commands(Capabilities),
}

impl Greeting {
    pub fn read(connection: &mut dyn Connection, at: At<'_>) -> Result<Greeting, ClientError> {
        let input = connection.answer();
        if is_dumb(input).map_err(|error| at.io(error))? {
            return Err(at.unsupported("speak Git's smart protocol: it only serves files (dumb HTTP)"));
        }
        let mut answer = Answer::new(input, at);
        let mut version = Version::V0;
        let mut first = first_line(&mut answer)?;
        match first.as_deref() {
            Some(b"version 2") => return Ok(Greeting::Commands(read_commands(&mut answer, at)?)),
            Some(b"version 1") => {
                version = Version::V1;
                first = first_line(&mut answer)?;
            }
            _ => {}
        }
        let advertisement = Advertisement::read(first.as_deref(), &mut answer, at)?;
        Ok(Greeting::Refs(version, Box::new(advertisement)))
    }
}

/// Reads the first line; `None` for a flush packet, which stands for no refs and no capabilities.
fn first_line(answer: &mut Answer<'_>) -> Result<Option<Vec<u8>>, ClientError> {
    match answer.line("the advertisement")? {
        Line::Text(text) => Ok(Some(text.to_owned())),
        Line::Flush => Ok(None),
        Line::Delimiter => Ok(Some(Vec::new())),
    }
}

fn read_commands(answer: &mut Answer<'_>, at: At<'_>) -> Result<Capabilities, ClientError> {
    let mut capabilities = Capabilities::default();
    loop {
        match answer.line("the end of the capabilities")? {
            Line::Text(line) => capabilities.add(line).map_err(|error| at.protocol(error))?,
            Line::Flush => return Ok(capabilities),
            Line::Delimiter => return Err(at.protocol(ProtocolError::unexpected("a capability", b"delimiter"))),
        }
    }
}

/// Returns true if the input is the static file `info/refs` of dumb HTTP: `<id> TAB <ref>`.
fn is_dumb(input: &mut dyn BufRead) -> io::Result<bool> {
    let start = loop {
        match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            start => break start?,
        }
    };
    let digits = start.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let is_id = [Format::Sha1, Format::Sha256].iter().any(|format| format.len_in_hex() == digits);
    Ok(is_id && start.get(digits) == Some(&b'\t'))
}
