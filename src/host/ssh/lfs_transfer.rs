//! `git-lfs-transfer`: Git LFS over SSH alone (git-lfs `docs/proposals/ssh_adapter.md`, version 1), without locks.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use bytes::BytesMut;
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::output::{Gone, Output};
use super::packets::{Packet, PacketError, Packets};
use crate::auth::Principal;
use crate::lfs::{LfsOperation, LfsRefusal, LfsService};
use crate::metrics::ConversationMetrics;
use gitferry_git::lfs::Pointer;
use gitferry_git::protocol::MAX_PAYLOAD_BYTES;

/// Longest pause between two requests: a client with several connections leaves some of them idle.
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// Most arguments of a request.
const MAX_ARGUMENTS: usize = 64;
/// Most objects of a batch, as over HTTP. (git-lfs sends 100.)
const MAX_OBJECTS: usize = 1_000;
/// Packets of an uploaded object that wait to be stored.
const MAX_WAITING_PACKETS: usize = 8;
/// Most bytes of a refused object that are read and dropped, so that the connection stays of use.
const MAX_DROPPED_BYTES: u64 = 256 << 20;

/// Transfers of one client in one repository.
pub(super) struct LfsTransfer<'a> {
    lfs: &'a LfsService,
    principal: &'a Principal,
    repository: &'a str,
    operation: LfsOperation,
    output: &'a Output,
    metrics: &'a ConversationMetrics,
}

