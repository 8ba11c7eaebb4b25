//! Who asks a Git server, and its provider's API.

pub mod codecommit;
mod helper;

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use self::codecommit::CodeCommit;
use self::helper::{Answer, Helper};
use super::secret::Secret;
use gitferry_base::clock::Clock;
use gitferry_config::{Config, Provider, RemoteAuth, RemoteConfig};

/// A file that holds a token is never larger than this many bytes.
const MAX_TOKEN_FILE_BYTES: u64 = 64 * 1024;
/// A secret that is shorter is not looked for in what a server says: it would be found in any text.
const MIN_SCRUBBED_BYTES: usize = 6;

/// Where a secret is.
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

/// Who asks.
#[derive(Debug)]
pub struct Credentials {
    source: Source,
    clock: Arc<dyn Clock>,
}

/// Who somebody turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A user with a password.
    Basic {
        /// The user; may be as secret as the password.
        user: Secret,
        /// The password.
        password: Secret,
    },
    /// What `Authorization` says, by its scheme.
    Typed {
        /// The scheme, such as `Bearer`.
        scheme: String,
        /// What follows it.
        credential: Secret,
    },
}

impl Credentials {
    /// As configured. Looks nothing up yet.
    pub fn new(auth: &RemoteAuth, remote: &RemoteConfig, config: &Config, clock: Arc<dyn Clock>) -> Self {
        let token = |env: &Option<String>, file: &Option<PathBuf>| match (env, file) {
            (Some(name), _) => Token::Variable(name.clone()),
            (None, file) => Token::File(config.path(file.as_deref().unwrap_or("".as_ref()))),
        };
        let source = match auth {
            RemoteAuth::None | RemoteAuth::Ssh { .. } => Source::None,
            RemoteAuth::Basic { user, token_env, token_file } => {
                Source::Basic { user: user.clone(), token: token(token_env, token_file) }
            }
            RemoteAuth::Bearer { token_env, token_file } => Source::Bearer(token(token_env, token_file)),
            RemoteAuth::Helper { command, path } => {
                // What AWS's instructions set for CodeCommit's helper: it signs for one repository.
                let path = path.unwrap_or(remote.provider() == Provider::CodeCommit);
                Source::Helper(Helper::new(command.clone(), path))
            }
            RemoteAuth::CodeCommit => Source::CodeCommit(CodeCommit::new(config.sdk.clone(), remote.aws.clone())),
        };
        Credentials { source, clock }
    }

    /// Begins a conversation about a repository.
    pub fn login(self: &Arc<Self>, url: &Url) -> Login {
        Login { credentials: self.clone(), url: url.clone(), answer: None, told: false, last: None }
    }

    /// The AWS credentials, where there are any.
    pub fn aws(&self) -> Option<&CodeCommit> {
        match &self.source {
            Source::CodeCommit(aws) => Some(aws),
            _ => None,
        }
    }

    /// Whether it is nobody in particular.
    pub fn is_none(&self) -> bool {
        matches!(self.source, Source::None)
    }
}

/// Who asks in one conversation. Credentials that expire are made anew for each request.
#[derive(Debug)]
pub struct Login {
    credentials: Arc<Credentials>,
    url: Url,
    /// What the helper has said.
    answer: Option<Answer>,
    /// Whether the helper knows that it was right.
    told: bool,
    /// Who asked the last time.
    last: Option<Identity>,
}

