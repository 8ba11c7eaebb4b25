//! Git LFS over HTTP: the Batch API and the basic transfer (git-lfs `docs/api/batch.md`, `basic-transfers.md`); and the
//! same work for `git-lfs-transfer` over SSH.
//!
//! All responses are JSON of the LFS media type, refusals included. The hrefs point to this host: objects are
//! transferred through it, not by presigned URLs.

mod action;
mod batch;
mod download;
mod endpoint;
mod forward;
mod json;
mod refusal;
mod repositories;
mod request;
mod upload;

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::response::Response;

use crate::admission::AdmissionMetrics;
use crate::auth::Principal;
use crate::metrics::Metrics;
use crate::push::policies::PushPolicies;
pub use action::{LfsAction, LfsOperation};
use batch::Batch;
use download::Downloads;
pub use endpoint::Endpoints;
use gitferry_config::HostLimits;
use gitferry_engine::region::Region;
use gitferry_git::lfs::{LfsOid, Pointer};
pub use refusal::LfsRefusal;
pub use repositories::Repositories;
use upload::Uploads;

/// Git LFS for the repositories of a region.
#[derive(Debug)]
pub struct LfsService {
    batch: Batch,
    uploads: Uploads,
    downloads: Downloads,
}

impl LfsService {
    /// Serves the LFS objects of `region`, within `limits` of its own for transfers.
    pub fn new(
        region: &Region,
        repositories: Repositories,
        endpoints: Endpoints,
        policies: &Arc<PushPolicies>,
        limits: &HostLimits,
        metrics: &Metrics,
    ) -> Self {
        let repositories = Arc::new(repositories);
        // Transfers do not compute.
        let queue = |name| AdmissionMetrics { requests: metrics.queue(name), ..AdmissionMetrics::default() };
        LfsService {
            batch: Batch::new(region.clone(), repositories.clone(), endpoints, policies.clone(), limits),
            uploads: Uploads::new(region.clone(), repositories.clone(), policies.clone(), limits, queue("lfs_uploads")),
            downloads: Downloads::new(region.clone(), repositories, limits, queue("lfs_downloads")),
        }
    }

    /// Answers the request of a principal who may do `action` on the repository `name`.
    pub async fn serve(
        &self,
        action: LfsAction,
        principal: &Principal,
        name: &str,
        request: &Parts,
        body: Body,
    ) -> Result<Response, LfsRefusal> {
        match action {
            LfsAction::Batch => self.batch.answer(principal, name, request, body).await,
            LfsAction::Verify => self.batch.verify(name, request, body).await,
            LfsAction::Upload(oid) => self.uploads.receive(principal, name, oid, request, body).await,
            LfsAction::Download(oid) => self.downloads.send(name, oid, request).await,
        }
    }

    /// URL of the host to which uploads to the repository `name` are forwarded; `None` if this host takes them, or refuses.
    ///
    /// # Errors
    /// The repository is missing, and no push creates it.
    pub async fn uploads_go_to(&self, name: &str) -> Result<Option<String>, LfsRefusal> {
        self.batch.uploads_go_to(name).await
    }

    /// Decides for a principal who may do `operation` on the repository `name` which objects are to be transferred.
    ///
    /// # Errors
    /// The operation is not possible in this region.
    pub async fn plan(
        &self,
        principal: &Principal,
        name: &str,
        operation: LfsOperation,
        pointers: &[Pointer],
    ) -> Result<Vec<bool>, LfsRefusal> {
        self.batch.plan(principal, name, operation, pointers).await
    }

    /// Receives the object of a principal who may write. Returns once it is durable.
    ///
    /// # Errors
    /// The object is refused, or could not be stored.
    pub async fn upload(
        &self,
        principal: &Principal,
        name: &str,
        pointer: Pointer,
        body: Body,
    ) -> Result<(), LfsRefusal> {
        self.uploads.receive_pointed(principal, name, pointer, body).await
    }

    /// Refuses an object that is not stored with this size.
    ///
    /// # Errors
    /// There is none, or another one.
    pub async fn verify(&self, name: &str, pointer: Pointer) -> Result<(), LfsRefusal> {
        self.batch.check_stored(name, pointer).await
    }

    /// An object for a principal who may read: its size in bytes, and the bytes.
    ///
    /// # Errors
    /// There is no such object, or it cannot be read.
    pub async fn download(&self, name: &str, oid: LfsOid) -> Result<(u64, Body), LfsRefusal> {
        self.downloads.whole(name, oid).await
    }
}
