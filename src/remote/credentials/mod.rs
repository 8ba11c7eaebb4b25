//! Credentials for a Git server and its provider's API.

pub mod codecommit;
mod helper;
pub mod identity;

use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use self::codecommit::CodeCommit;
use self::helper::{Answer, Helper};
use self::identity::Identity;
use super::secret::Secret;
use gitferry_base::clock::Clock;
use gitferry_config::{Config, Provider, RemoteAuth, RemoteConfig};

/// Most bytes of a token file that are read.
const MAX_TOKEN_FILE_BYTES: u64 = 64 * 1024;

/// Location of a secret.
#[derive(Clone, Debug)]
enum Token {
    Variable(String),
    File(PathBuf),
}

#[derive(Debug)]
enum Source {
    None,
    Basic { user: String, token: Token },
    Bearer(Token),
    Helper(Helper),
    CodeCommit(CodeCommit),
}

/// Configured source of credentials.
#[derive(Debug)]
pub struct Credentials {
    source: Source,
    clock: Arc<dyn Clock>,
}

impl Credentials {
    /// Prepares the source that `auth` configures. Reads no secret yet.
    pub fn new(auth: &RemoteAuth, remote: &RemoteConfig, config: &Config, clock: Arc<dyn Clock>) -> Self {
        let token = |env: &Option<String>, file: &Option<PathBuf>| {
            debug_assert!(env.is_some() != file.is_some(), "validation requires either token_env or token_file");
            match (env, file) {
                (Some(name), _) => Token::Variable(name.clone()),
                (None, file) => Token::File(config.path(file.as_deref().unwrap_or("".as_ref()))),
            }
        };
        let source = match auth {
            RemoteAuth::None | RemoteAuth::Ssh { .. } => Source::None,
            RemoteAuth::Basic { user, token_env, token_file } => {
                Source::Basic { user: user.clone(), token: token(token_env, token_file) }
            }
            RemoteAuth::Bearer { token_env, token_file } => Source::Bearer(token(token_env, token_file)),
            RemoteAuth::Helper { command, path } => {
                // CodeCommit's helper signs for one repository; AWS documents `credential.UseHttpPath = true`.
                let path = path.unwrap_or(remote.provider() == Provider::CodeCommit);
                Source::Helper(Helper::new(command.clone(), path))
            }
            RemoteAuth::CodeCommit => Source::CodeCommit(CodeCommit::new(config.sdk.clone(), remote.aws.clone())),
        };
        Credentials { source, clock }
    }

    /// Starts a login for requests to the repository at `url`.
    pub fn login(self: &Arc<Self>, url: &Url) -> Login {
        Login { credentials: self.clone(), url: url.clone(), answer: None, approved: false, last: None }
    }

    /// Returns the AWS credentials if the source is `codecommit`.
    pub fn aws(&self) -> Option<&CodeCommit> {
        match &self.source {
            Source::CodeCommit(aws) => Some(aws),
            _ => None,
        }
    }

    /// Returns true if requests carry no credentials.
    pub fn is_anonymous(&self) -> bool {
        matches!(self.source, Source::None)
    }
}

/// Credentials of one conversation with a server. Short-lived credentials are renewed before each request.
#[derive(Debug)]
pub struct Login {
    credentials: Arc<Credentials>,
    url: Url,
    /// Answer of the credential helper, if the source is one.
    answer: Option<Answer>,
    /// True once `answer` has been reported to the helper as accepted.
    approved: bool,
    /// Identity of the last request, for redaction and to detect a changed token.
    last: Option<Identity>,
}

impl Login {
    /// Resolves the identity for the next request; `None` if requests are anonymous.
    pub async fn identity(&mut self) -> Result<Option<Identity>, String> {
        let identity = match &self.credentials.source {
            Source::None => return Ok(None),
            Source::Basic { user, token } => {
                Identity::Basic { user: Secret::new(user.as_str()), password: token.read().await? }
            }
            Source::Bearer(token) => Identity::Typed { scheme: "Bearer".into(), credential: token.read().await? },
            Source::CodeCommit(aws) => aws.sign(&self.url, self.credentials.clock.now()).await?,
            Source::Helper(helper) => {
                let now = self.credentials.clock.now();
                let answer = match self.answer.take().filter(|answer| !answer.is_expired(now)) {
                    Some(answer) => answer,
                    None => {
                        self.approved = false;
                        helper.get(&self.url).await?
                    }
                };
                self.answer.insert(answer).identity.clone()
            }
        };
        Ok(Some(self.last.insert(identity).clone()))
    }

    /// Resolves the `Authorization` header for the next request.
    pub async fn header(&mut self) -> Result<Option<HeaderValue>, String> {
        self.identity().await?.map(|identity| identity.header()).transpose()
    }

    /// Records that the server answered 401. Returns true if a retry would send other credentials.
    pub async fn reject(&mut self) -> bool {
        let last = self.last.clone();
        match &self.credentials.source {
            Source::None => false,
            // Another process may have replaced the token.
            Source::Basic { .. } | Source::Bearer(_) => {
                matches!(self.identity().await, Ok(Some(now)) if Some(&now) != last.as_ref())
            }
            Source::CodeCommit(aws) => {
                aws.forget().await;
                true
            }
            Source::Helper(helper) => {
                if let Some(answer) = self.answer.take() {
                    helper.report("erase", &self.url, &answer).await;
                }
                true
            }
        }
    }

    /// Records that the server accepted the last request.
    pub async fn approve(&mut self) {
        if let (Source::Helper(helper), Some(answer), false) = (&self.credentials.source, &self.answer, self.approved) {
            helper.report("store", &self.url, answer).await;
            self.approved = true;
        }
    }

    /// Redacts the credentials of the last request from server-supplied text.
    pub fn scrub(&self, text: String) -> String {
        self.last.as_ref().map_or(text.clone(), |identity| identity.scrub(text))
    }
}

impl Token {
    async fn read(&self) -> Result<Secret, String> {
        match self {
            Token::Variable(name) => match std::env::var(name) {
                Ok(text) if !text.trim().is_empty() => Ok(Secret::new(text.trim())),
                _ => Err(format!("the environment variable {name} is unset or empty")),
            },
            Token::File(file) => {
                let shown = file.display();
                let failed = |error| format!("cannot read the token file {shown}: {error}");
                let mut text = Zeroizing::new(String::new());
                let opened = tokio::fs::File::open(file).await.map_err(failed)?;
                opened.take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text).await.map_err(failed)?;
                match text.trim() {
                    "" => Err(format!("the token file {shown} is empty")),
                    token => Ok(Secret::new(token)),
                }
            }
        }
    }
}
