//! Headers of forwarded requests.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::client::Client;
use crate::request::refusal::Refusal;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::RegionError;

/// Header of a forwarded request: the region that forwarded it. A replica does not forward such a request again.
const FORWARDED_BY: HeaderName = HeaderName::from_static("gitferry-forwarded-by");
/// Header of a forwarded request: id of the repository. A name may denote different repositories in two regions for a
/// while; a host refuses a request whose name denotes another repository here.
const REPOSITORY: HeaderName = HeaderName::from_static("gitferry-repository");

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

/// The headers of a client's request that the primary needs, with the marks of a forwarded one: `region`, and the `id`
/// of the repository there, `None` if the request creates it. The address of the client goes with them, and the primary
/// believes it if this host is one of its trusted proxies. Call it while the request is answered.
pub fn forwarded_headers(headers: &HeaderMap, region: &str, id: Option<RepositoryId>) -> HeaderMap {
    let names = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::ACCEPT,
        header::USER_AGENT,
        HeaderName::from_static("git-protocol"),
    ];
    let mut forwarded: HeaderMap =
        names.into_iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect();
    let region = HeaderValue::from_str(region).unwrap_or(HeaderValue::from_static("another region"));
    forwarded.insert(FORWARDED_BY, region);
    let id = id.and_then(|id| HeaderValue::from_str(&id.to_string()).ok());
    id.map(|id| forwarded.insert(REPOSITORY, id));
    let address = Client::current().address();
    let address = address.and_then(|address| HeaderValue::from_str(&address.to_string()).ok());
    address.map(|address| forwarded.insert(FORWARDED_FOR, address));
    forwarded
}

/// The headers by which the primary knows the client of a forwarded request, out of those of the request.
pub fn identifying(forwarded: &HeaderMap) -> HeaderMap {
    let names = [header::AUTHORIZATION, FORWARDED_FOR];
    names.into_iter().filter_map(|name| Some((name.clone(), forwarded.get(name)?.clone()))).collect()
}
