//! One command on a channel, from authorization to its exit status.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use futures::StreamExt as _;
use gitferry_audit::{Action, Entry, code_of_status};
use gitferry_base::printable::Printable;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Span;

use super::command::{Command, CommandError};
use super::identities::UserKey;
use super::lfs_transfer::{self, LfsTransfer};
use super::output::{Gone, Output};
use crate::auth::{Access, Cause, Denied, Principal};
use crate::client::Client;
use crate::exchange::dialogue::{Break, Dialogue};
use crate::host::Host;
use crate::lfs::LfsOperation;
use crate::metrics::ConversationMetrics;
use crate::request::refusal::Refusal;
use gitferry_engine::region::RegionError;
use gitferry_git::protocol::Version;

/// Exit status of a command that did what it was asked for.
const SUCCESS: u32 = 0;
/// Exit status of a session without a command of Git.
const NO_COMMAND: u32 = 1;
/// Exit status of a Git command that is refused or fails, as of Git's `die`.
const FATAL: u32 = 128;

/// Longest time for a client to read an error and leave, while the rest of its request is dropped.
const LINGER: Duration = Duration::from_secs(2);

/// What a client asks of a channel.
#[derive(Debug)]
pub(super) enum Asked {
    /// A command (`exec`).
    Command(Result<Command, CommandError>),
    /// A login without a command (`shell`).
    Shell,
}

impl Asked {
    /// Value of the label `route` of the metrics.
    fn route(&self) -> &'static str {
        match self {
            Asked::Command(Ok(Command::UploadPack(_))) => "ssh_fetch",
            Asked::Command(Ok(Command::ReceivePack(_))) => "ssh_push",
            Asked::Command(Ok(Command::LfsAuthenticate(..))) => "ssh_lfs_authenticate",
            Asked::Command(Ok(Command::LfsTransfer(..))) => "ssh_lfs_transfer",
            Asked::Command(Err(_)) | Asked::Shell => "ssh_other",
        }
    }

    /// Describes the request in the audit trail, which leaves out what is no command of Git.
    fn describe(&self, entry: &Entry) {
        let Asked::Command(Ok(command)) = self else { return entry.dispense() };
        entry.repository(command.repository());
        entry.action(match command {
            Command::LfsAuthenticate(..) if command.access() == Access::Write => Action::new("GitPush"),
            _ if command.access() == Access::Write => Action::new("GitPush").writes(),
            _ => Action::new("GitPull"),
        });
    }
}

/// A channel whose command is being answered.
pub(super) struct Conversation {
    pub host: Arc<Host>,
    pub principal: Principal,
    /// Key of the principal.
    pub key: UserKey,
    /// Version of the client's software, printable.
    pub software: String,
    /// Protocol version that the client offers (`GIT_PROTOCOL`).
    pub version: Version,
    pub output: Output,
}

/// The end of a command.
struct Ending {
    status: u32,
    /// The same in the classes of HTTP, for the metrics.
    class: StatusCode,
    /// Text for the standard error.
    message: Option<String>,
}

impl Ending {
    fn success() -> Self {
        Ending { status: SUCCESS, class: StatusCode::OK, message: None }
    }

    fn fatal(class: StatusCode, message: String) -> Self {
        Ending { status: FATAL, class, message: Some(message) }
    }
}

/// The answer to `git-lfs-authenticate` (git-lfs `docs/api/server-discovery.md`).
#[derive(Serialize)]
struct LfsAnswer {
    href: String,
    header: LfsHeader,
    expires_in: i64,
    expires_at: String,
}

#[derive(Serialize)]
struct LfsHeader {
    #[serde(rename = "Authorization")]
    authorization: String,
}

impl Conversation {
    /// Answers what was asked for, until it is done. The standard input of the command ends with it.
    pub(super) async fn run(self, asked: Asked, input: Body) {
        let start = Instant::now();
        let entry = Client::current().entry().clone();
        asked.describe(&entry);
        entry.authenticated(self.principal.identity()).await;
        let (mut metrics, input) = self.host.metrics().conversation(asked.route(), entry.clone(), input);
        let (done, ended) = oneshot::channel::<()>();
        let input = Body::from_stream(input.into_data_stream().take_until(ended));
        let ending = match asked {
            Asked::Command(Ok(command)) => self.answer(&command, input, &metrics).await,
            Asked::Command(Err(error)) => {
                let status = if matches!(error, CommandError::Unknown) { NO_COMMAND } else { FATAL };
                Ending { status, class: StatusCode::BAD_REQUEST, message: Some(error.to_string()) }
            }
            Asked::Shell => Ending { status: NO_COMMAND, class: StatusCode::OK, message: Some(self.greeting()) },
        };
        drop(done);
        record(&ending, start, &mut metrics, &entry);
        // Fails if the client has left.
        let _ = self.output.end(ending.status, ending.message).await;
    }

    fn greeting(&self) -> String {
        let name = Printable(self.principal.name());
        format!("Hi {name}! gitferry gives no shell; use git clone, fetch and push with this address")
    }

    async fn answer(&self, command: &Command, input: Body, metrics: &ConversationMetrics) -> Ending {
        let name = command.repository();
        Span::current().record("repository", name);
        if let Err(refusal) = self.host.access().quotas.take_request(Client::current().key()) {
            return refused(&refusal, name);
        }
        if let Err(refusal) = self.host.access().admit(&self.principal, name, command.access()).await {
            return self.denied(&refusal, name).await;
        }
        let services = self.host.services();
        let dialogue = match command {
            Command::UploadPack(name) => services.fetches.converse(name, self.version, input).await,
            Command::ReceivePack(name) => services.pushes.converse(&self.principal, name, &self.software, input).await,
            Command::LfsAuthenticate(name, operation) => return self.lfs_authenticate(name, *operation).await,
            Command::LfsTransfer(name, operation) => return self.lfs_transfer(name, *operation, input, metrics).await,
        };
        match dialogue {
            Ok(dialogue) => self.relay(dialogue, name, metrics).await,
            Err(refusal) => refused(&refusal, name),
        }
    }

