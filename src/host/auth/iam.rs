//! Authentication and authorization by the account of the region: IAM policies decide on each request, and on each ref
//! of a push.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use axum::http::{HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gix::bstr::{BStr, BString, ByteSlice as _};

use super::{Access, Authenticator, Cause, Denied, Origin, Presented, Principal, Rights};
use crate::ssh::identities::{Login, SshIdentities};
use gitferry_audit::UserIdentity;
use gitferry_engine::region::push::{Facts, RefAuthorizer, RefUpdate};
use gitferry_iam::aws::PresignedCaller;
use gitferry_iam::model::Quota;
use gitferry_iam::{
    self as iam, Authenticated, AuthenticationError, ClientFacts, Delegated, Payload, RequestParts, SshLogin,
    SystemRandom,
};
use gitferry_identity::Identities;
use gitferry_policy::{Context, Decision, PolicySet, Request, evaluate, keys};
use jiff::Timestamp;
use zeroize::Zeroizing;

/// Action of a push, also of each of its refs.
const GIT_PUSH: &str = "codecommit:GitPush";
/// Address of clients that reach the host without a socket. Only tests do.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// Ends of the paths of Git's requests below a repository.
const SERVICES: [&str; 5] = ["/info/refs", "/git-upload-pack", "/git-receive-pack", "/info/head", "/info/frontier"];
/// Longest value of Basic authentication that is decoded, in bytes.
const MAX_BASIC_BYTES: usize = 16 << 10;
/// Folder of the requests of Git LFS below a repository.
const LFS: &str = "/info/lfs/";

/// Authenticates requests by the account of a region.
#[derive(Debug)]
pub struct IamAuthenticator {
    region: Arc<str>,
    identities: Arc<Identities>,
}

impl IamAuthenticator {
    /// Authenticates the requests to the host of `region` by its `identities`.
    pub fn new(region: &str, identities: Arc<Identities>) -> Self {
        IamAuthenticator { region: region.into(), identities }
    }

    /// Authentication by the newest state of the account.
    fn authenticator(&self) -> Result<&iam::Authenticator, Denied> {
        self.identities.authenticator().map_err(|error| {
            tracing::error!(%error, "a request cannot be authenticated");
            Denied::Unavailable
        })
    }
}

#[async_trait]
impl Authenticator for IamAuthenticator {
    async fn authenticate(&self, presented: &Presented<'_>) -> Result<Principal, Denied> {
        let authenticator = self.authenticator()?;
        let headers = headers_of(presented);
        let parts = parts_of(presented, &headers, Payload::Unread);
        let authenticated = match presigned_password(presented).filter(|_| parts.repository_path.is_some()) {
            Some(password) => {
                let agent = presented.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
                let agent = agent.unwrap_or_default().to_owned();
                let client = ClientFacts { address: parts.source, secure: parts.secure, agent };
                self.identities.authenticate_caller(&password, client).await
            }
            None => authenticator.authenticate(&parts),
        };
        Ok(principal(&self.region, authenticated.map_err(denied)?))
    }

    fn account(&self) -> Option<String> {
        let account = self.identities.authenticator().ok()?.account()?;
        Some(account.id().to_string())
    }

    fn quota(&self, quota: Quota) -> Option<u64> {
        self.identities.authenticator().ok()?.account()?.settings().quotas.set(quota)
    }
}

/// Password of Basic authentication that claims to be a presigned request to STS.
fn presigned_password(presented: &Presented<'_>) -> Option<Zeroizing<String>> {
    let mut values = presented.headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > MAX_BASIC_BYTES {
        return None;
    }
    let text = Zeroizing::new(String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?);
    let (_, password) = text.split_once(':')?;
    PresignedCaller::is_password(password).then(|| Zeroizing::new(password.to_owned()))
}

/// The user name of a login is the id of an SSH key of the account.
impl SshIdentities for IamAuthenticator {
    fn identify(&self, login: &Login<'_>) -> Result<Principal, Denied> {
        let Login { user, fingerprint, address, client, secure } = *login;
        let login = SshLogin { user, fingerprint, source: address.unwrap_or(NO_ADDRESS), client, secure };
        // Clients offer all keys that they have, so a wrong one is not worth a line in the log.
        let authenticated = self.authenticator()?.authenticate_ssh(&login).map_err(|error| match error {
            AuthenticationError::TooMany(_) => Denied::TooManyFailures,
            AuthenticationError::Unavailable(_) => Denied::Unavailable,
            _ => Denied::Unknown,
        })?;
        Ok(principal(&self.region, authenticated))
    }

