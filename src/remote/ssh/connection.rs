//! Stateful conversation with a Git service over SSH: one stream each way, and the server's standard error.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use russh::client::{Handle as Session, Msg};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use super::session::{HostVerifier, failed};
use crate::answer_reader::{AnswerReader, answer_reader};
use crate::server_text;
use gitferry_git::client::{ClientError, Connection, Deadline, Request};
use gitferry_git::protocol::Version;

/// Bytes per message to the server.
const CHUNK_BYTES: usize = 32 * 1024;
/// Most bytes buffered between network and reader; beyond that the SSH window throttles the server. Nothing reads
/// while a push is written, so the buffer must hold the server's progress output.
const MAX_UNREAD_BYTES: usize = 1 << 20;
/// Most bytes of standard error that are kept.
const MAX_STDERR_BYTES: usize = 4096;
/// Limit for an orderly disconnect, after which the connection is cut.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254, section 5.2).
const STDERR: u32 = 1;
/// Name of the conversation in errors.
const TALKING: &str = "talking to the server over SSH";

/// Connection to a service.
pub struct SshConnection {
    /// Session, and the guard that cuts its connection when dropped.
    session: Option<(Session<HostVerifier>, DropGuard)>,
    input: ChannelWriteHalf<Msg>,
    answer: AnswerReader,
    deadline: Deadline,
    server: String,
    idle_timeout: Duration,
    runtime: Handle,
    /// True once a request was truncated, after which the server would read further bytes as the rest of that request.
    broken: bool,
}

impl SshConnection {
    /// Starts a command and waits for its first output or its end.
    pub fn begin(
        (session, guard): (Session<HostVerifier>, DropGuard),
        server: &str,
        command: &str,
        version: Version,
        idle_timeout: Duration,
        runtime: &Handle,
    ) -> Result<Self, ClientError> {
        let broken = |error| ClientError::Connection { server: server.into(), doing: "starting the command", error };
        let start = async {
            let channel = session.channel_open_session().await?;
            let (output, input) = channel.split();
            if version != Version::V0 {
                // Many servers refuse environment variables and then use protocol version 0.
                let value = if version == Version::V2 { "version=2" } else { "version=1" };
                input.set_env(false, "GIT_PROTOCOL", value).await?;
            }
            input.exec(true, command).await?;
            Ok::<_, russh::Error>((output, input))
        };
        let started = runtime.block_on(async { tokio::time::timeout(idle_timeout, start).await });
        let (output, input) =
            started.map_err(|_| broken(io::ErrorKind::TimedOut.into()))?.map_err(|error| broken(failed(&error)))?;
        let (pieces, received) = mpsc::channel(1);
        runtime.spawn(forward_output(output, pieces, server.to_owned()));
        let stream =
            futures::stream::unfold(received, |mut received| async { Some((received.recv().await?, received)) });
        let deadline = Deadline::default();
        let answer = answer_reader(stream.boxed(), idle_timeout, deadline.clone(), runtime.clone());
        let server = server.to_owned();
        let runtime = runtime.clone();
        let session = Some((session, guard));
        let mut connection =
            SshConnection { session, input, answer, deadline, server, idle_timeout, runtime, broken: false };
        // The first read reports a command that cannot start.
        match connection.answer.fill_buf() {
            Ok(_) => Ok(connection),
            Err(error) => Err(connection.failure(error)),
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
        let input = &self.input;
        let idle_timeout = self.idle_timeout;
        let sent = self.runtime.block_on(async { tokio::time::timeout(idle_timeout, input.data_bytes(bytes)).await });
        let sent = match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the server accepted nothing for {idle_timeout:?}"),
            )),
        };
        self.broken = sent.is_err();
        sent
    }

    /// Ends the conversation in any state, without waiting.
    fn disconnect(&mut self) {
        self.broken = true;
        if let Some((session, guard)) = self.session.take() {
            let gone = async move {
                let goodbye = async {
                    // Fails if the session has ended already.
                    let _ = session.disconnect(Disconnect::ByApplication, "", "").await;
                    let _ = session.await;
                };
                let _ = tokio::time::timeout(DISCONNECT_TIMEOUT, goodbye).await;
                drop(guard);
            };
            self.runtime.spawn(gone);
        }
    }
}

impl Drop for SshConnection {
    fn drop(&mut self) {
        self.disconnect();
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

/// One request of the conversation. Dropping it unfinished ends the conversation.
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
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.connection.send(std::mem::take(&mut self.buffer))
    }
}

