//! Fetching and cloning over HTTP.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::runtime::Handle;

use super::auth::Access;
use super::route::Route;
use super::{Host, Refusal, body, check_content_type, git_response, on_thread, version};
use crate::git::protocol::{Service as GitService, Version, announce_service};
use crate::git::upload_pack::{Limits, ServeError, Session, advertise, serve};
use crate::region::blocking;

impl Host {
    /// What there is to fetch.
    pub(super) async fn advertise_fetch(&self, repository: &str, version: Version) -> Result<Response, Refusal> {
        let opened = self.views.open(repository).await?;
        let _slot = self.gate.enter().await?;
        let answer = blocking(move || {
            let mut out = Vec::new();
            // In version 2 the capabilities come alone.
            if version != Version::V2 {
                announce_service(GitService::UploadPack, &mut out)?;
            }
            let session = session(version);
            advertise(&opened.state.view, session, &mut out).map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(out)
        });
        let answer = answer.await.map_err(|error| Refusal::Region(error.into()))?;
        git_response("application/x-git-upload-pack-advertisement".into(), answer.into())
    }

    /// Answers one request of a fetch; the pack is sent while it is made.
    pub(super) async fn upload_pack(
        self: Arc<Self>,
        route: Route,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        self.authorize(headers, &route.repository, Access::Read)?;
        check_content_type(headers, "application/x-git-upload-pack-request")?;
        let session = session(version(headers));
        let opened = self.views.open(&route.repository).await?;
        let slot = self.gate.enter().await?;
        let input = body::begin(body::pieces(input, self.limits.request_silence)).await?;
        let runtime = Handle::current();
        let mut input = body::reader(headers, input, &runtime).map_err(Refusal::Bad)?;
        let (mut sender, answer) = body::channel(self.limits.response_silence, &runtime);
        let repository = route.repository;
        on_thread(move || {
            let work = slot.work(&runtime);
            input.pause(work.clone());
            sender.pause(work);
            let cancel = sender.gone();
            let served = serve(&opened.state.view, &mut input, session, &mut sender, &Limits::default(), &cancel);
            match served {
                Ok(served) => {
                    tracing::debug!(repository, ?served, "fetched");
                    // Whether the client takes the last of it is its own affair.
                    let _ = sender.finish();
                }
                Err(error) => {
                    note(&repository, &error);
                    sender.fail(error.to_string());
                }
            }
        })?;
        git_response("application/x-git-upload-pack-result".into(), answer)
    }
}

fn note(repository: &str, error: &ServeError) {
    match error.kind() {
        crate::Kind::Usage | crate::Kind::Transient => tracing::debug!(repository, %error, "a fetch ended early"),
        _ => tracing::error!(repository, %error, "a fetch failed"),
    }
}

fn session(version: Version) -> Session {
    Session { version, stateless: true, ref_in_want: false }
}
