//! Routing: parses the path of a URL into a repository and a service. Pure.
//!
//! A repository has the paths `/NAME`, `/NAME.git` and, as in AWS CodeCommit, `/v1/repos/NAME`.

use gitferry_git::refname::{NameError, check_repository_name};

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

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Valid name of the repository.
    pub repository: String,
    /// Service that the request addresses.
    pub service: Service,
    /// Object id of [`Service::LfsObject`], 64 lower-case hex digits; otherwise `None`.
    pub object: Option<String>,
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

/// Parses a path as in a URL, percent-encoded or not.
pub fn parse(path: &str) -> Result<Route, RouteError> {
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
pub fn decode(text: &str) -> Option<String> {
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
}