    fn note_failure(&self, user: &str, address: Option<IpAddr>) {
        if let Ok(authenticator) = self.identities.authenticator() {
            authenticator.ssh_failed(user, address.unwrap_or(NO_ADDRESS));
        }
    }
}

/// Headers of a request in lower case. The host is the one that the client asked for, if a trusted proxy reports it.
pub(crate) fn headers_of<'a>(presented: &Presented<'a>) -> Vec<(&'a str, &'a [u8])> {
    let asked = presented.asked_host;
    let own = presented.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let own = own.filter(|(name, _)| asked.is_none() || *name != "host");
    own.chain(asked.map(|host| ("host", host.as_bytes()))).collect()
}

/// Parts of a request with these headers, whose body has been read or not.
pub(crate) fn parts_of<'a>(
    presented: &Presented<'a>,
    headers: &'a [(&'a str, &'a [u8])],
    payload: Payload,
) -> RequestParts<'a> {
    let uri = presented.uri;
    RequestParts {
        method: presented.method.as_str(),
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        headers,
        authority: uri.authority().filter(|_| presented.asked_host.is_none()).map(|authority| authority.as_str()),
        payload,
        repository_path: repository_path(uri.path()),
        source: presented.address.unwrap_or(NO_ADDRESS),
        secure: presented.secure,
    }
}

/// Path of the repository in the path of a request.
fn repository_path(path: &str) -> Option<&str> {
    let whole = SERVICES.iter().find_map(|service| path.strip_suffix(service));
    whole.or_else(|| path.rfind(LFS).map(|end| &path[..end]))
}

fn denied(error: AuthenticationError) -> Denied {
    match error {
        AuthenticationError::TooMany(_) => Denied::TooManyFailures,
        AuthenticationError::Unavailable(_) => Denied::Unavailable,
        AuthenticationError::Anonymous => Denied::Unknown,
        error => {
            tracing::info!(%error, "a request is not authenticated");
            Denied::Unknown
        }
    }
}

/// The principal of an authenticated request to the host of `region`.
pub(crate) fn principal(region: &Arc<str>, authenticated: Authenticated) -> Principal {
    let Authenticated { principal, account, client, .. } = &authenticated;
    let arn = principal.arn();
    let identity = UserIdentity::of(principal);
    let policies = if principal.is_root() {
        Policies::Root
    } else {
        principal.policies(account).map_or(Policies::Unreadable, Policies::Of)
    };
    let origin = authenticated.delegated_by.clone().map(|region| Origin { region, address: client.address });
    let context = Arc::new(authenticated.context.clone());
    let account = account.id().as_str().into();
    let rights = IamRights { region: region.clone(), account, policies, context, authenticated };
    let principal = Principal::new(&arn, Arc::new(rights)).with_identity(identity);
    match origin {
        Some(origin) => principal.from_origin(origin),
        None => principal,
    }
}

/// Policies of a principal.
#[derive(Clone, Debug)]
enum Policies {
    /// The account itself may do everything.
    Root,
    /// Policies of a user or role.
    Of(Arc<PolicySet>),
    /// A policy cannot be read. It might deny.
    Unreadable,
}

/// Rights of a principal of the account.
#[derive(Debug)]
struct IamRights {
    region: Arc<str>,
    account: Arc<str>,
    policies: Policies,
    context: Arc<Context>,
    authenticated: Authenticated,
}

/// Action of IAM for an access.
fn action(access: Access) -> &'static str {
    match access {
        Access::Read => "codecommit:GitPull",
        Access::Write => GIT_PUSH,
        Access::Create => "codecommit:CreateRepository",
        Access::SetDefaultBranch => "codecommit:UpdateDefaultBranch",
    }
}

impl IamRights {
    fn resource(&self, repository: &str) -> String {
        format!("arn:aws:codecommit:{}:{}:{repository}", self.region, self.account)
    }
}