/// A transfer cannot go on. The texts are for the client.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    /// The client's input.
    #[error(transparent)]
    Input(#[from] PacketError),
    /// The client's input is not that of the protocol.
    #[error("{0}")]
    Protocol(&'static str),
    /// The client reads nothing.
    #[error("the client read nothing within the idle timeout")]
    Gone,
    /// An object could not be sent to its end.
    #[error("an object could not be read to its end; the operator's log says why")]
    CutOff,
}

impl From<Gone> for TransferError {
    fn from(_: Gone) -> Self {
        TransferError::Gone
    }
}

/// The class of an error in the metrics.
pub(super) fn class_of(error: &TransferError) -> StatusCode {
    match error {
        TransferError::Input(PacketError::Silent) | TransferError::Gone => StatusCode::REQUEST_TIMEOUT,
        TransferError::Input(_) | TransferError::Protocol(_) => StatusCode::BAD_REQUEST,
        TransferError::CutOff => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

type Result<T> = std::result::Result<T, TransferError>;

/// A request up to its delimiter.
struct Request {
    command: String,
    arguments: Vec<String>,
    /// True if a delimiter and data follow.
    has_data: bool,
}

impl Request {
    /// Reads a request; `None` if the client has left.
    async fn read(packets: &mut Packets) -> Result<Option<Request>> {
        let command = match packets.next_after(MAX_PAUSE).await? {
            None => return Ok(None),
            Some(Packet::Data(line)) => text(&line)?,
            Some(_) => return Err(TransferError::Protocol("a request begins with its command")),
        };
        let mut arguments = Vec::new();
        loop {
            let has_data = match packets.next().await? {
                Packet::Data(line) => {
                    if arguments.len() == MAX_ARGUMENTS {
                        return Err(TransferError::Protocol("a request has too many arguments"));
                    }
                    arguments.push(text(&line)?);
                    continue;
                }
                Packet::Flush => false,
                Packet::Delimiter => true,
            };
            return Ok(Some(Request { command, arguments, has_data }));
        }
    }

    /// Value of an argument `KEY=VALUE`.
    fn value(&self, key: &str) -> Option<&str> {
        self.arguments.iter().find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='))
    }

    /// The object of a request `COMMAND OID [SIZE]` with the argument `size`.
    fn pointer(&self) -> std::result::Result<Pointer, &'static str> {
        let mut words = self.command.split(' ').skip(1);
        let oid = words.next().unwrap_or_default();
        let size = self.value("size").or(words.next()).ok_or("the size of the object is missing")?;
        pointer(oid, size)
    }
}

fn pointer(oid: &str, size: &str) -> std::result::Result<Pointer, &'static str> {
    let oid = oid.parse().map_err(|_| "an object is named by 64 hexadecimal digits")?;
    let size = size.parse().map_err(|_| "the size of an object is a number")?;
    Ok(Pointer { oid, size })
}

/// A line of a request, without its end.
fn text(line: &[u8]) -> Result<String> {
    let line = std::str::from_utf8(line).map_err(|_| TransferError::Protocol("a line is not UTF-8"))?;
    Ok(line.strip_suffix('\n').unwrap_or(line).to_owned())
}

/// An answer in packets.
#[derive(Default)]
struct Answer(BytesMut);

impl Answer {
    fn status(status: StatusCode) -> Self {
        Answer::default().line(&format!("status {}", status.as_u16()))
    }

    fn data(mut self, content: &[u8]) -> Self {
        for content in content.chunks(MAX_PAYLOAD_BYTES) {
            self.0.extend_from_slice(format!("{:04x}", content.len() + 4).as_bytes());
            self.0.extend_from_slice(content);
        }
        self
    }

    fn line(self, line: &str) -> Self {
        self.data(format!("{line}\n").as_bytes())
    }

    fn delimiter(mut self) -> Self {
        self.0.extend_from_slice(b"0001");
        self
    }

    fn flush(mut self) -> Bytes {
        self.0.extend_from_slice(b"0000");
        self.0.freeze()
    }

    fn refusal(status: StatusCode, message: &str) -> Bytes {
        Answer::status(status).delimiter().line(message).flush()
    }

    /// The answer to a request that has no other result than success.
    fn of(done: std::result::Result<(), LfsRefusal>) -> Bytes {
        match done {
            Ok(()) => Answer::status(StatusCode::OK).flush(),
            Err(refusal) => Answer::refused(refusal),
        }
    }

    fn refused(refusal: LfsRefusal) -> Bytes {
        let (status, message) = refusal.into_parts();
        Answer::refusal(status, &message)
    }
}

impl<'a> LfsTransfer<'a> {
    /// Transfers objects of a repository for a principal who may do the operation.
    pub(super) fn new(
        lfs: &'a LfsService,
        principal: &'a Principal,
        repository: &'a str,
        operation: LfsOperation,
        output: &'a Output,
        metrics: &'a ConversationMetrics,
    ) -> Self {
        LfsTransfer { lfs, principal, repository, operation, output, metrics }
    }

    /// Answers requests until the client quits or leaves. Within a request, the client pauses for `silence` at most.
    ///
    /// # Errors
    /// The client breaks off, or an object does.
    pub(super) async fn run(&self, input: Body, silence: Duration) -> Result<()> {
        let mut packets = Packets::new(input, silence);
        self.send(Answer::default().line("version=1").flush()).await?;
        while let Some(request) = Request::read(&mut packets).await? {
            let name = request.command.split(' ').next().unwrap_or_default();
            let answer = match (name, self.operation) {
                ("batch", _) if request.has_data => self.batch(&request, &mut packets).await?,
                ("put-object", LfsOperation::Upload) if request.has_data => self.put(&request, &mut packets).await?,
                ("get-object", LfsOperation::Download) if !request.has_data => {
                    self.get(&request).await?;
                    continue;
                }
                (_, operation) => {
                    if request.has_data {
                        skip(&mut packets).await?;
                    }
                    match (name, operation) {
                        ("verify-object", LfsOperation::Upload) => self.verify(&request).await,
                        ("version", _) if request.command == "version 1" => Answer::status(StatusCode::OK).flush(),
                        ("quit", _) => {
                            self.send(Answer::status(StatusCode::OK).flush()).await?;
                            return Ok(());
                        }
                        ("lock" | "list-lock" | "unlock", _) => {
                            Answer::refusal(StatusCode::NOT_IMPLEMENTED, "file locking is not supported")
                        }
                        _ => Answer::refusal(StatusCode::BAD_REQUEST, "this request is not one of the operation"),
                    }
                }
            };
            self.send(answer).await?;
        }
        Ok(())
    }

    async fn send(&self, bytes: Bytes) -> Result<()> {
        self.metrics.sent(bytes.len() as u64);
        Ok(self.output.send(bytes).await?)
    }

    /// Answers which objects of a list are to be transferred.
    async fn batch(&self, request: &Request, packets: &mut Packets) -> Result<Bytes> {
        let mut pointers = Vec::new();
        let mut fault = None;
        loop {
            match packets.next().await? {
                Packet::Data(line) if pointers.len() < MAX_OBJECTS => {
                    let line = text(&line)?;
                    let mut words = line.split(' ');
                    match pointer(words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
                        Ok(pointer) => pointers.push(pointer),
                        Err(reason) => fault = fault.or(Some((StatusCode::UNPROCESSABLE_ENTITY, reason))),
                    }
                }
                Packet::Data(_) => {
                    fault = Some((StatusCode::PAYLOAD_TOO_LARGE, "a request names at most 1000 objects"))
                }
                Packet::Flush => break,
                Packet::Delimiter => return Err(TransferError::Protocol("a request has two delimiters")),
            }
        }
        if request.value("hash-algo").is_some_and(|name| name != "sha256") {
            fault = Some((StatusCode::CONFLICT, "objects are named by sha256 here"));
        }
        if let Some((status, reason)) = fault {
            return Ok(Answer::refusal(status, reason));
        }
        let planned = match self.lfs.plan(self.principal, self.repository, self.operation, &pointers).await {
            Ok(planned) => planned,
            Err(refusal) => return Ok(Answer::refused(refusal)),
        };
        let action = match self.operation {
            LfsOperation::Upload => "upload",
            LfsOperation::Download => "download",
        };
        let mut answer = Answer::status(StatusCode::OK).line("hash-algo=sha256").delimiter();
        for (Pointer { oid, size }, is_transferred) in pointers.iter().zip(planned) {
            let action = if is_transferred { action } else { "noop" };
            answer = answer.line(&format!("{oid} {size} {action}"));
        }
        Ok(answer.flush())
    }

    /// Receives an object.
    async fn put(&self, request: &Request, packets: &mut Packets) -> Result<Bytes> {
        let pointer = match request.pointer() {
            Ok(pointer) => pointer,
            Err(reason) => {
                skip(packets).await?;
                return Ok(Answer::refusal(StatusCode::UNPROCESSABLE_ENTITY, reason));
            }
        };
        let (sender, receiver) = mpsc::channel(MAX_WAITING_PACKETS);
        let body = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        let storing = self.lfs.upload(self.principal, self.repository, pointer, Body::from_stream(body));
        let (stored, fed) = tokio::join!(storing, feed(packets, sender));
        fed?;
        Ok(Answer::of(stored))
    }

    /// Answers if an object is stored.
    async fn verify(&self, request: &Request) -> Bytes {
        match request.pointer() {
            Ok(pointer) => Answer::of(self.lfs.verify(self.repository, pointer).await),
            Err(reason) => Answer::refusal(StatusCode::UNPROCESSABLE_ENTITY, reason),
        }
    }

    /// Sends an object.
    async fn get(&self, request: &Request) -> Result<()> {
        let oid = request.command.split(' ').nth(1).unwrap_or_default();
        let Ok(oid) = oid.parse() else {
            let reason = "an object is named by 64 hexadecimal digits";
            return self.send(Answer::refusal(StatusCode::UNPROCESSABLE_ENTITY, reason)).await;
        };
        let (size, body) = match self.lfs.download(self.repository, oid).await {
            Ok(found) => found,
            Err(refusal) => return self.send(Answer::refused(refusal)).await,
        };
        let head = Answer::status(StatusCode::OK).line(&format!("size={size}")).delimiter();
        self.send(head.0.freeze()).await?;
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| TransferError::CutOff)?;
            self.send(Answer::default().data(&chunk).0.freeze()).await?;
        }
        self.send(Answer::default().flush()).await
    }
}

