//! Fetches and clones from the repositories of a region, and from pushes in quarantine.

pub mod upload_pack;

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::Response;

use crate::client::Client;
use crate::exchange::dialogue::Dialogue;
use crate::push::quarantines::Quarantines;
use crate::request::refusal::Refusal;
use crate::views::Views;
use gitferry_git::protocol::Version;
use upload_pack::UploadPack;

/// Fetches from the repositories of a region.
#[derive(Debug)]
pub struct Fetches {
    views: Arc<Views>,
    upload_pack: UploadPack,
}

impl Fetches {
    /// Fetches of the repositories that `views` opens.
    pub fn new(views: Arc<Views>, upload_pack: UploadPack) -> Self {
        Fetches { views, upload_pack }
    }

    /// Answers with the advertisement of upload-pack.
    pub async fn advertise(&self, repository: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        let opened = self.views.open(repository).await?;
        Client::current().entry().repository_id(opened.state().item.id);
        self.upload_pack.advertise(opened.state().view.clone(), headers).await
    }

    /// Answers one request of a fetch.
    pub async fn serve(&self, repository: &str, headers: &HeaderMap, input: Body) -> Result<Response, Refusal> {
        let opened = self.views.open(repository).await?;
        Client::current().entry().repository_id(opened.state().item.id);
        self.upload_pack.serve(repository, opened.state().view.clone(), headers, input).await
    }

    /// Serves a fetch as a conversation with state, from the advertisement on.
    pub async fn converse(&self, repository: &str, version: Version, input: Body) -> Result<Dialogue, Refusal> {
        let opened = self.views.open(repository).await?;
        Client::current().entry().repository_id(opened.state().item.id);
        self.upload_pack.converse(repository, opened.state().view.clone(), version, input).await
    }
}

/// Fetches of hooks from pushes in quarantine. They have an admission control of their own: a push waits for its hook
/// while it holds a slot.
#[derive(Debug)]
pub struct QuarantineFetches {
    quarantines: Option<Arc<Quarantines>>,
    upload_pack: UploadPack,
}

impl QuarantineFetches {
    /// Fetches from the pushes in `quarantines`.
    pub fn new(quarantines: Option<Arc<Quarantines>>, upload_pack: UploadPack) -> Self {
        QuarantineFetches { quarantines, upload_pack }
    }

    /// Answers a request for `<secret>/info/refs` or `<secret>/git-upload-pack`.
    pub async fn answer(&self, path: &str, request: &Parts, input: Body) -> Result<Response, Refusal> {
        let (secret, service) = path.split_once('/').ok_or(Refusal::NotFound)?;
        let quarantines = self.quarantines.as_ref().ok_or(Refusal::NotFound)?;
        let view = quarantines.find(secret).ok_or(Refusal::NotFound)?;
        match (service, &request.method) {
            ("info/refs", &Method::GET) => self.upload_pack.advertise(view, &request.headers).await,
            ("git-upload-pack", &Method::POST) => {
                self.upload_pack.serve("a quarantine", view, &request.headers, input).await
            }
            _ => Err(Refusal::NotFound),
        }
    }
}