impl Login {
    /// Who the next request comes from; `None` where that is nobody in particular.
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
                let answer = match self.answer.take().filter(|answer| !answer.is_over(now)) {
                    Some(answer) => answer,
                    None => {
                        self.told = false;
                        helper.get(&self.url).await?
                    }
                };
                self.answer.insert(answer).identity.clone()
            }
        };
        Ok(Some(self.last.insert(identity).clone()))
    }

    /// The `Authorization` of the next request.
    pub async fn header(&mut self) -> Result<Option<HeaderValue>, String> {
        self.identity().await?.map(|identity| identity.header()).transpose()
    }

    /// The server has refused the last request. Says whether asking again may help.
    pub async fn refused(&mut self) -> bool {
        let last = self.last.clone();
        match &self.credentials.source {
            Source::None => false,
            // Another process may have put a new token there.
            Source::Basic { .. } | Source::Bearer(_) => {
                matches!(self.identity().await, Ok(Some(now)) if Some(&now) != last.as_ref())
            }
            Source::CodeCommit(aws) => {
                aws.forget().await;
                true
            }
            Source::Helper(helper) => {
                if let Some(answer) = self.answer.take() {
                    helper.tell("erase", &self.url, &answer).await;
                }
                true
            }
        }
    }

    /// The server has accepted the last request.
    pub async fn accepted(&mut self) {
        if let (Source::Helper(helper), Some(answer), false) = (&self.credentials.source, &self.answer, self.told) {
            helper.tell("store", &self.url, answer).await;
            self.told = true;
        }
    }

    /// A server's text without what it may have repeated of the credentials.
    pub fn scrub(&self, text: String) -> String {
        self.last.as_ref().map_or(text.clone(), |identity| identity.scrub(text))
    }
}

impl Identity {
    /// The value of `Authorization`.
    pub fn header(&self) -> Result<HeaderValue, String> {
        let text = match self {
            Identity::Basic { user, password } => {
                let plain = Zeroizing::new(format!("{}:{}", user.reveal(), password.reveal()));
                Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*plain)))
            }
            Identity::Typed { scheme, credential } => Zeroizing::new(format!("{scheme} {}", credential.reveal())),
        };
        // The error of the HTTP library says nothing of what it was given; neither does this one.
        let mut value = HeaderValue::from_str(&text).map_err(|_| "a line end or the like is in them".to_string())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The part that is most secret.
    pub fn secret(&self) -> &Secret {
        match self {
            Identity::Basic { password, .. } => password,
            Identity::Typed { credential, .. } => credential,
        }
    }

    fn scrub(&self, text: String) -> String {
        let mut text = text;
        let header = self.header().ok();
        let encoded = header.as_ref().and_then(|header| header.to_str().ok()?.split_once(' ')).map(|(_, it)| it);
        for secret in [Some(self.secret().reveal()), encoded].into_iter().flatten() {
            if secret.len() >= MIN_SCRUBBED_BYTES {
                text = text.replace(secret, "***");
            }
        }
        text
    }
}

impl Token {
    async fn read(&self) -> Result<Secret, String> {
        match self {
            Token::Variable(name) => match std::env::var(name) {
                Ok(text) if !text.trim().is_empty() => Ok(Secret::new(text.trim())),
                _ => Err(format!("the variable {name} is not set, or empty")),
            },
            Token::File(file) => {
                let shown = file.display();
                let mut text = Zeroizing::new(String::new());
                let opened = tokio::fs::File::open(file).await.map_err(|error| format!("{shown}: {error}"))?;
                let read = opened.take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text).await;
                read.map_err(|error| format!("{shown}: {error}"))?;
                match text.trim() {
                    "" => Err(format!("{shown} is empty")),
                    token => Ok(Secret::new(token)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Identity {
        Identity::Basic { user: Secret::new(user), password: Secret::new(password) }
    }

    #[test]
    fn headers() {
        let header = basic("Aladdin", "open sesame").header().unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(header.is_sensitive() && !format!("{header:?}").contains("QWxh"));
        let bearer = Identity::Typed { scheme: "Bearer".into(), credential: Secret::new("hunter2") };
        assert_eq!(bearer.header().unwrap().to_str().unwrap(), "Bearer hunter2");
        let cut = Identity::Typed { scheme: "Bearer".into(), credential: Secret::new("hunter2\r\nHost: x") };
        assert!(!cut.header().unwrap_err().contains("hunter2"));
    }

    #[test]
    fn what_a_server_repeats_is_not_shown() {
        let identity = basic("ann", "hunter2-hunter2");
        let encoded = BASE64_STANDARD.encode("ann:hunter2-hunter2");
        let text = identity.scrub(format!("bad password hunter2-hunter2 in Basic {encoded} for ann"));
        assert_eq!(text, "bad password *** in Basic *** for ann");
        assert_eq!(basic("ann", "a").scrub("a cat".into()), "a cat");
    }
}
