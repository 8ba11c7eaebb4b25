//! Client for Git servers that gitferry did not build: Git over HTTP and SSH, Git LFS, credentials, and the provider
//! APIs that set `HEAD`, which Git's protocol cannot do.
//!
//! ```text
//! Remote ──repository(name)──► RemoteRepository: git::client::Server ──► http/ or ssh/ ──► credentials/
//!                                                ├─ set_head ──────────► head.rs ────────► credentials/
//!                                                └─ lfs ───────────────► lfs/ ───────────► credentials/
//! ```

mod answer_reader;
pub mod credentials;
mod error;
mod head;
mod http;
pub mod lfs;
mod limits;
mod secret;
mod server_text;
mod ssh;

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;

pub use error::RemoteError;
pub use limits::{PushLimits, Timeouts};
pub use secret::Secret;

use self::credentials::{Credentials, Login};
use self::head::ApiError;
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
    timeouts: Timeouts,
    http: Arc<Http>,
    /// Present if the remote authenticates with an SSH key.
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

/// Outcome of [`RemoteRepository::set_head`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadSet {
    /// `HEAD` names the branch.
    Done,
    /// The provider has no API that gitferry speaks, or no credentials are configured for its API.
    NoApi,
    /// The API denies the credentials, with its reason. Permission to push does not imply permission to administer.
    Denied(String),
}

impl Remote {
    /// Prepares the configured remote `name`. Contacts no server and reads no secret.
    ///
    /// Blocking methods drive their requests on `runtime`, which must be multi-threaded or be driven by another thread.
    pub fn new(name: &str, config: &Config, clock: Arc<dyn Clock>, runtime: &Handle) -> Result<Remote, RemoteError> {
        let remote = config.remote(name)?;
        let unusable = |reason| RemoteError::Unusable { remote: name.into(), reason };
        let url = UrlTemplate::parse(&remote.url).map_err(unusable)?;
        let timeouts = Timeouts::new(&remote.limits);
        let limits = PushLimits::new(remote.provider(), &remote.limits);
        let ca = remote.ca.as_ref().map(|ca| config.path(ca));
        let clients = Clients::new(remote, ca.as_deref(), &timeouts).map_err(unusable)?;
        let credentials_for = |auth: &RemoteAuth| Arc::new(Credentials::new(auth, remote, config, clock.clone()));
        let credentials = credentials_for(&remote.auth);
        let api_credentials = remote.api_auth.as_ref().map_or_else(|| credentials.clone(), credentials_for);
        let http = Http::new(credentials.clone(), limits.clone(), timeouts, clients.clone(), runtime.clone());
        Ok(Remote(Arc::new(Inner {
            name: name.into(),
            url,
            provider: remote.provider(),
            api: api_url(remote),
            limits,
            timeouts,
            http: Arc::new(http),
            ssh: ssh(remote, config, timeouts, runtime),
            clients,
            credentials,
            api_credentials,
            clock,
        })))
    }

    /// Name of the remote in the configuration.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Scheme, host and port of the remote.
    pub fn server(&self) -> String {
        self.0.url.server()
    }

    /// Limits of one push to this remote.
    pub fn limits(&self) -> &PushLimits {
        &self.0.limits
    }

    /// Addresses a repository of the remote, which need not exist.
    pub fn repository(&self, name: &str) -> Result<RemoteRepository, RemoteError> {
        check_remote_name(name)?;
        let unusable = |reason| RemoteError::Unusable { remote: self.0.name.clone(), reason };
        let url = self.0.url.repository(name).map_err(unusable)?;
        Ok(RemoteRepository { remote: self.clone(), name: name.into(), shown: url.to_string(), url })
    }
}

/// Base URL of the API, if it differs from the provider's default.
fn api_url(remote: &RemoteConfig) -> Option<String> {
    let aws = || remote.aws.endpoint_url.clone().filter(|_| remote.provider() == Provider::CodeCommit);
    remote.api.clone().or_else(aws)
}

fn ssh(remote: &RemoteConfig, config: &Config, timeouts: Timeouts, runtime: &Handle) -> Option<Ssh> {
    let RemoteAuth::Ssh { key, known_hosts, passphrase_env } = &remote.auth else { return None };
    let key = config.path(key);
    let known_hosts = config.path(known_hosts);
    Some(Ssh::new(key, known_hosts, passphrase_env.clone(), timeouts, runtime.clone()))
}

impl RemoteRepository {
    /// Remote that holds the repository.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Name of the repository at the remote.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Limits of one push to this remote.
    pub fn limits(&self) -> &PushLimits {
        self.remote.limits()
    }

    /// URL of the repository's LFS server, derived as git-lfs does (`docs/api/server-discovery.md`): `/info/lfs` below
    /// the repository, over HTTPS if Git itself uses SSH.
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

    /// HTTP clients and credentials for requests outside Git's protocol.
    fn http(&self) -> (&Clients, Option<Login>) {
        let remote = &*self.remote.0;
        let credentials = if remote.ssh.is_some() { &remote.api_credentials } else { &remote.credentials };
        (&remote.clients, reqwest::Url::parse(&self.lfs_url()).ok().map(|url| credentials.login(&url)))
    }

    /// Returns true if the provider has an API that may set `HEAD` and credentials for it are configured.
    pub fn can_set_head(&self) -> bool {
        let anonymous = self.remote.0.api_credentials.is_anonymous();
        match self.remote.0.provider {
            Provider::None => false,
            // A gitferry host may allow anonymous writes.
            Provider::Gitferry => true,
            _ => !anonymous,
        }
    }

    /// Points `HEAD` at an existing branch through the provider's API. Idempotent.
    pub async fn set_head(&self, branch: &RefName) -> Result<HeadSet, RemoteError> {
        let remote = &*self.remote.0;
        let unusable = |reason| RemoteError::Unusable { remote: remote.name.clone(), reason };
        let credentials = |reason| RemoteError::Credentials { remote: remote.name.clone(), reason };
        if remote.api_credentials.is_anonymous() && remote.provider != Provider::Gitferry {
            return Ok(HeadSet::NoApi);
        }
        let region = match (remote.provider, remote.api_credentials.aws()) {
            (Provider::CodeCommit, Some(aws)) => Some(aws.region(&remote.url.host()).await.map_err(credentials)?),
            // CodeCommit's Git user names and passwords do not authenticate to its API.
            (Provider::CodeCommit, None) => return Ok(HeadSet::NoApi),
            _ => None,
        };
        let request = head::request(remote.provider, remote.api.as_deref(), &self.url, region.as_deref(), branch);
        let Some(request) = request.map_err(unusable)? else { return Ok(HeadSet::NoApi) };
        let repository = self.name.clone();
        let api = request.url.origin().ascii_serialization();
        match head::send(&request, &remote.clients, &remote.api_credentials, remote.clock.now()).await {
            Ok(()) => Ok(HeadSet::Done),
            Err(ApiError::Unusable(reason)) => Err(unusable(reason)),
            Err(ApiError::Credentials(reason)) => Err(credentials(reason)),
            Err(ApiError::Connection(reason)) => Err(RemoteError::ApiConnection { repository, api, reason }),
            Err(ApiError::Denied(status, reason)) => Ok(HeadSet::Denied(format!("{api} answered {status}: {reason}"))),
            Err(ApiError::Busy(status, reason)) => Err(RemoteError::ApiBusy { repository, api, status, reason }),
            Err(ApiError::Answer(status, reason)) => Err(RemoteError::Api { repository, api, status, reason }),
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
                let reason = "the remote has an SSH URL, but auth configures no SSH key".into();
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