impl Request for SshRequest<'_> {
    fn finish(mut self: Box<Self>) -> Result<(), ClientError> {
        self.finished = true;
        let sent = self
            .flush()
            .and_then(|()| if self.connection.broken { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) });
        let Err(lost) = sent else { return Ok(()) };
        // The command may have reported why it ended. Output in Git's protocol is left for the caller to read.
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
            self.connection.disconnect();
        }
    }
}

/// Forwards the output of a command until the command ends.
async fn forward_output(mut output: ChannelReadHalf, pieces: mpsc::Sender<io::Result<Bytes>>, server: String) {
    let mut unread = BytesMut::new();
    let mut exit = CommandExit::default();
    loop {
        tokio::select! {
            message = output.wait(), if unread.len() < MAX_UNREAD_BYTES => match message {
                Some(ChannelMsg::Data { data }) => unread.extend_from_slice(&data),
                None | Some(ChannelMsg::Close) => {
                    exit.closed = message.is_some();
                    break;
                }
                // The server refused the command; the channel may stay open nevertheless.
                Some(ChannelMsg::Failure) => {
                exit.refused = true;
                    break;
                }
                Some(message) => exit.note(message),
            },
            free = pieces.reserve(), if !unread.is_empty() => match free {
                Ok(free) => free.send(Ok(unread.split().freeze())),
                // The reader has been dropped.
                Err(_) => return,
            },
        }
    }
    if !unread.is_empty() && pieces.send(Ok(unread.freeze())).await.is_err() {
        return;
    }
    if let Some(error) = exit.failure(server) {
        // The reader may have been dropped.
        let _ = pieces.send(Err(io::Error::other(error))).await;
    }
}

/// Exit status, signal and standard error of a command.
#[derive(Debug, Default)]
struct CommandExit {
    stderr: Vec<u8>,
    status: Option<u32>,
    signal: Option<String>,
    refused: bool,
    closed: bool,
}

impl CommandExit {
    fn note(&mut self, message: ChannelMsg) {
        match message {
            ChannelMsg::ExtendedData { data, ext: STDERR } => {
                let room = MAX_STDERR_BYTES - self.stderr.len();
                self.stderr.extend_from_slice(&data[..data.len().min(room)]);
            }
            ChannelMsg::ExitStatus { exit_status } => self.status = Some(exit_status),
            ChannelMsg::ExitSignal { signal_name, .. } => self.signal = Some(format!("{signal_name:?}")),
            _ => {}
        }
    }

    /// Returns an error if the output may be incomplete.
    fn failure(self, server: String) -> Option<ClientError> {
        let stderr = server_text::one_line(&self.stderr);
        match self.status {
            Some(0) => None,
            Some(status) => {
                let reason = stderr.unwrap_or_else(|| "no reason given".into());
                Some(if contains_any(&reason, &ABSENCE) {
                    ClientError::NotFound { server }
                } else if contains_any(&reason, &DENIAL) {
                    ClientError::Unauthorized { server, reason }
                } else {
                    ClientError::Exit { server, status, reason }
                })
            }
            None if self.refused => Some(ClientError::Unsupported { server, what: "run a command over SSH".into() }),
            None if self.signal.is_none() && self.closed => None,
            None => {
                let cause = match self.signal {
                    Some(signal) => format!("the command was killed by signal {signal}"),
                    None => "the connection broke".into(),
                };
                let text = stderr.map_or(cause.clone(), |stderr| format!("{cause}: {stderr}"));
                let error = io::Error::new(io::ErrorKind::ConnectionAborted, text);
                Some(ClientError::Connection { server, doing: TALKING, error })
            }
        }
    }
}

/// Messages of Git, GitHub, GitLab and Gitea for a repository that does not exist.
const ABSENCE: [&str; 4] =
    ["does not appear to be a git repository", "repository not found", "could not be found", "does not exist"];
/// Messages of sshd, GitHub, GitLab, Gitea and gitolite for a key that lacks permission.
const DENIAL: [&str; 6] =
    ["permission denied", "access denied", "denied to", "denied by", "not allowed", "not authorized"];

/// Returns true if the text contains one of the phrases, ignoring ASCII case.
fn contains_any(text: &str, phrases: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    phrases.iter().any(|phrase| text.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gitferry_base::Kind;

    fn ended(complaint: &str, status: Option<u32>, closed: bool) -> Option<ClientError> {
        let exit = CommandExit { stderr: complaint.into(), status, closed, ..CommandExit::default() };
        exit.failure("ssh://h/x".into())
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
