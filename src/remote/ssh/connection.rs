//! A conversation with a service over SSH: one stream each way, and what the server complains of beside.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use russh::client::{Handle as Session, Msg};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use super::{Recogniser, failed};
use crate::pieces::Pieces;
use crate::said;
use gitferry_git::client::{ClientError, Connection, Deadline, Request};
use gitferry_git::protocol::Version;

/// Bytes that are sent at a time.
const CHUNK_BYTES: usize = 32 * 1024;
/// Bytes of the server's that are held until they are read; more stay in the network. While a push is written nobody
/// reads, and there has to be room for what is said meanwhile.
const MAX_UNREAD_BYTES: usize = 1 << 20;
/// Bytes of complaints that are kept.
const MAX_COMPLAINT_BYTES: usize = 4096;
/// How long a server is given to take leave before its connection is cut.
const GOODBYE_TIME: Duration = Duration::from_secs(5);
/// The stream of complaints.
const STDERR: u32 = 1;
/// What is being done, for messages.
const TALKING: &str = "a conversation over SSH";

/// A conversation with a service.
pub struct SshConnection {
    /// With what cuts its connection.
    session: Option<(Session<Recogniser>, DropGuard)>,
    input: ChannelWriteHalf<Msg>,
    answer: Pieces,
    deadline: Deadline,
    server: String,
    silence: Duration,
    runtime: Handle,
    /// Whether a request was cut off: what follows would be taken for its rest.
    broken: bool,
}

impl SshConnection {
    /// Starts a command and waits until it says something, or ends.
    pub fn begin(
        (session, line): (Session<Recogniser>, DropGuard),
        server: &str,
        command: &str,
        version: Version,
        silence: Duration,
        runtime: &Handle,
    ) -> Result<Self, ClientError> {
        let broken = |error| ClientError::Connection { server: server.into(), doing: "starting a command", error };
        let start = async {
            let channel = session.channel_open_session().await?;
            let (output, input) = channel.split();
            if version != Version::V0 {
                // Many servers do not let clients set variables; they then speak the oldest version.
                let value = if version == Version::V2 { "version=2" } else { "version=1" };
                input.set_env(false, "GIT_PROTOCOL", value).await?;
            }
            input.exec(true, command).await?;
            Ok::<_, russh::Error>((output, input))
        };
        let started = runtime.block_on(async { tokio::time::timeout(silence, start).await });
        let (output, input) =
            started.map_err(|_| broken(io::ErrorKind::TimedOut.into()))?.map_err(|error| broken(failed(&error)))?;
        let (pieces, received) = mpsc::channel(1);
        runtime.spawn(listen(output, pieces, server.to_owned()));
        let stream =
            futures::stream::unfold(received, |mut received| async { Some((received.recv().await?, received)) });
        let deadline = Deadline::default();
        let answer = Pieces::new(stream.boxed(), silence, deadline.clone(), runtime.clone());
        let (server, runtime) = (server.to_owned(), runtime.clone());
        let session = Some((session, line));
        let mut it = SshConnection { session, input, answer, deadline, server, silence, runtime, broken: false };
        // A command that cannot start says so at once.
        match it.answer.fill_buf() {
            Ok(_) => Ok(it),
            Err(error) => Err(it.failure(error)),
        }
    }

    fn failure(&self, error: io::Error) -> ClientError {
        error.downcast().unwrap_or_else(|error| ClientError::Connection {
            server: self.server.clone(),
            doing: TALKING,
            error,
        })
    }

    fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let (input, silence) = (&self.input, self.silence);
        let sent = self.runtime.block_on(async { tokio::time::timeout(silence, input.data_bytes(bytes)).await });
        let sent = match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the server took nothing for too long")),
        };
        self.broken = sent.is_err();
        sent
    }

    /// Ends the conversation, in whatever state it is.
    fn hang_up(&mut self) {
        self.broken = true;
        if let Some((session, line)) = self.session.take() {
            let gone = async move {
                let goodbye = async {
                    // It may be gone already.
                    let _ = session.disconnect(Disconnect::ByApplication, "", "").await;
                    let _ = session.await;
                };
                let _ = tokio::time::timeout(GOODBYE_TIME, goodbye).await;
                drop(line);
            };
            self.runtime.spawn(gone);
        }
    }
}

impl Drop for SshConnection {
    fn drop(&mut self) {
        self.hang_up();
    }
}

impl Connection for SshConnection {
    fn is_stateless(&self) -> bool {
        false
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        &mut self.answer
    }

    fn deadline(&self) -> Deadline {
        self.deadline.clone()
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        if self.broken {
            return Err(self.failure(io::ErrorKind::BrokenPipe.into()));
        }
        Ok(Box::new(SshRequest { connection: self, buffer: Vec::new(), finished: false }))
    }
}

/// A part of the conversation. Dropped unfinished it ends the conversation.
struct SshRequest<'c> {
    connection: &'c mut SshConnection,
    buffer: Vec<u8>,
    finished: bool,
}

impl Write for SshRequest<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => self.connection.send(std::mem::take(&mut self.buffer)),
        }
    }
}

impl Request for SshRequest<'_> {
    fn finish(mut self: Box<Self>) -> Result<(), ClientError> {
        self.finished = true;
        let sent = self.flush().and_then(|()| match self.connection.broken {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        });
        let Err(lost) = sent else { return Ok(()) };
        // The command may have said why it ended. What it says in Git's protocol is for the caller to read.
        match self.connection.answer.fill_buf() {
            Ok([]) => Err(self.connection.failure(lost)),
            Ok(_) => Ok(()),
            Err(error) => Err(self.connection.failure(error)),
        }
    }
}