/// Reads and drops the data of a request.
async fn skip(packets: &mut Packets) -> Result<()> {
    let mut dropped = 0;
    loop {
        match packets.next().await? {
            Packet::Data(content) => check_dropped(&mut dropped, content.len())?,
            Packet::Flush => return Ok(()),
            Packet::Delimiter => return Err(TransferError::Protocol("a request has two delimiters")),
        }
    }
}

/// Passes the data of a request on. Once none takes it, the rest is dropped.
async fn feed(packets: &mut Packets, sender: mpsc::Sender<io::Result<Bytes>>) -> Result<()> {
    let mut dropped = 0;
    loop {
        let packet = packets.next().await;
        match packet {
            Ok(Packet::Data(content)) => {
                let length = content.len();
                if sender.send(Ok(content)).await.is_err() {
                    check_dropped(&mut dropped, length)?;
                }
            }
            Ok(Packet::Flush) => return Ok(()),
            Ok(Packet::Delimiter) | Err(_) => {
                // An object that breaks off is not one that ends.
                let _ = sender.send(Err(io::ErrorKind::ConnectionReset.into())).await;
                packet?;
                return Err(TransferError::Protocol("a request has two delimiters"));
            }
        }
    }
}

fn check_dropped(dropped: &mut u64, length: usize) -> Result<()> {
    *dropped += length as u64;
    if *dropped > MAX_DROPPED_BYTES {
        return Err(TransferError::Protocol("the request was refused, and the rest of its data is too long"));
    }
    Ok(())
}
