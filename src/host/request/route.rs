//! Routing: from a request's path, method and query to its addressee and its action. Pure.
//!
//! A repository has the paths `/NAME`, `/NAME.git` and, as in AWS CodeCommit, `/v1/repos/NAME`.

use axum::http::Method;

use crate::auth::Access;
use crate::push::quarantines;
use gitferry_git::protocol::Service as GitService;
use gitferry_git::refname::{NameError, check_repository_name};

/// Path of the liveness check.
const HEALTH: &str = "/_health";
/// Path of the readiness check.
const READY: &str = "/_ready";
/// Path of the APIs of AWS.
const APIS: &str = "/";
/// Path of the metrics, in Prometheus's text format.
const METRICS: &str = "/_metrics";

/// Addressee of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The liveness check. Never refused when the host is busy.
    Health,
    /// The readiness check of the region's stores. Never refused when the host is busy.
    Ready,
    /// The metrics of the host.
    Metrics,
    /// The APIs of AWS: those of IAM and STS.
    Apis,
    /// A push in quarantine. The path below [`quarantines::PREFIX`] begins with a secret.
    Quarantine(String),
    /// A repository.
    Repository(Route),
}

impl Target {
    /// Parses a path as in a URL, percent-encoded or not.
    ///
    /// # Errors
    /// The path addresses nothing on this host.
    pub fn parse(path: &str) -> Result<Target, RouteError> {
        match path {
            HEALTH => Ok(Target::Health),
            READY => Ok(Target::Ready),
            METRICS => Ok(Target::Metrics),
            APIS => Ok(Target::Apis),
            _ => match path.strip_prefix(quarantines::PREFIX) {
                Some(secret) => Ok(Target::Quarantine(secret.to_owned())),
                None => Ok(Target::Repository(parse(path)?)),
            },
        }
    }

    /// Returns true for the checks that load balancers send.
    pub fn is_health_check(&self) -> bool {
        matches!(self, Target::Health | Target::Ready)
    }
}

/// Service of a repository that a request addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// `GET …/info/refs?service=…`
    InfoRefs,
    /// `POST …/git-upload-pack`
    UploadPack,
    /// `POST …/git-receive-pack`
    ReceivePack,
    /// `GET …/info/frontier`
    Frontier,
    /// `PUT …/info/head`
    Head,
    /// `POST …/info/lfs/objects/batch`
    LfsBatch,
    /// `POST …/info/lfs/objects/verify`
    LfsVerify,
    /// `…/info/lfs/objects/<id>`
    LfsObject,
    /// `…/info/lfs/locks` and below
    LfsLocks,
}

/// The path of a repository's service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Valid name of the repository.
    pub repository: String,
    /// Service that the request addresses.
    pub service: Service,
    /// Object id of [`Service::LfsObject`], 64 lower-case hex digits; otherwise `None`.
    pub object: Option<String>,
}

/// Request of the Git protocol for a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// List the refs for a fetch.
    AdvertiseFetch,
    /// List the refs for a push.
    AdvertisePush,
    /// One request of a fetch.
    Fetch,
    /// A push.
    Push,
    /// Read the frontier.
    ReadFrontier,
    /// Set the default branch.
    SetHead,
}

impl Action {
    /// Access that the action needs.
    pub fn access(self) -> Access {
        match self {
            Action::AdvertiseFetch | Action::Fetch | Action::ReadFrontier => Access::Read,
            Action::AdvertisePush | Action::Push => Access::Write,
            Action::SetHead => Access::SetDefaultBranch,
        }
    }
}

/// Reason why a service has no action for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionError {
    /// The service does not have this method (405).
    Method,
    /// The request is of the dumb protocol, which this host does not serve (400).
    NotSmart,
}

impl Service {
    /// Returns true for the services of Git LFS, whose refusals have a form of their own.
    pub fn is_lfs(self) -> bool {
        match self {
            Service::LfsBatch | Service::LfsVerify | Service::LfsObject | Service::LfsLocks => true,
            Service::InfoRefs | Service::UploadPack | Service::ReceivePack | Service::Frontier | Service::Head => false,
        }
    }

