//! `PUT …/info/head`: sets the default branch, which no push can do. The body has the format of Git's file `HEAD`:
//! `ref: refs/heads/BRANCH`. Links to this host as a remote with `provider = "gitferry"` send it.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::auth::Access;
use super::route::Route;
use super::{Host, Refusal};
use gitferry_base::Kind;
use gitferry_engine::announce::Event;
use gitferry_git::refname::MAX_REF_NAME_BYTES;
use gitferry_git::refs::RefName;

/// Largest body, in bytes: `ref: `, a ref name and white space.
const MAX_BODY_BYTES: usize = MAX_REF_NAME_BYTES + 16;

impl Host {
    /// Sets `HEAD` to an existing branch, for a client with write access.
    pub(super) async fn put_head(&self, route: &Route, parts: &Parts, body: Body) -> Result<Response, Refusal> {
        let identity = self.authorize(&parts.headers, &route.repository, Access::Write)?;
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.split(';').next() != Some("text/plain") {
            return Err(Refusal::MediaType("text/plain"));
        }
        let reading = tokio::time::timeout(self.limits.request_silence, axum::body::to_bytes(body, MAX_BODY_BYTES));
        let text = reading.await.map_err(|_| Refusal::IdleTimeout)?;
        let text = text.map_err(|_| Refusal::BadRequest(format!("the body has more than {MAX_BODY_BYTES} bytes")))?;
        let branch =
            branch_of(&text).ok_or_else(|| Refusal::BadRequest("the body is not `ref: refs/heads/BRANCH`".into()))?;
        match self.region.set_default_branch(&route.repository, &branch, false, &identity.name).await {
            Ok(item) => {
                let seq = item.head.frontier.seq;
                self.events.publish(Event { region: self.region.name.clone(), repository: item.id, seq });
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
