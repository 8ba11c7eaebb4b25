//! Routing of LFS requests: from service and method to the action. Pure.

use axum::http::{Method, StatusCode};
use serde::Deserialize;

use super::refusal::LfsRefusal;
use crate::auth::Access;
use crate::request::route::{Route, Service};
use gitferry_git::lfs::LfsOid;

/// Operation of Git LFS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LfsOperation {
    /// Upload objects.
    Upload,
    /// Download objects.
    Download,
}

impl LfsOperation {
    /// Access that the operation needs.
    pub fn access(self) -> Access {
        match self {
            LfsOperation::Upload => Access::Write,
            LfsOperation::Download => Access::Read,
        }
    }
}

/// Request of the LFS API for a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LfsAction {
    /// Ask which objects are stored, and for the hrefs of the others.
    Batch,
    /// Ask if an uploaded object is stored.
    Verify,
    /// Upload an object.
    Upload(LfsOid),
    /// Download an object, or ask for its size (`HEAD`).
    Download(LfsOid),
}

impl LfsAction {
    /// The action of a request to an LFS service.
    ///
    /// # Errors
    /// The service is not offered (501), or has no such method (405).
    pub fn of(route: &Route, method: &Method) -> Result<LfsAction, LfsRefusal> {
        let oid = route.object.as_deref().and_then(|oid| oid.parse::<LfsOid>().ok());
        match (route.service, method, oid) {
            (Service::LfsBatch, &Method::POST, _) => Ok(LfsAction::Batch),
            (Service::LfsVerify, &Method::POST, _) => Ok(LfsAction::Verify),
            (Service::LfsObject, &Method::PUT, Some(oid)) => Ok(LfsAction::Upload(oid)),
            (Service::LfsObject, &Method::GET | &Method::HEAD, Some(oid)) => Ok(LfsAction::Download(oid)),
            (Service::LfsLocks, _, _) => {
                // git-lfs stops asking for locks after a 501.
                Err(LfsRefusal::new(StatusCode::NOT_IMPLEMENTED, "file locking is not supported"))
            }
            _ => Err(LfsRefusal::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")),
        }
    }

    /// Access that the action needs. A batch request needs more if it turns out to be for uploads.
    pub fn access(self) -> Access {
        match self {
            LfsAction::Batch | LfsAction::Download(_) => Access::Read,
            LfsAction::Verify | LfsAction::Upload(_) => Access::Write,
        }
    }
}
