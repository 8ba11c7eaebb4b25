//! `PUT …/info/head`: sets the default branch, which no push can do. The body has the format of Git's file `HEAD`:
//! `ref: refs/heads/BRANCH`. Links to this host as a remote with `provider = "gitferry"` send it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::announcer::Announcer;
use super::auth::Principal;
use super::client::Client;
use super::request::refusal::Refusal;
use gitferry_base::Kind;
use gitferry_engine::region::Region;
use gitferry_git::refname::MAX_REF_NAME_BYTES;
use gitferry_git::refs::RefName;

/// Largest body, in bytes: `ref: `, a ref name and white space.
const MAX_BODY_BYTES: usize = MAX_REF_NAME_BYTES + 16;

/// Sets the default branches of a region's repositories.
#[derive(Debug)]
pub struct DefaultBranches {
    region: Region,
    announcer: Announcer,
    idle_timeout: Duration,
}

impl DefaultBranches {
    /// Sets default branches in `region`. A body has to arrive within `idle_timeout`.
    pub fn new(region: Region, announcer: Announcer, idle_timeout: Duration) -> Self {
        DefaultBranches { region, announcer, idle_timeout }
    }

    /// Sets `HEAD` to an existing branch.
    pub async fn set(
        &self,
        principal: &Principal,
        repository: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refusal> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.split(';').next() != Some("text/plain") {
            return Err(Refusal::MediaType("text/plain"));
        }
        let reading = tokio::time::timeout(self.idle_timeout, axum::body::to_bytes(body, MAX_BODY_BYTES));
        let text = reading.await.map_err(|_| Refusal::IdleTimeout)?;
        let text = text.map_err(|_| Refusal::BadRequest(format!("the body has more than {MAX_BODY_BYTES} bytes")))?;
        let branch =
            branch_of(&text).ok_or_else(|| Refusal::BadRequest("the body is not `ref: refs/heads/BRANCH`".into()))?;
        Client::current().entry().parameter("defaultBranchName", branch.to_string());
        match self.region.repositories().set_default_branch(repository, &branch, false, &principal.actor()).await {
            Ok(item) => {
                self.announcer.committed(&item);
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            // A reason for the client: no such branch, a replica, a frozen repository.
            Err(error) if error.kind() == Kind::Refused => {
                Ok((StatusCode::CONFLICT, format!("{error}\n")).into_response())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn branch_of(text: &[u8]) -> Option<RefName> {
    let name = text.strip_prefix(b"ref:")?.trim_ascii();
    RefName::new(name).ok().filter(|name| name.as_bstr().starts_with(b"refs/heads/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        assert_eq!(branch_of(b"ref: refs/heads/topic/x\n"), RefName::new("refs/heads/topic/x").ok());
        for bad in [&b"refs/heads/main"[..], b"ref: refs/tags/v1", b"ref: main", b"", b"ref: refs/heads/a b", b"\xff"] {
            assert_eq!(branch_of(bad), None, "{bad:?}");
        }
    }
}