    /// The action of a request to this service. The services of Git LFS have none here.
    ///
    /// # Errors
    /// The service has no such method, or the query names no service of Git.
    pub fn action(self, method: &Method, query: Option<&str>) -> Result<Action, ActionError> {
        match (self, method) {
            // The server omits the body of a response to HEAD.
            (Service::InfoRefs, &Method::GET | &Method::HEAD) => match advertised(query) {
                Some(GitService::UploadPack) => Ok(Action::AdvertiseFetch),
                Some(GitService::ReceivePack) => Ok(Action::AdvertisePush),
                None => Err(ActionError::NotSmart),
            },
            (Service::Frontier, &Method::GET | &Method::HEAD) => Ok(Action::ReadFrontier),
            (Service::UploadPack, &Method::POST) => Ok(Action::Fetch),
            (Service::ReceivePack, &Method::POST) => Ok(Action::Push),
            (Service::Head, &Method::PUT) => Ok(Action::SetHead),
            _ => Err(ActionError::Method),
        }
    }
}

/// The service whose refs a query asks for.
pub fn advertised(query: Option<&str>) -> Option<GitService> {
    let name = query?.split('&').find_map(|pair| pair.strip_prefix("service="))?;
    GitService::from_name(decode(name)?.as_bytes())
}

/// Reason why a path addresses no repository. Both are answered 404.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// The path has no known form.
    NotFound,
    /// The path has a known form, with a name that no repository can have.
    InvalidName(NameError),
}

const PREFIX: &str = "/v1/repos/";
const LFS_OBJECTS: &str = "/info/lfs/objects/";

/// Parses the path of a repository's service.
fn parse(path: &str) -> Result<Route, RouteError> {
    let path = &decode(path).ok_or(RouteError::NotFound)?;
    let simple = [
        ("/info/refs", Service::InfoRefs),
        ("/git-upload-pack", Service::UploadPack),
        ("/git-receive-pack", Service::ReceivePack),
        ("/info/frontier", Service::Frontier),
        ("/info/head", Service::Head),
        ("/info/lfs/objects/batch", Service::LfsBatch),
        ("/info/lfs/objects/verify", Service::LfsVerify),
        ("/info/lfs/locks", Service::LfsLocks),
        ("/info/lfs/locks/verify", Service::LfsLocks),
    ];
    for (suffix, service) in simple {
        if let Some(name) = path.strip_suffix(suffix) {
            return Ok(Route { repository: repository(name)?, service, object: None });
        }
    }
    let (name, object) = path.rsplit_once(LFS_OBJECTS).ok_or(RouteError::NotFound)?;
    let valid = object.len() == 64 && object.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    valid.then_some(()).ok_or(RouteError::NotFound)?;
    Ok(Route { repository: repository(name)?, service: Service::LfsObject, object: Some(object.into()) })
}

fn repository(path: &str) -> Result<String, RouteError> {
    let name = path.strip_prefix(PREFIX).or_else(|| path.strip_prefix('/')).ok_or(RouteError::NotFound)?;
    let name = name.strip_suffix(".git").unwrap_or(name);
    check_repository_name(name).map_err(RouteError::InvalidName)?;
    Ok(name.to_owned())
}

