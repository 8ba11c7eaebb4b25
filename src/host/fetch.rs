//! Fetches and clones over HTTP, from repositories and from pushes in quarantine.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::response::Response;

use super::admission::Admission;
use super::auth::Access;
use super::route::Route;
use super::{Exchange, Host, Refusal, check_content_type, git_response, spawn_request_thread, version};
use gitferry_base::Kind;
use gitferry_engine::region::{RegionError, blocking};
use gitferry_git::protocol::{MAX_LINE_BYTES, Service as GitService, Version, announce_service};
use gitferry_git::upload_pack::{Limits, ServeError, Session, advertise, serve};
use gitferry_git::view::View;

/// Most decompressed bytes of a compressed request: the limit of its lines.
const MAX_INFLATED_BYTES: u64 = MAX_LINE_BYTES;

impl Host {
    /// Answers with the advertisement of upload-pack.
    pub(super) async fn advertise_fetch(&self, repository: &str, version: Version) -> Result<Response, Refusal> {
        let opened = self.views.open(repository).await?;
        self.advertise_view(&self.admission, opened.state.view.clone(), version).await
    }

    /// Answers one request of a fetch. The pack is streamed while it is generated.
    pub(super) async fn upload_pack(
        self: Arc<Self>,
        route: Route,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        self.authorize(headers, &route.repository, Access::Read)?;
        let opened = self.views.open(&route.repository).await?;
        let view = opened.state.view.clone();
        self.serve_view(&self.admission, route.repository, view, headers, input).await
    }

    /// Serves a fetch from a push in quarantine: `<secret>/info/refs` and `<secret>/git-upload-pack`.
    pub(super) async fn quarantined(self: Arc<Self>, path: &str, request: Request) -> Result<Response, Refusal> {
        let (secret, service) = path.split_once('/').ok_or(Refusal::NotFound)?;
        let view = self.quarantines.as_ref().and_then(|shown| shown.find(secret)).ok_or(Refusal::NotFound)?;
        let (parts, input) = request.into_parts();
        match (service, &parts.method) {
            ("info/refs", &Method::GET) => {
                self.advertise_view(&self.hook_admission, view, version(&parts.headers)).await
            }
            ("git-upload-pack", &Method::POST) => {
                self.serve_view(&self.hook_admission, "a quarantine".into(), view, &parts.headers, input).await
            }
            _ => Err(Refusal::NotFound),
        }
    }

    async fn advertise_view(&self, admission: &Admission, view: View, version: Version) -> Result<Response, Refusal> {
        if version != Version::V2 {
            // Reads the peeled tags now: a failure has to come before the response begins.
            let view = view.clone();
            blocking(move || view.peeled_tags().map(drop).map_err(RegionError::from)).await?;
        }
        let session = self.session(version);
        let answer = self.stream_response(admission, move |out| {
            // Protocol version 2 advertises capabilities without the service line.
            if version != Version::V2 {
                announce_service(GitService::UploadPack, out)?;
            }
            advertise(&view, session, out).map_err(std::io::Error::other)
        });
        git_response("application/x-git-upload-pack-advertisement".into(), answer.await?)
    }

    fn session(&self, version: Version) -> Session {
        Session { version, stateless: true, ref_in_want: self.ref_in_want, thorough: false, own: false }
    }

    async fn serve_view(
        &self,
        admission: &Admission,
        repository: String,
        view: View,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        check_content_type(headers, "application/x-git-upload-pack-request")?;
        let session = self.session(version(headers));
        let Exchange { slot, input, mut sender, response, runtime } =
            self.begin_exchange(admission, headers, input, MAX_INFLATED_BYTES).await?;
        spawn_request_thread(move || {
            let compute = slot.begin_compute(&runtime);
            let mut input = input();
            input.release_while_waiting(compute.clone());
            sender.release_while_waiting(compute);
            let cancel = sender.disconnected();
            let served = serve(&view, &mut input, session, &mut sender, &Limits::default(), &cancel);
            match served {
                Ok(served) => {
                    tracing::debug!(repository, ?served, "fetched");
                    // The response is complete; a client that disconnects now loses only its own copy.
                    let _ = sender.finish();
                    input.drain();
                }
                Err(error) => {
                    log_failure(&repository, &error);
                    match error.for_client() {
                        // The error is in the response already; aborting the body could discard it.
                        Some(_) => {
                            let _ = sender.finish();
                            input.drain();
                        }
                        None => sender.fail(error.to_string()),
                    }
                }
            }
        })?;
        git_response("application/x-git-upload-pack-result".into(), response)
    }
}

fn log_failure(repository: &str, error: &ServeError) {
    match error.kind() {
        Kind::Usage | Kind::Refused | Kind::NotFound | Kind::Transient => {
            tracing::debug!(repository, %error, "a fetch ended early");
        }
        _ => tracing::error!(repository, %error, "a fetch failed"),
    }
}
