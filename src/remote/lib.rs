//! Git servers that gitferry did not build: the way to their repositories over HTTP and SSH, with whose credentials,
//! and the provider's API for what Git's protocol cannot say.
//!
//! ```text
//! Remote ──repository(name)──► RemoteRepository: git::client::Server ──► http/ or ssh/ ──► credentials/
//!                                                ├─ set_head ──────────► head.rs ────────► credentials/
//!                                                └─ lfs ───────────────► lfs/ ───────────► credentials/
//! ```

pub mod credentials;
mod error;
mod head;
mod http;
pub mod lfs;
mod limits;
mod pieces;
mod said;
mod secret;
mod ssh;

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;

pub use error::RemoteError;
pub use limits::{Patience, PushLimits};
pub use secret::Secret;

use self::credentials::{Credentials, Login};
use self::head::CallError;
use self::http::{Clients, Http};
use self::ssh::Ssh;
use gitferry_base::clock::Clock;
use gitferry_config::{Config, Provider, RemoteAuth, RemoteConfig, RepositoryUrl, UrlTemplate, in_url};
use gitferry_git::client::{ClientError, Connection, Server};
use gitferry_git::protocol::{Service, Version};
use gitferry_git::refname::check_remote_name;
use gitferry_git::refs::RefName;

/// A configured Git server. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    name: String,
    url: UrlTemplate,
    provider: Provider,
    api: Option<String>,
    limits: PushLimits,
    patience: Patience,
    http: Arc<Http>,
    /// Where it is reached over SSH.
    ssh: Option<Ssh>,
    clients: Clients,
    credentials: Arc<Credentials>,
    api_credentials: Arc<Credentials>,
    clock: Arc<dyn Clock>,
}

/// One repository at a [`Remote`].
#[derive(Clone)]
pub struct RemoteRepository {
    remote: Remote,
    name: String,
    url: RepositoryUrl,
    shown: String,
}

/// What became of a wish to set HEAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadSet {
    /// HEAD names the branch now.
    Done,
    /// There is no API that gitferry knows of, or nobody to ask it as.
    NoApi,
    /// Whoever asks the API may not: who pushes need not be who administers. Why.
    Denied(String),
}

impl Remote {
    /// The remote of a configuration with this name. Reaches no server yet, and looks up no secret. What it does later
    /// runs on `runtime`, which has to be one with several threads, or be driven meanwhile by another thread.
    pub fn new(name: &str, config: &Config, clock: Arc<dyn Clock>, runtime: &Handle) -> Result<Remote, RemoteError> {
        let remote = config.remote(name)?;
        let unusable = |reason| RemoteError::Unusable { remote: name.into(), reason };
        let url = UrlTemplate::parse(&remote.url).map_err(unusable)?;
        let patience = Patience::new(&remote.limits);
        let limits = PushLimits::new(remote.provider(), &remote.limits);
        let ca = remote.ca.as_ref().map(|ca| config.path(ca));
        let clients = Clients::new(remote, ca.as_deref(), &patience).map_err(unusable)?;
        let who = |auth: &RemoteAuth| Arc::new(Credentials::new(auth, remote, config, clock.clone()));
        let credentials = who(&remote.auth);
        let api_credentials = remote.api_auth.as_ref().map_or_else(|| credentials.clone(), who);
        let http = Http::new(credentials.clone(), limits.clone(), patience, clients.clone(), runtime.clone());
        Ok(Remote(Arc::new(Inner {
            name: name.into(),
            url,
            provider: remote.provider(),
            api: api(remote),
            limits,
            patience,
            http: Arc::new(http),
            ssh: ssh(remote, config, patience, runtime),
            clients,
            credentials,
            api_credentials,
            clock,
        })))
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The server: scheme, host and port.
    pub fn server(&self) -> String {
        self.0.url.server()
    }

    /// What one push may hold.
    pub fn limits(&self) -> &PushLimits {
        &self.0.limits
    }

    /// One of its repositories, which need not be there.
    pub fn repository(&self, name: &str) -> Result<RemoteRepository, RemoteError> {
        check_remote_name(name)?;
        let unusable = |reason| RemoteError::Unusable { remote: self.0.name.clone(), reason };
        let url = self.0.url.repository(name).map_err(unusable)?;
        Ok(RemoteRepository { remote: self.clone(), name: name.into(), shown: url.to_string(), url })
    }
}

/// Where the API is, if not in the provider's usual place.
fn api(remote: &RemoteConfig) -> Option<String> {
    let aws = || remote.aws.endpoint_url.clone().filter(|_| remote.provider() == Provider::CodeCommit);
    remote.api.clone().or_else(aws)
}

fn ssh(remote: &RemoteConfig, config: &Config, patience: Patience, runtime: &Handle) -> Option<Ssh> {
    let RemoteAuth::Ssh { key, known_hosts, passphrase_env } = &remote.auth else { return None };
    let (key, known_hosts) = (config.path(key), config.path(known_hosts));
    Some(Ssh::new(key, known_hosts, passphrase_env.clone(), patience, runtime.clone()))
}

impl RemoteRepository {
    /// Whose it is.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What one push may hold.
    pub fn limits(&self) -> &PushLimits {
        self.remote.limits()
    }

