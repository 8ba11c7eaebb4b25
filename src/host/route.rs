//! From a URL's path to a repository and what is wanted of it. Pure.
//!
//! A repository is reached as `/NAME`, `/NAME.git` and, as at CodeCommit, `/v1/repos/NAME`.

use gitferry_git::refname::{NameError, check_repository_name};

/// What a request is for.
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

/// A request for a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The repository's name.
    pub repository: String,
    /// What is wanted of it.
    pub service: Service,
    /// For [`Service::LfsObject`], the object's id: 64 hex digits.
    pub object: Option<String>,
}

/// A path that leads to no repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Astray {
    /// It is not of the form of a repository's.
    Nothing,
    /// It is, but no repository can have that name.
    Name(NameError),
}

const PREFIX: &str = "/v1/repos/";
const LFS_OBJECTS: &str = "/info/lfs/objects/";

/// Understands a path as it stands in a URL, percent-encoded or not.
pub fn parse(path: &str) -> Result<Route, Astray> {
    let path = &decode(path).ok_or(Astray::Nothing)?;
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
    let (name, object) = path.rsplit_once(LFS_OBJECTS).ok_or(Astray::Nothing)?;
    let valid = object.len() == 64 && object.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    valid.then_some(()).ok_or(Astray::Nothing)?;
    Ok(Route { repository: repository(name)?, service: Service::LfsObject, object: Some(object.into()) })
}

fn repository(path: &str) -> Result<String, Astray> {
    let name = path.strip_prefix(PREFIX).or_else(|| path.strip_prefix('/')).ok_or(Astray::Nothing)?;
    let name = name.strip_suffix(".git").unwrap_or(name);
    check_repository_name(name).map_err(Astray::Name)?;
    Ok(name.to_owned())
}

/// Text of a URL without its percent-encoding, which is taken off once; `None` if that is broken, or hides what is no
/// UTF-8.
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
    fn tricks_lead_nowhere() {
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
            Err(Astray::Name(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(reason("/my%20app/info/refs").contains("\"my app\" is not a valid repository name: only letters"));
        assert!(reason("/.github/info/refs").contains("no segment may start with"));
        assert_eq!(parse("/favicon.ico"), Err(Astray::Nothing));
    }
}
