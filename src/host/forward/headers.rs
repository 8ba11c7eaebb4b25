//! Headers of forwarded requests.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::auth::{Denied, Principal};
use crate::request::refusal::Refusal;
use gitferry_audit::UserIdentity;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::{Region, RegionError};
use gitferry_iam::{Bearer, Delegated};

/// Header of a forwarded request: the region that forwarded it. A replica does not forward such a request again.
const FORWARDED_BY: HeaderName = HeaderName::from_static("gitferry-forwarded-by");
/// Header of a forwarded request: id of the repository. A name may denote different repositories in two regions for a
/// while; a host refuses a request whose name denotes another repository here.
const REPOSITORY: HeaderName = HeaderName::from_static("gitferry-repository");

/// Service of a repository that answers with its refs.
pub const REFS: &str = "/info/refs";
/// Header of a forwarded request: address of the client, as proxies send it.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The region that forwarded the request; `None` if the client sent it directly.
pub fn forwarded_by(headers: &HeaderMap) -> Option<&str> {
    headers.get(FORWARDED_BY).map(|value| value.to_str().unwrap_or("another region"))
}

/// Refuses a forwarded request whose name denotes another repository here than in the region that forwarded it. `here`
/// is the repository of that name in this region. Requests without a repository id pass.
pub fn check_repository_id(
    headers: &HeaderMap,
    name: &str,
    region: &str,
    here: Option<RepositoryId>,
) -> Result<(), Refusal> {
    let Some(expected) = headers.get(REPOSITORY) else { return Ok(()) };
    let expected: Option<RepositoryId> = expected.to_str().ok().and_then(|id| id.parse().ok());
    match expected {
        None => Err(Refusal::BadRequest(format!("the header {REPOSITORY} is not a repository id"))),
        Some(id) if here == Some(id) => Ok(()),
        Some(id) => Err(RegionError::Replaced { name: name.into(), region: region.into(), id }.into()),
    }
}

/// Headers of a client's request that go on as they are, apart from its credentials.
const PASSED_ON: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ACCEPT,
    header::USER_AGENT,
    HeaderName::from_static("git-protocol"),
];

/// Request of a client that goes on to the host of another region.
#[derive(Clone, Debug)]
pub struct ForwardedRequest {
    /// Client, as this host has authenticated it.
    pub principal: Principal,
    /// Name of the repository.
    pub repository: String,
    /// Repository in this region; `None` if the request creates it.
    pub id: Option<RepositoryId>,
    /// Headers of the client's request.
    pub headers: HeaderMap,
}

impl ForwardedRequest {
    /// Path of one of the repository's services, below the URL of a host.
    pub fn path(&self, service: &str) -> String {
        format!("{}{service}", self.repository)
    }

    /// Delegation of the client to the host of region `to`; `None` if that host has to see the client's own credentials.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if no delegation can be made.
    pub fn delegation(
        &self,
        from: &Region,
        to: &str,
        service: &str,
        bearer: Bearer,
    ) -> Result<Option<HeaderValue>, Denied> {
        let requests = Delegated { from: from.name(), to, repository: &self.repository, service, bearer };
        self.principal.delegate(&requests, from.clock().now())
    }

    /// Credentials that the client sent itself.
    pub fn own_credentials(&self) -> Option<&HeaderValue> {
        self.headers.get(header::AUTHORIZATION)
    }

    /// Value of the header `Authorization` of one request to a service of the host of region `to`.
    ///
    /// # Errors
    /// As of [`ForwardedRequest::delegation`].
    pub fn credentials(&self, from: &Region, to: &str, service: &str) -> Result<Option<HeaderValue>, Denied> {
        let delegation = self.delegation(from, to, service, Bearer::Host)?;
        Ok(delegation.or_else(|| self.own_credentials().cloned()))
    }

    /// Returns true if the host of region `to` can know the client of a command over SSH, who has sent no credentials: by a
    /// delegation, or because hosts without authentication serve everyone.
    ///
    /// # Errors
    /// As of [`ForwardedRequest::delegation`].
    pub fn is_known_at(&self, from: &Region, to: &str) -> Result<bool, Denied> {
        if *self.principal.identity() == UserIdentity::anonymous() {
            return Ok(true);
        }
        Ok(self.delegation(from, to, REFS, Bearer::Host)?.is_some())
    }

    /// Headers of the request to a service of the host of region `to`, with the marks of a forwarded one.
    ///
    /// # Errors
    /// As of [`ForwardedRequest::credentials`].
    pub fn headers(&self, from: &Region, to: &str, service: &str) -> Result<HeaderMap, Denied> {
        let mut forwarded: HeaderMap =
            PASSED_ON.into_iter().filter_map(|name| Some((name.clone(), self.headers.get(name)?.clone()))).collect();
        let credentials = self.credentials(from, to, service)?;
        credentials.map(|value| forwarded.insert(header::AUTHORIZATION, value));
        let region = HeaderValue::from_str(from.name()).unwrap_or(HeaderValue::from_static("another region"));
        forwarded.insert(FORWARDED_BY, region);
        let id = self.id.and_then(|id| HeaderValue::from_str(&id.to_string()).ok());
        id.map(|id| forwarded.insert(REPOSITORY, id));
        self.address().map(|address| forwarded.insert(FORWARDED_FOR, address));
        Ok(forwarded)
    }

    /// Headers by which the host of region `to` knows the client of one request to a service.
    ///
    /// # Errors
    /// As of [`ForwardedRequest::credentials`].
    pub fn identifying(&self, from: &Region, to: &str, service: &str) -> Result<HeaderMap, Denied> {
        let credentials = self.credentials(from, to, service)?.map(|value| (header::AUTHORIZATION, value));
        let address = self.address().map(|address| (FORWARDED_FOR, address));
        Ok(credentials.into_iter().chain(address).collect())
    }

    /// Address of the client. The primary believes it if this host is one of its trusted proxies, and needs it only for
    /// a client that sends its own credentials.
    fn address(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.principal.address()?.to_string()).ok()
    }
}