    /// Where its Git LFS server is, by LFS's own rule: beside the repository, over HTTPS.
    pub fn lfs_url(&self) -> String {
        let url = match &self.url {
            RepositoryUrl::Http(url) => url.to_string(),
            RepositoryUrl::Ssh(url) => {
                format!("https://{}/{}", url.web_host(), in_url(url.path.trim_start_matches(['/', '~'])))
            }
        };
        let suffix = if url.ends_with(".git") { "/info/lfs" } else { ".git/info/lfs" };
        format!("{url}{suffix}")
    }

    /// What reaches it over HTTP, and who asks there, for what is not Git's protocol.
    fn http(&self) -> (&Clients, Option<Login>) {
        let remote = &*self.remote.0;
        let credentials = if remote.ssh.is_some() { &remote.api_credentials } else { &remote.credentials };
        (&remote.clients, reqwest::Url::parse(&self.lfs_url()).ok().map(|url| credentials.login(&url)))
    }

    /// Whether there may be an API that sets HEAD: one that gitferry knows, and somebody to ask it as.
    pub fn can_set_head(&self) -> bool {
        let anonymous = self.remote.0.api_credentials.is_none();
        match self.remote.0.provider {
            Provider::None => false,
            // A host of gitferry's own may let everybody in.
            Provider::Gitferry => true,
            _ => !anonymous,
        }
    }

    /// Makes HEAD name a branch, which must be there, through the provider's API. Safe to run again.
    pub async fn set_head(&self, branch: &RefName) -> Result<HeadSet, RemoteError> {
        let remote = &*self.remote.0;
        let unusable = |reason| RemoteError::Unusable { remote: remote.name.clone(), reason };
        let credentials = |reason| RemoteError::Credentials { remote: remote.name.clone(), reason };
        if remote.api_credentials.is_none() && remote.provider != Provider::Gitferry {
            return Ok(HeadSet::NoApi);
        }
        let region = match (remote.provider, remote.api_credentials.aws()) {
            (Provider::CodeCommit, Some(aws)) => Some(aws.region(&remote.url.host()).await.map_err(credentials)?),
            // Its user names and passwords for Git are not for its API.
            (Provider::CodeCommit, None) => return Ok(HeadSet::NoApi),
            _ => None,
        };
        let call = head::call(remote.provider, remote.api.as_deref(), &self.url, region.as_deref(), branch);
        let Some(call) = call.map_err(unusable)? else { return Ok(HeadSet::NoApi) };
        let (repository, api) = (self.name.clone(), call.url.origin().ascii_serialization());
        match head::ask(&call, &remote.clients, &remote.api_credentials, remote.clock.now()).await {
            Ok(()) => Ok(HeadSet::Done),
            Err(CallError::Unusable(reason)) => Err(unusable(reason)),
            Err(CallError::Credentials(reason)) => Err(credentials(reason)),
            Err(CallError::Connection(reason)) => Err(RemoteError::ApiConnection { repository, api, reason }),
            Err(CallError::Denied(status, reason)) => Ok(HeadSet::Denied(format!("{api} answered {status}: {reason}"))),
            Err(CallError::Busy(status, reason)) => Err(RemoteError::ApiBusy { repository, api, status, reason }),
            Err(CallError::Answer(status, reason)) => Err(RemoteError::Api { repository, api, status, reason }),
        }
    }
}

impl Server for RemoteRepository {
    fn url(&self) -> &str {
        &self.shown
    }

    fn connect(&self, service: Service, version: Version) -> Result<Box<dyn Connection>, ClientError> {
        match (&self.url, &self.remote.0.ssh) {
            (RepositoryUrl::Http(url), _) => self.remote.0.http.connect(url, service, version),
            (RepositoryUrl::Ssh(url), Some(ssh)) => ssh.connect(url, &self.shown, service, version),
            (RepositoryUrl::Ssh(_), None) => {
                let reason = "no key is configured".into();
                Err(ClientError::Unauthorized { server: self.shown.clone(), reason })
            }
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Remote").field(&self.0.name).finish()
    }
}

impl fmt::Debug for RemoteRepository {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("RemoteRepository").field(&self.shown).finish()
    }
}