impl Drop for SshRequest<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.connection.hang_up();
        }
    }
}

/// Passes on what a command says until it ends.
async fn listen(mut output: ChannelReadHalf, pieces: mpsc::Sender<io::Result<Bytes>>, server: String) {
    let mut unread = BytesMut::new();
    let mut ending = Ending::default();
    loop {
        tokio::select! {
            message = output.wait(), if unread.len() < MAX_UNREAD_BYTES => match message {
                Some(ChannelMsg::Data { data }) => unread.extend_from_slice(&data),
                None | Some(ChannelMsg::Close) => {
                    ending.closed = message.is_some();
                    break;
                }
                // The command was refused: a server may leave the channel open for all that.
                Some(ChannelMsg::Failure) => {
                    ending.refused = true;
                    break;
                }
                Some(message) => ending.note(message),
            },
            free = pieces.reserve(), if !unread.is_empty() => match free {
                Ok(free) => free.send(Ok(unread.split().freeze())),
                // Nobody reads any more.
                Err(_) => return,
            },
        }
    }
    if !unread.is_empty() && pieces.send(Ok(unread.freeze())).await.is_err() {
        return;
    }
    if let Some(error) = ending.failure(server) {
        // Nobody need hear it.
        let _ = pieces.send(Err(io::Error::other(error))).await;
    }
}

/// How a command ended.
#[derive(Debug, Default)]
struct Ending {
    complaint: Vec<u8>,
    status: Option<u32>,
    signal: Option<String>,
    refused: bool,
    closed: bool,
}

impl Ending {
    fn note(&mut self, message: ChannelMsg) {
        match message {
            ChannelMsg::ExtendedData { data, ext: STDERR } => {
                let room = MAX_COMPLAINT_BYTES - self.complaint.len();
                self.complaint.extend_from_slice(&data[..data.len().min(room)]);
            }
            ChannelMsg::ExitStatus { exit_status } => self.status = Some(exit_status),
            ChannelMsg::ExitSignal { signal_name, .. } => self.signal = Some(format!("{signal_name:?}")),
            _ => {}
        }
    }

    /// Why what came is not all, if it is not.
    fn failure(self, server: String) -> Option<ClientError> {
        let said = said::shown(&self.complaint);
        match self.status {
            Some(0) => None,
            Some(status) => {
                let reason = said.unwrap_or_else(|| "it does not say why".into());
                Some(match () {
                    () if says(&reason, &ABSENCE) => ClientError::NotFound { server },
                    () if says(&reason, &DENIAL) => ClientError::Unauthorized { server, reason },
                    () => ClientError::Exit { server, status, reason },
                })
            }
            None if self.refused => Some(ClientError::Unsupported { server, what: "run a command over SSH".into() }),
            None if self.signal.is_none() && self.closed => None,
            None => {
                let how = match self.signal {
                    Some(signal) => format!("the command was killed by {signal}"),
                    None => "the connection broke".into(),
                };
                let text = said.map_or(how.clone(), |said| format!("{how}: {said}"));
                let error = io::Error::new(io::ErrorKind::ConnectionAborted, text);
                Some(ClientError::Connection { server, doing: TALKING, error })
            }
        }
    }
}

/// What says that there is no such repository: Git's words, and those of GitHub, GitLab and Gitea.
const ABSENCE: [&str; 4] =
    ["does not appear to be a git repository", "repository not found", "could not be found", "does not exist"];
/// What says that the key may not do this: the words of sshd, GitHub, GitLab, Gitea and gitolite.
const DENIAL: [&str; 6] =
    ["permission denied", "access denied", "denied to", "denied by", "not allowed", "not authorized"];

fn says(complaint: &str, words: &[&str]) -> bool {
    let complaint = complaint.to_ascii_lowercase();
    words.iter().any(|words| complaint.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gitferry_base::Kind;

    fn ended(complaint: &str, status: Option<u32>, closed: bool) -> Option<ClientError> {
        let ending = Ending { complaint: complaint.into(), status, closed, ..Ending::default() };
        ending.failure("ssh://h/x".into())
    }

    #[test]
    fn endings() {
        assert!(ended("warning: x", Some(0), true).is_none());
        assert!(ended("", None, true).is_none());
        let absent = ended("fatal: '/x' does not appear to be a git repository\n", Some(128), true);
        assert!(matches!(absent, Some(ClientError::NotFound { .. })));
        let failed = ended("fatal: \x1b[2Jno\n", Some(128), true);
        let Some(ClientError::Exit { status: 128, reason, .. }) = failed else { panic!("{failed:?}") };
        assert_eq!(reason, "fatal: [2Jno");
        let broken = ended("", None, false);
        assert!(matches!(broken, Some(ClientError::Connection { .. })), "{broken:?}");
        assert!(matches!(ended("", Some(1 << 20), true), Some(ClientError::Exit { status: 1_048_576, .. })));
        for (complaint, kind) in [
            ("fatal: Out of memory, malloc failed", Kind::Transient),
            ("ERROR: Permission to team/app.git denied to ann.", Kind::Refused),
            ("FATAL: W any app ann DENIED by fallthru", Kind::Refused),
        ] {
            assert_eq!(ended(complaint, Some(1), true).map(|error| error.kind()), Some(kind), "{complaint}");
        }
    }
}