    /// The end of a command whose principal lacks the right. Denials are decided by names alone, so that no text reveals
    /// if the repository exists.
    async fn denied(&self, refusal: &Refusal, name: &str) -> Ending {
        if !matches!(refusal, Refusal::Denied(Denied::Forbidden(Cause::Grant))) {
            return refused(refusal, name);
        }
        let message = match self.host.access().admit(&self.principal, name, Access::Read).await {
            Ok(()) => format!("this key may read {name}, but not push to it"),
            Err(_) => not_found(name),
        };
        Ending::fatal(StatusCode::FORBIDDEN, message)
    }

    /// Sends the output of a command as it is written.
    async fn relay(&self, dialogue: Dialogue, name: &str, metrics: &ConversationMetrics) -> Ending {
        let Dialogue { output, failed } = dialogue;
        let lingering = async {
            failed.wait().await;
            tokio::time::sleep(LINGER).await;
        };
        let mut chunks = output.take_until(Box::pin(lingering));
        while let Some(chunk) = chunks.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(Break::Refused(refusal)) => return refused(&refusal, name),
                Err(Break::Failed) => {
                    let message = "the host ended the conversation: it was idle for too long, or the host failed";
                    return Ending::fatal(StatusCode::INTERNAL_SERVER_ERROR, message.into());
                }
            };
            metrics.sent(chunk.len() as u64);
            if self.output.send(chunk).await.is_err() {
                let message = "the client read nothing within the idle timeout";
                return Ending::fatal(StatusCode::REQUEST_TIMEOUT, message.into());
            }
        }
        if failed.get() {
            // The error is in the output.
            return Ending { status: FATAL, class: StatusCode::OK, message: None };
        }
        Ending::success()
    }

    /// Transfers LFS objects until the client quits or leaves.
    async fn lfs_transfer(
        &self,
        name: &str,
        operation: LfsOperation,
        input: Body,
        metrics: &ConversationMetrics,
    ) -> Ending {
        let Conversation { principal, output, .. } = self;
        let lfs = &self.host.services().lfs;
        if operation == LfsOperation::Upload
            && let Ok(Some(primary)) = lfs.uploads_go_to(name).await
        {
            return Ending::fatal(StatusCode::NOT_IMPLEMENTED, uploads_over_http(name, &primary));
        }
        let silence = self.host.limits().request_silence;
        let transfer = LfsTransfer::new(lfs, principal, name, operation, output, metrics);
        match transfer.run(input, silence).await {
            Ok(()) => Ending::success(),
            Err(error) => Ending::fatal(lfs_transfer::class_of(&error), error.to_string()),
        }
    }

    /// Answers with credentials for the LFS objects of a repository.
    async fn lfs_authenticate(&self, name: &str, operation: LfsOperation) -> Ending {
        let Some(tokens) = &self.host.access().lfs_tokens else {
            return Ending::fatal(StatusCode::NOT_IMPLEMENTED, "this host has no LFS tokens".into());
        };
        let token = tokens.mint(&self.key, name, operation.access());
        let answer = LfsAnswer {
            href: format!("{}/{name}/info/lfs", self.host.url().trim_end_matches('/')),
            header: LfsHeader { authorization: token.authorization },
            expires_in: token.seconds,
            expires_at: token.end.to_string(),
        };
        let mut text = serde_json::json!(answer).to_string();
        text.push('\n');
        match self.output.send(text.into()).await {
            Ok(()) => Ending::success(),
            Err(Gone) => Ending::fatal(StatusCode::REQUEST_TIMEOUT, "the client has left".into()),
        }
    }
}

/// Records the end of a command whose client is authenticated. Every command that did not break off ends here.
fn record(ending: &Ending, start: Instant, metrics: &mut ConversationMetrics, entry: &Entry) {
    metrics.ended(ending.class);
    let refusal = ending.message.as_deref().zip(code_of_status(ending.class.as_u16()));
    refusal.into_iter().for_each(|(message, code)| entry.refused(code, message));
    entry.responded(ending.class.as_u16());
    let milliseconds = start.elapsed().as_millis() as u64;
    tracing::info!(status = ending.status, milliseconds, "answered");
}

/// The text for a client that would send LFS objects over SSH to a replica. git-lfs asks for `git-lfs-authenticate` then.
fn uploads_over_http(name: &str, primary: &str) -> String {
    format!(
        "{name} is a replica here: its LFS objects are uploaded over HTTP to {primary}; git-lfs does so by itself, unless \
         lfs.sshtransfer is `always`"
    )
}

/// The text for a repository that is missing, and for one that the client may not read.
fn not_found(name: &str) -> String {
    format!("there is no repository {name}, or this key gives no access to it")
}

/// The end of a command that a service refuses. Logs failures of the region.
fn refused(refusal: &Refusal, name: &str) -> Ending {
    let (class, text) = refusal.explain();
    if let Refusal::Region(error) = refusal
        && !matches!(error, RegionError::Replaced { .. })
    {
        tracing::error!(%error, "a command failed");
    }
    let message = match refusal {
        Refusal::NotFound => not_found(name),
        _ => text,
    };
    Ending::fatal(class, message)
}
