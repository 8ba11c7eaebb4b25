//! Fetching and cloning over HTTP.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;

use super::auth::Access;
use super::route::Route;
use super::{Host, Refusal, body, git_response, version};
use crate::git::protocol::{Service as GitService, Version, announce_service};
use crate::git::upload_pack::{Limits, ServeError, Session, advertise, serve};
use crate::region::{RegionError, blocking};

impl Host {
    /// What there is to fetch.
    pub(super) async fn advertise_fetch(&self, repository: &str, version: Version) -> Result<Response, Refusal> {
        let mut opened = self.views.open(repository).await?;
        if version != Version::V2 {
            // What can fail comes before the answer begins.
            let peeling = blocking(move || {
                opened.state.view.peeled_tags()?;
                Ok::<_, RegionError>(opened)
            });
            opened = peeling.await?;
        }
        let answer = self.written(move |out| {
            // In version 2 the capabilities come alone.
            if version != Version::V2 {
                announce_service(GitService::UploadPack, out)?;
            }
            advertise(&opened.state.view, session(version), out).map_err(std::io::Error::other)
        });
        git_response("application/x-git-upload-pack-advertisement".into(), answer.await)
    }

    /// Answers one request of a fetch; the pack is sent while it is made.
    pub(super) async fn upload_pack(
        self: Arc<Self>,
        route: Route,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        self.authorize(headers, &route.repository, Access::Read)?;
        let session = session(version(headers));
        let opened = self.views.open(&route.repository).await?;
        let permit = self.gate.clone().acquire_owned().await;
        let (mut sender, answer) = body::channel();
        let repository = route.repository;
        let mut input = body::reader(headers, input).map_err(Refusal::Bad)?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let cancel = AtomicBool::new(false);
            let served = serve(&opened.state.view, &mut input, session, &mut sender, &Limits::default(), &cancel);
            match served {
                Ok(served) => tracing::debug!(repository, ?served, "fetched"),
                Err(error) => {
                    note(&repository, &error);
                    sender.fail(error.to_string());
                }
            }
        });
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