/// Removes one layer of percent-encoding from a text; `None` if the encoding is malformed or the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.as_bytes().split_at_checked(2)?;
        bytes.extend(hex::decode(digits).ok()?);
        bytes.extend_from_slice(rest);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_leads_to_the_repository() {
        for base in ["/team/app", "/team/app.git", "/v1/repos/team/app", "/v1/repos/team/app.git"] {
            let route = parse(&format!("{base}/info/refs")).unwrap();
            assert_eq!((route.repository.as_str(), route.service), ("team/app", Service::InfoRefs));
            let route = parse(&format!("{base}/git-receive-pack")).unwrap();
            assert_eq!((route.repository.as_str(), route.service), ("team/app", Service::ReceivePack));
            let route = parse(&format!("{base}/info/frontier")).unwrap();
            assert_eq!((route.repository.as_str(), route.service), ("team/app", Service::Frontier));
        }
        let id = "a".repeat(64);
        let route = parse(&format!("/app/info/lfs/objects/{id}")).unwrap();
        assert_eq!((route.service, route.object), (Service::LfsObject, Some(id)));
    }

    #[test]
    fn malformed_paths_are_rejected() {
        let long = format!("/{}/info/refs", "a".repeat(200));
        let bad = [
            "",
            "/",
            "/info/refs",
            "/../info/refs",
            "/a/../b/info/refs",
            "//info/refs",
            "/a//b/info/refs",
            "/.git/info/refs",
            "/-a/info/refs",
            "/a\0b/info/refs",
            "/a/HEAD",
            "/a/objects/pack/x.pack",
            &long,
            "/app/info/lfs/objects/../x",
            "app/info/refs",
            "/a%2e%2e/info/refs",
            "/%2e%2e/info/refs",
            "/a%00b/info/refs",
            "/a%252eb/info/refs",
            "/a%/info/refs",
            "/a%4/info/refs",
            "/a%+4b/info/refs",
            "/a%ffb/info/refs",
        ];
        for path in bad {
            assert!(parse(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn percent_encoded_paths_are_the_plain_ones() {
        for path in ["/team%2Fapp/info/refs", "/t%65am/app%2egit/info/refs", "/team/app/info%2frefs"] {
            assert_eq!(parse(path).unwrap().repository, "team/app", "{path}");
        }
    }

    #[test]
    fn names_are_refused_with_their_reason() {
        let reason = |path: &str| match parse(path) {
            Err(RouteError::InvalidName(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(reason("/my%20app/info/refs").contains("\"my app\" is not a valid repository name: only letters"));
        assert!(reason("/.github/info/refs").contains("no segment may start with"));
        assert_eq!(parse("/favicon.ico"), Err(RouteError::NotFound));
    }

    #[test]
    fn paths_of_the_host_itself_are_no_repositories() {
        let target = |path: &str| Target::parse(path).ok();
        assert_eq!(target("/_health"), Some(Target::Health));
        assert_eq!(target("/_ready"), Some(Target::Ready));
        assert_eq!(target("/_metrics"), Some(Target::Metrics));
        assert_eq!(target("/"), Some(Target::Apis));
        assert_eq!(target("/_quarantine/x/info/refs"), Some(Target::Quarantine("x/info/refs".into())));
        assert!(matches!(target("/app/info/refs"), Some(Target::Repository(_))));
        assert_eq!(target("/_health/"), None);
    }

    #[test]
    fn actions_follow_from_method_and_query() {
        let refs = |method, query| Service::InfoRefs.action(&method, query);
        assert_eq!(refs(Method::GET, Some("service=git-upload-pack")), Ok(Action::AdvertiseFetch));
        assert_eq!(refs(Method::HEAD, Some("x=1&service=git%2Dreceive-pack")), Ok(Action::AdvertisePush));
        for dumb in [None, Some(""), Some("service="), Some("service=git-shell"), Some("service=%f")] {
            assert_eq!(refs(Method::GET, dumb), Err(ActionError::NotSmart), "{dumb:?}");
        }
        // The method is judged first.
        assert_eq!(refs(Method::POST, None), Err(ActionError::Method));
        assert_eq!(Service::ReceivePack.action(&Method::POST, None), Ok(Action::Push));
        assert_eq!(Service::ReceivePack.action(&Method::GET, None), Err(ActionError::Method));
        assert_eq!(Service::Head.action(&Method::PUT, None).map(Action::access), Ok(Access::SetDefaultBranch));
        assert_eq!(Service::Frontier.action(&Method::HEAD, None).map(Action::access), Ok(Access::Read));
    }
}
