//! Upload-pack over HTTP: advertisements and requests of fetches from a view.

use std::io::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::client::Client;
use crate::exchange::dialogue::{Dialogue, Failed};
use crate::exchange::{Exchange, Exchanges};
use crate::metrics::Metrics;
use crate::request::git_http::{check_content_type, git_response, version};
use crate::request::refusal::Refusal;
use gitferry_audit::Entry;
use gitferry_base::Kind;
use gitferry_engine::region::{RegionError, blocking};
use gitferry_git::protocol::{MAX_LINE_BYTES, Service, Version, announce_service};
use gitferry_git::upload_pack::{Limits, ServeError, Session, advertise, serve};
use gitferry_git::view::View;

/// Most decompressed bytes of a compressed request: the limit of its lines.
const MAX_INFLATED_BYTES: u64 = MAX_LINE_BYTES;

/// Serves fetches from views.
#[derive(Debug)]
pub struct UploadPack {
    exchanges: Arc<Exchanges>,
    metrics: Arc<Metrics>,
    /// True if fetches may want refs by name (`ref-in-want` of protocol version 2).
    ref_in_want: bool,
}

impl UploadPack {
    /// Serves fetches that are admitted by `exchanges`.
    pub fn new(exchanges: Arc<Exchanges>, metrics: Arc<Metrics>, ref_in_want: bool) -> Self {
        UploadPack { exchanges, metrics, ref_in_want }
    }

    /// Answers with the advertisement of a view.
    pub async fn advertise(&self, view: View, headers: &HeaderMap) -> Result<Response, Refusal> {
        let version = version(headers);
        prepare(&view, version).await?;
        let session = self.session(version);
        let response = self.exchanges.respond(move |out| {
            // Protocol version 2 advertises capabilities without the service line.
            if version != Version::V2 {
                announce_service(Service::UploadPack, out)?;
            }
            advertise(&view, session, out).map_err(std::io::Error::other)
        });
        Ok(git_response("application/x-git-upload-pack-advertisement", response.await?))
    }

    /// Answers one request of a fetch. The pack is streamed while it is generated. `repository` is for the log.
    pub async fn serve(
        &self,
        repository: &str,
        view: View,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        check_content_type(headers, "application/x-git-upload-pack-request")?;
        let session = self.session(version(headers));
        let repository = repository.to_owned();
        let metrics = self.metrics.clone();
        let entry = Client::current().entry().clone();
        let work = move |exchange| run(&repository, &view, session, exchange, &metrics, &entry);
        let response = self.exchanges.run(headers, input, MAX_INFLATED_BYTES, work).await?;
        Ok(git_response("application/x-git-upload-pack-result", response))
    }

    /// Serves a fetch as a conversation with state: the advertisement, then requests until the client needs no more, all
    /// from the same view. `repository` is for the log.
    pub async fn converse(
        &self,
        repository: &str,
        view: View,
        version: Version,
        input: Body,
    ) -> Result<Dialogue, Refusal> {
        prepare(&view, version).await?;
        let session = Session { stateless: false, ..self.session(version) };
        let repository = repository.to_owned();
        let metrics = self.metrics.clone();
        let failed = Failed::default();
        let thread_failed = failed.clone();
        let entry = Client::current().entry().clone();
        let work = move |exchange| converse(&repository, &view, session, exchange, &metrics, &entry, &thread_failed);
        let output = self.exchanges.converse(input, work).await?;
        Ok(Dialogue::new(output, failed))
    }

    fn session(&self, version: Version) -> Session {
        Session { version, stateless: true, ref_in_want: self.ref_in_want, thorough: false, own: false }
    }
}

/// Reads what the advertisement needs: a failure has to come before the response begins.
async fn prepare(view: &View, version: Version) -> Result<(), RegionError> {
    if version == Version::V2 {
        return Ok(());
    }
    let view = view.clone();
    blocking(move || view.peeled_tags().map(drop).map_err(RegionError::from)).await
}

/// Serves a conversation on its thread.
fn converse(
    repository: &str,
    view: &View,
    session: Session,
    exchange: Exchange,
    metrics: &Metrics,
    entry: &Entry,
    failed: &Failed,
) {
    let Exchange { mut input, mut output, compute, .. } = exchange;
    output.release_while_waiting(compute);
    let cancel = output.disconnected();
    let mut answer = || {
        advertise(view, session, &mut output)?;
        loop {
            let served = serve(view, &mut input, session, &mut output, &Limits::default(), &cancel)?;
            tracing::debug!(repository, ?served, "fetched");
            metrics.fetched(&served);
            if served.pack.is_some() {
                entry.data_transferred();
            }
            if !served.may_follow {
                return Ok(());
            }
        }
    };
    let result: Result<(), ServeError> = answer();
    let Err(error) = result else {
        // The answer is complete; a client that disconnects now loses only its own copy.
        let _ = output.finish();
        return;
    };
    log_failure(repository, &error);
    record_failure(entry, &error);
    match error.for_client() {
        Some(_) => {
            failed.set();
            let _ = output.flush();
            input.drain();
            let _ = output.finish();
        }
        None => output.fail(error.to_string()),
    }
}

/// Serves one request on its thread.
fn run(repository: &str, view: &View, session: Session, exchange: Exchange, metrics: &Metrics, entry: &Entry) {
    let Exchange { mut input, mut output, compute, .. } = exchange;
    output.release_while_waiting(compute);
    let cancel = output.disconnected();
    match serve(view, &mut input, session, &mut output, &Limits::default(), &cancel) {
        Ok(served) => {
            tracing::debug!(repository, ?served, "fetched");
            metrics.fetched(&served);
            if served.pack.is_some() {
                entry.data_transferred();
            }
            // The response is complete; a client that disconnects now loses only its own copy.
            let _ = output.finish();
            input.drain();
        }
        Err(error) => {
            log_failure(repository, &error);
            record_failure(entry, &error);
            match error.for_client() {
                // The error is in the response already; aborting the body could discard it.
                Some(_) => {
                    let _ = output.finish();
                    input.drain();
                }
                None => output.fail(error.to_string()),
            }
        }
    }
}

/// Records a failure in the audit trail.
fn record_failure(entry: &Entry, error: &ServeError) {
    let reason = error.for_client().unwrap_or_else(|| "the client hung up".into());
    if is_of_client(error) {
        entry.aborted(&reason);
    } else {
        entry.refused("InternalFailure", &reason);
    }
}

fn log_failure(repository: &str, error: &ServeError) {
    if is_of_client(error) {
        tracing::debug!(repository, %error, "a fetch ended early");
    } else {
        tracing::error!(repository, %error, "a fetch failed");
    }
}

/// Returns true for errors of clients, and for those that another attempt mends.
fn is_of_client(error: &ServeError) -> bool {
    matches!(error.kind(), Kind::Usage | Kind::Refused | Kind::NotFound | Kind::Transient)
}
