//! Fetching and cloning over HTTP.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::response::Response;

use super::auth::Access;
use super::gate::Gate;
use super::route::Route;
use super::{Conversation, Host, Refusal, check_content_type, git_response, on_thread, version};
use gitferry_base::Kind;
use gitferry_engine::region::{RegionError, blocking};
use gitferry_git::protocol::{MAX_LINE_BYTES, Service as GitService, Version, announce_service};
use gitferry_git::upload_pack::{Limits, ServeError, Session, advertise, serve};
use gitferry_git::view::View;

/// Most bytes of a request that came compressed: as many as its lines may have.
const MAX_INFLATED_BYTES: u64 = MAX_LINE_BYTES;

impl Host {
    /// What there is to fetch.
    pub(super) async fn advertise_fetch(&self, repository: &str, version: Version) -> Result<Response, Refusal> {
        let opened = self.views.open(repository).await?;
        self.advertise_view(&self.gate, opened.state.view.clone(), version).await
    }

    /// Answers one request of a fetch; the pack is sent while it is made.
    pub(super) async fn upload_pack(
        self: Arc<Self>,
        route: Route,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        self.authorize(headers, &route.repository, Access::Read)?;
        let opened = self.views.open(&route.repository).await?;
        let view = opened.state.view.clone();
        self.serve_view(&self.gate, route.repository, view, headers, input).await
    }

    /// Fetching from a push that a hook is looking at: `<secret>/info/refs` and `<secret>/git-upload-pack`.
    pub(super) async fn quarantined(self: Arc<Self>, path: &str, request: Request) -> Result<Response, Refusal> {
        let (secret, service) = path.split_once('/').ok_or(Refusal::NotFound)?;
        let view = self.quarantines.as_ref().and_then(|shown| shown.find(secret)).ok_or(Refusal::NotFound)?;
        let (parts, input) = request.into_parts();
        match (service, &parts.method) {
            ("info/refs", &Method::GET) => self.advertise_view(&self.hook_gate, view, version(&parts.headers)).await,
            ("git-upload-pack", &Method::POST) => {
                self.serve_view(&self.hook_gate, "a quarantine".into(), view, &parts.headers, input).await
            }
            _ => Err(Refusal::NotFound),
        }
    }

    async fn advertise_view(&self, gate: &Gate, view: View, version: Version) -> Result<Response, Refusal> {
        if version != Version::V2 {
            // What can fail comes before the answer begins.
            let view = view.clone();
            blocking(move || view.peeled_tags().map(drop).map_err(RegionError::from)).await?;
        }
        let session = self.session(version);
        let answer = self.written(gate, move |out| {
            // In version 2 the capabilities come alone.
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
        gate: &Gate,
        repository: String,
        view: View,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        check_content_type(headers, "application/x-git-upload-pack-request")?;
        let session = self.session(version(headers));
        let Conversation { slot, input, mut sender, answer, runtime } =
            self.converse(gate, headers, input, MAX_INFLATED_BYTES).await?;
        on_thread(move || {
            let work = slot.work(&runtime);
            let mut input = input();
            input.pause(work.clone());
            sender.pause(work);
            let cancel = sender.gone();
            let served = serve(&view, &mut input, session, &mut sender, &Limits::default(), &cancel);
            match served {
                Ok(served) => {
                    tracing::debug!(repository, ?served, "fetched");
                    // Whether the client takes the last of it is its own affair.
                    let _ = sender.finish();
                    input.drain();
                }
                Err(error) => {
                    note(&repository, &error);
                    match error.for_client() {
                        // An answer that fails might take back what the client has just been told.
                        Some(_) => {
                            let _ = sender.finish();
                            input.drain();
                        }
                        None => sender.fail(error.to_string()),
                    }
                }
            }
        })?;
        git_response("application/x-git-upload-pack-result".into(), answer)
    }
}

fn note(repository: &str, error: &ServeError) {
    match error.kind() {
        Kind::Usage | Kind::Refused | Kind::NotFound | Kind::Transient => {
            tracing::debug!(repository, %error, "a fetch ended early");
        }
        _ => tracing::error!(repository, %error, "a fetch failed"),
    }
}