impl Rights for IamRights {
    fn authorize(&self, repository: &str, access: Access) -> Result<(), Denied> {
        let action = action(access);
        let policies = match &self.policies {
            Policies::Root => return Ok(()),
            Policies::Of(policies) => policies,
            Policies::Unreadable => {
                tracing::error!(action, repository, "denied: a policy of the principal cannot be read");
                return Err(Denied::Forbidden(Cause::NoAllow(action)));
            }
        };
        let resource = self.resource(repository);
        decide(policies, action, &resource, &self.context).map_err(Denied::Forbidden)
    }

    fn on_refs(&self, repository: &str) -> Option<Arc<dyn RefAuthorizer>> {
        let policies = match &self.policies {
            Policies::Root => return None,
            Policies::Of(policies) => policies.clone(),
            // Denies everything.
            Policies::Unreadable => Arc::default(),
        };
        let facts = Facts {
            forced: policies.reads(keys::FORCE_PUSH),
            changed_paths: policies.reads(keys::CHANGED_PATHS).then_some(keys::MAX_CHANGED_PATHS),
        };
        let resource = self.resource(repository);
        Some(Arc::new(IamRefs { policies, facts, resource, context: self.context.clone() }))
    }

    fn delegate(&self, requests: &Delegated<'_>, now: Timestamp) -> Result<Option<HeaderValue>, Denied> {
        let failed = |reason: &dyn std::fmt::Display| {
            let Delegated { to, repository, .. } = requests;
            tracing::error!(to, repository, %reason, "a request cannot be passed on to the host of another region");
            Denied::Unavailable
        };
        let made = self.authenticated.delegate(requests, now, &SystemRandom).map_err(|error| failed(&error))?;
        let mut value = HeaderValue::from_str(made.expose()).map_err(|error| failed(&error))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Decides on a request, and logs a denial with the statement that made it.
fn decide(policies: &PolicySet, action: &'static str, resource: &str, context: &Context) -> Result<(), Cause> {
    match evaluate(policies, &Request { action, resource, context }) {
        Decision::Allowed { by } => {
            tracing::debug!(action, resource, %by, "allowed");
            Ok(())
        }
        Decision::ExplicitDeny { by } => {
            tracing::info!(action, resource, %by, "denied explicitly");
            Err(Cause::ExplicitDeny(action))
        }
        Decision::ImplicitDeny { missing } => {
            tracing::info!(action, resource, %missing, "denied: no statement of this layer allows it");
            Err(Cause::NoAllow(action))
        }
    }
}

/// Decides on the refs of one push.
#[derive(Debug)]
struct IamRefs {
    policies: Arc<PolicySet>,
    facts: Facts,
    resource: String,
    context: Arc<Context>,
}

impl RefAuthorizer for IamRefs {
    fn depends_on(&self, _: &BStr) -> Facts {
        self.facts
    }

    fn authorize(&self, update: &RefUpdate<'_>) -> Result<(), String> {
        let name =
            update.name.to_str().map_err(|_| "a ref whose name is not UTF-8 is allowed by no policy".to_owned())?;
        let context = self.context.to_builder().reference(name).ref_deletion(update.deletion);
        let context = context.force_push(update.forced);
        let paths = texts(update.changed_paths)?;
        let context = context.changed_paths(paths).map_err(|error| error.to_string())?.build();
        decide(&self.policies, GIT_PUSH, &self.resource, &context).map_err(|cause| match cause {
            Cause::ExplicitDeny(action) => format!("not allowed: a policy explicitly denies {action} on this ref"),
            Cause::NoAllow(action) => format!("not allowed: no policy allows {action} on this ref"),
            Cause::Grant => "not allowed".into(),
        })
    }
}

/// Paths as text. A path that is not UTF-8 could hide from a policy.
fn texts<'a>(paths: &'a BTreeSet<BString>) -> Result<Vec<&'a str>, String> {
    let text = |path: &'a BString| {
        path.to_str().map_err(|_| "access depends on the changed paths, and one of them is not UTF-8".to_owned())
    };
    paths.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_repository_precedes_the_service() {
        for (path, expected) in [
            ("/v1/repos/team/app/info/refs", Some("/v1/repos/team/app")),
            ("/v1/repos/app.git/git-upload-pack", Some("/v1/repos/app.git")),
            ("/app/info/lfs/objects/batch", Some("/app")),
            ("/app/info/lfs/objects/0123/verify", Some("/app")),
            ("/app/info/refs/info/refs", Some("/app/info/refs")),
            ("/_metrics", None),
        ] {
            assert_eq!(repository_path(path), expected, "{path}");
        }
    }
}
