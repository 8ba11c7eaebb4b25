//! From a URL's path to a repository and what is wanted of it. Pure.
//!
//! A repository is reached as `/NAME`, `/NAME.git` and, as at CodeCommit, `/v1/repos/NAME`.

use crate::git::refname::check_repository_name;

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

const PREFIX: &str = "/v1/repos/";
const LFS_OBJECTS: &str = "/info/lfs/objects/";

/// Understands a path, percent-decoded; `None` for all that is not a repository's.
pub fn parse(path: &str) -> Option<Route> {
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
            return Some(Route { repository: repository(name)?, service, object: None });
        }
    }
    let (name, object) = path.rsplit_once(LFS_OBJECTS)?;
    let valid = object.len() == 64 && object.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    valid.then_some(())?;
    Some(Route { repository: repository(name)?, service: Service::LfsObject, object: Some(object.into()) })
}

fn repository(path: &str) -> Option<String> {
    let name = path.strip_prefix(PREFIX).or_else(|| path.strip_prefix('/'))?;
    let name = name.strip_suffix(".git").unwrap_or(name);
    check_repository_name(name).ok().map(|()| name.to_owned())
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
            "/a%2e/info/refs",
        ];
        for path in bad {
            assert_eq!(parse(path), None, "{path:?}");
        }
    }
}
