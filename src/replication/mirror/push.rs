//! One push, and the pack that flows into it.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use super::error::MirrorError;
use crate::progress::Progress;
use gitferry_git::client::{ClientError, PackSourceError, PushReport, ReceivePack};
use gitferry_git::receive_pack::Command;

/// Phrases with which servers refuse a pack as too large.
const SIZE_WORDS: [&str; 5] =
    ["maximum allowed size", "too large", "size limit", "exceeds", "the most that is accepted"];
/// HTTP status 413, Content Too Large (RFC 9110).
const CONTENT_TOO_LARGE: u16 = 413;
/// HTTP statuses that proxies and servers also send when a request takes too long or too much memory.
const STRAINED: [u16; 4] = [408, 500, 502, 504];
/// Size in bytes from which a push may have failed because of its size.
const LARGE_BYTES: u64 = 1 << 20;
/// Failures of large pushes after which size is taken for the cause.
const MAX_STRAINS: u32 = 2;

/// Failures of large pushes that may be due to their size, over all attempts of one delivery.
#[derive(Debug, Default)]
pub struct LargePushFailures(AtomicU32);

impl LargePushFailures {
    /// Counts the failure of a push after `bytes`, which the target and not the source has caused. Returns true if
    /// smaller pushes should be tried.
    pub(super) fn add(&self, error: &MirrorError, bytes: u64) -> bool {
        let of_size = match error {
            MirrorError::Client(ClientError::Status { status, .. }) => STRAINED.contains(status),
            MirrorError::Client(ClientError::Connection { .. }) => true,
            _ => false,
        };
        of_size && bytes >= LARGE_BYTES && self.0.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_STRAINS
    }
}

/// Writes a pack to a push.
pub(super) type PackSource<'p> = &'p mut dyn FnMut(&mut dyn Write) -> Result<(), PackSourceError>;

/// Pushes once. If the answer is lost, the target's refs show if the push has happened.
pub(super) fn push(
    receive: &mut ReceivePack<'_>,
    commands: &[Command],
    pack: Option<PackSource<'_>>,
    atomic: bool,
) -> Result<PushReport, MirrorError> {
    let report = match receive.push_as(commands, pack, atomic) {
        Ok(report) => report,
        Err(ClientError::PackSource { server, error }) => return Err(of_source(server, error)),
        Err(ClientError::Status { status: CONTENT_TOO_LARGE, reason, .. } | ClientError::TooLarge { reason, .. }) => {
            return Err(MirrorError::TooLarge { target_url: receive.url().into(), reason });
        }
        // A server may fail after it has updated the last ref.
        Err(ClientError::Declined { message, .. }) => match receive.confirm(commands) {
            Ok(report) if report.is_ok() => report,
            _ => return Err(refused(receive.url(), message.to_string())),
        },
        Err(error) if error.kind().is_retryable() => match receive.confirm(commands) {
            Ok(report) if report.is_ok() => {
                tracing::info!(%error, "the answer to a push was lost, but the target's refs show that it has happened");
                report
            }
            _ => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    let Err(mut reason) = report.unpack else { return Ok(report) };
    // Messages of the sideband name the cause, which `unpack` often does not.
    if let Some(said) = report.messages.iter().find(|line| line.contains("fatal:") || line.contains("error:")) {
        reason = format!("{reason}: {said}");
    }
    Err(refused(receive.url(), reason))
}

/// Error for a push that was refused as a whole.
fn refused(target_url: &str, reason: String) -> MirrorError {
    let target_url = target_url.into();
    // JGit refuses one large object in these words; splitting the history would not make the object smaller.
    let is_object = reason.contains("Object too large");
    if !is_object && SIZE_WORDS.iter().any(|words| reason.contains(words)) {
        MirrorError::TooLarge { target_url, reason }
    } else {
        MirrorError::Unpack { target_url, reason }
    }
}

/// The error of the source, without the push around it.
fn of_source(server: String, error: PackSourceError) -> MirrorError {
    if let Some(too_large) = error.downcast_ref::<OverLimit>() {
        return MirrorError::TooLarge { target_url: server, reason: too_large.to_string() };
    }
    match error.downcast::<io::Error>().map(|error| ClientError::from_io(*error)) {
        Ok(Ok(error)) => error.into(),
        Ok(Err(error)) => ClientError::PackSource { server, error: error.into() }.into(),
        Err(error) => ClientError::PackSource { server, error }.into(),
    }
}

/// The pack exceeds `bytes_per_push`.
#[derive(Debug)]
struct OverLimit(u64);

impl fmt::Display for OverLimit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "it has more than {} bytes, the limit that `bytes_per_push` sets", self.0)
    }
}

impl std::error::Error for OverLimit {}

/// Passes a pack on, counts its bytes and enforces the limit.
pub(super) struct Flow<'p> {
    /// Counter of all passes.
    progress: &'p Progress,
    /// Most bytes.
    limit: Option<u64>,
    /// Bytes passed on so far.
    pub bytes: u64,
    /// True once the source has failed. The URL in an error does not tell the sides apart: a server behind a redirect
    /// has another one than the remote.
    pub source_failed: bool,
}

impl<'p> Flow<'p> {
    /// Nothing has flowed yet. `limit` is in bytes.
    pub fn new(progress: &'p Progress, limit: Option<u64>) -> Self {
        Flow { progress, limit, bytes: 0, source_failed: false }
    }

    /// Passes the pack on as it arrives.
    pub fn pass_on(&mut self, pack: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), PackSourceError> {
        loop {
            let data = match pack.fill_buf() {
                Ok(data) => data,
                Err(error) => {
                    self.source_failed = true;
                    return Err(error.into());
                }
            };
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
