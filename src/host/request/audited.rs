//! Facts of a request over HTTP for the audit trail.

use axum::http::request::Parts;
use axum::http::{HeaderName, Method, StatusCode, header};

use super::git_http::version;
use super::route::{Route, Service, advertised};
use crate::auth::{Denied, claimed_user};
use crate::client::Client;
use crate::forward::headers::forwarded_by;
use gitferry_audit::{Action, Caller, Entry, Protocol, code_of_status};
use gitferry_git::protocol::Service as GitService;

/// Longest name of a region that another host claims, in characters.
const MAX_REGION_CHARACTERS: usize = 64;

/// Records the client of a request. `secure` if the request was encrypted, as far as the host knows.
pub fn begin(client: &Client, request: &Parts, secure: bool, account: Option<String>) {
    let entry = client.entry();
    let text = |name: HeaderName| request.headers.get(name).and_then(|value| value.to_str().ok());
    let asked = client.asked_host().or(request.uri.authority()).map(|host| host.as_str());
    let host = asked.or_else(|| text(header::HOST)).unwrap_or_default();
    entry.caller(Caller {
        protocol: Protocol::Http,
        request_id: client.request_id().to_owned(),
        source: client.address(),
        user_agent: text(header::USER_AGENT).unwrap_or_default().to_owned(),
        tls_host: secure.then(|| host.to_owned()),
    });
    entry.account(account);
    entry.detail("httpVersion", format!("{:?}", request.version));
    if let Some(region) = forwarded_by(&request.headers) {
        entry.detail("forwardedBy", region.chars().take(MAX_REGION_CHARACTERS).collect::<String>());
    }
}

/// Records the repository and the action that a request asks for.
pub fn repository(entry: &Entry, route: &Route, request: &Parts) {
    entry.repository(&route.repository);
    entry.action(action_of(route, &request.method, request.uri.query()));
    if route.service.is_lfs() {
        entry.protocol(Protocol::Lfs);
    } else {
        entry.detail("protocolVersion", version(&request.headers).number());
    }
}

/// Records a refusal under the code of its status, unless one is recorded.
pub fn refused(entry: &Entry, status: StatusCode, reason: &str) {
    if let Some(code) = code_of_status(status.as_u16()) {
        entry.refused(code, reason);
    }
}

/// Records a client that has proven nothing, with the name that it gives.
pub fn unproven(entry: &Entry, denied: Denied, request: &Parts) {
    let claimed = claimed_user(&request.headers, request.uri.query());
    if let Some(user) = &claimed {
        entry.claimed(user);
    }
    if denied == Denied::Unknown {
        match claimed {
            None => entry.refused("MissingAuthenticationTokenException", "the request has no credentials"),
            Some(_) => entry.refused("UnrecognizedClientException", "the credentials are unknown, wrong or inactive"),
        }
    }
}

/// The action of a request. As in CodeCommit, listing the refs for a push is a `GitPush` that changes nothing.
fn action_of(route: &Route, method: &Method, query: Option<&str>) -> Action {
    let pull = || Action::new("GitPull");
    let push = || Action::new("GitPush");
    match route.service {
        Service::InfoRefs => match advertised(query) {
            Some(GitService::ReceivePack) => push(),
            Some(GitService::UploadPack) | None => pull(),
        },
        Service::UploadPack | Service::Frontier | Service::LfsBatch | Service::LfsLocks => pull(),
        Service::ReceivePack => push().writes(),
        Service::Head => Action::new("UpdateDefaultBranch").writes(),
        Service::LfsVerify => push(),
        Service::LfsObject if method == Method::PUT => push().writes(),
        Service::LfsObject => pull(),
    }
}
