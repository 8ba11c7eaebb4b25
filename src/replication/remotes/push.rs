//! One push, and the pack that flows into it.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use super::error::RemotesError;
use crate::progress::Progress;
use gitferry_git::client::{ClientError, PackSourceError, PushReport, ReceivePack};
use gitferry_git::receive_pack::Command;

/// What servers say of a pack that is larger than they take, in whatever words.
const SIZE_WORDS: [&str; 5] =
    ["maximum allowed size", "too large", "size limit", "exceeds", "the most that is accepted"];
/// The HTTP status for a request that is larger than is taken.
const CONTENT_TOO_LARGE: u16 = 413;
/// HTTP statuses that proxies and servers also give when a request takes them too long, or too much memory.
const STRAINED: [u16; 4] = [408, 500, 502, 504];
/// A push of so many bytes may have failed because of its size.
const LARGE_BYTES: u64 = 1 << 20;
/// How often a large push may fail before its size is taken for the cause.
const MAX_STRAINS: u32 = 2;

/// How often large pushes of one delivery have failed in a way that may have been their size, over all its attempts.
#[derive(Debug, Default)]
pub struct Strain(AtomicU32);

impl Strain {
    /// Notes the failure of a push to `target_url` after so many bytes. Whether smaller pushes are to be tried.
    pub(super) fn add(&self, error: &RemotesError, target_url: &str, bytes: u64) -> bool {
        let of_size = match error {
            RemotesError::Client(ClientError::Status { server, status, .. }) => {
                server == target_url && STRAINED.contains(status)
            }
            RemotesError::Client(ClientError::Connection { server, .. }) => server == target_url,
            _ => false,
        };
        of_size && bytes >= LARGE_BYTES && self.0.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_STRAINS
    }
}

/// What writes a pack.
pub(super) type PackSource<'p> = &'p mut dyn FnMut(&mut dyn Write) -> Result<(), PackSourceError>;

/// One push. Where its answer was lost, the target's refs tell whether it happened.
pub(super) fn push(
    receive: &mut ReceivePack<'_>,
    commands: &[Command],
    pack: Option<PackSource<'_>>,
    atomic: bool,
) -> Result<PushReport, RemotesError> {
    let report = match receive.push_as(commands, pack, atomic) {
        Ok(report) => report,
        Err(ClientError::PackSource { server, error }) => return Err(of_source(server, error)),
        Err(ClientError::Status { status: CONTENT_TOO_LARGE, reason, .. } | ClientError::TooLarge { reason, .. }) => {
            return Err(RemotesError::TooLarge { target_url: receive.url().into(), reason });
        }
        // It may have failed behind the last ref.
        Err(ClientError::Declined { message, .. }) => match receive.confirm(commands) {
            Ok(report) if report.is_ok() => report,
            _ => return Err(refused(receive.url(), message.to_string())),
        },
        Err(error) if error.kind().is_retryable() => match receive.confirm(commands) {
            Ok(report) if report.is_ok() => {
                tracing::info!(%error, "the answer to a push was lost, but it has happened");
                report
            }
            _ => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    let Err(mut reason) = report.unpack else { return Ok(report) };
    // What a server says in its own words is more than that its unpacking failed.
    if let Some(said) = report.messages.iter().find(|line| line.contains("fatal:") || line.contains("error:")) {
        reason = format!("{reason}: {said}");
    }
    Err(refused(receive.url(), reason))
}

/// The push as a whole is refused.
fn refused(target_url: &str, reason: String) -> RemotesError {
    let target_url = target_url.into();
    // One object that is too large (JGit) does not get smaller when the history is parted.
    let is_object = reason.contains("Object too large");
    match !is_object && SIZE_WORDS.iter().any(|words| reason.contains(words)) {
        true => RemotesError::TooLarge { target_url, reason },
        false => RemotesError::Unpack { target_url, reason },
    }
}

/// The source's own error, as it would have come without a push around it.
fn of_source(server: String, error: PackSourceError) -> RemotesError {
    if let Some(too_large) = error.downcast_ref::<OverLimit>() {
        return RemotesError::TooLarge { target_url: server, reason: too_large.to_string() };
    }
    match error.downcast::<io::Error>().map(|error| ClientError::from_io(*error)) {
        Ok(Ok(error)) => error.into(),
        Ok(Err(error)) => ClientError::PackSource { server, error: error.into() }.into(),
        Err(error) => ClientError::PackSource { server, error }.into(),
    }
}

/// There is more than one push may hold.
#[derive(Debug)]
struct OverLimit(u64);

impl fmt::Display for OverLimit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "it has more than {} bytes, which is what bytes_per_push says", self.0)
    }
}

impl std::error::Error for OverLimit {}

/// Counts a pack that flows.
pub(super) struct Flow<'p> {
    /// What all passes have carried.
    pub progress: &'p Progress,
    /// Most bytes that it may have.
    pub limit: Option<u64>,
    /// Bytes so far.
    pub bytes: u64,
}

impl Flow<'_> {
    /// Hands a pack on as it arrives.
    pub fn pass_on(&mut self, pack: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), PackSourceError> {
        loop {
            let data = pack.fill_buf()?;
            let count = data.len();
            if count == 0 {
                return Ok(());
            }
            self.bytes += count as u64;
            if let Some(limit) = self.limit.filter(|limit| self.bytes > *limit) {
                return Err(OverLimit(limit).into());
            }
            out.write_all(data)?;
            pack.consume(count);
            self.progress.bytes_copied.add(count as u64);
        }
    }
}
