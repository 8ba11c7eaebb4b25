//! Git servers that gitferry did not build: `[remotes.NAME]`.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::AwsConfig;
use super::limits::{duration, some_count, some_size};
use super::remote_url::{UrlTemplate, is_loopback};

/// A Git server, or the part of one that a URL with `{name}` in it covers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteConfig {
    /// Where its repositories are: `https://HOST/PATH`, `ssh://USER@HOST/PATH` or `USER@HOST:PATH`, with `{name}` for
    /// a repository's name.
    pub url: String,
    /// Who asks.
    #[serde(default)]
    pub auth: RemoteAuth,
    /// Who asks the provider's API; as `auth` when left out, where that is not a key.
    #[serde(default)]
    pub api_auth: Option<RemoteAuth>,
    /// Where credentials of `codecommit` come from, and how its API is reached.
    #[serde(default)]
    pub aws: AwsConfig,
    /// Certificates (PEM) that the server is recognised by, relative to the configuration; those that the system
    /// trusts when left out.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The proxy on the way; what `HTTPS_PROXY` and its like say when left out.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Whose API sets HEAD; told by the host's name when left out.
    #[serde(default)]
    pub provider: Option<Provider>,
    /// Where that API is; the provider's usual place when left out.
    #[serde(default)]
    pub api: Option<String>,
    /// Whether credentials may go over `http:`, where everybody on the way can read them.
    #[serde(default)]
    pub cleartext: bool,
    /// What it takes at a time; the provider's own limits when left out.
    #[serde(default)]
    pub limits: RemoteLimits,
}

/// Who asks a Git server. Secrets are named, never written down here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum RemoteAuth {
    /// Nobody in particular.
    #[default]
    None,
    /// A user with a password or token.
    Basic {
        /// The user.
        user: String,
        /// The variable that holds the password.
        #[serde(default)]
        token_env: Option<String>,
        /// The file that holds it, relative to the configuration; read again for each conversation.
        #[serde(default)]
        token_file: Option<PathBuf>,
    },
    /// Whoever has a token.
    Bearer {
        /// The variable that holds the token.
        #[serde(default)]
        token_env: Option<String>,
        /// The file that holds it, relative to the configuration; read again for each conversation.
        #[serde(default)]
        token_file: Option<PathBuf>,
    },
    /// Whoever a program says that speaks git-credential's protocol.
    Helper {
        /// The program and its arguments; `get`, `store` or `erase` is put behind.
        command: Vec<String>,
        /// Whether it is told the repository's path, as with Git's `credential.useHttpPath`: then it may know another
        /// secret for each repository, and one for the whole host is not found. Only CodeCommit's needs it.
        #[serde(default)]
        path: Option<bool>,
    },
    /// Whoever the AWS credentials belong to, for CodeCommit.
    CodeCommit,
    /// Whoever has a key, over SSH.
    Ssh {
        /// The private key, relative to the configuration.
        key: PathBuf,
        /// The keys that servers are recognised by, as OpenSSH keeps them, relative to the configuration.
        known_hosts: PathBuf,
        /// The variable that holds the key's passphrase.
        #[serde(default)]
        passphrase_env: Option<String>,
    },
}

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// AWS CodeCommit.
    CodeCommit,
    /// GitHub, or GitHub Enterprise Server.
    GitHub,
    /// GitLab.
    GitLab,
    /// Gitea or Forgejo.
    Gitea,
    /// A host of gitferry's own.
    Gitferry,
    /// Anybody's.
    None,
}

impl Provider {
    /// Whose server a host most likely is.
    pub fn of_host(host: &str) -> Provider {
        let has_label = |label: &str| host == format!("{label}.com") || host.starts_with(&format!("{label}."));
        match host {
            _ if host.contains("git-codecommit") && host.contains(".amazonaws.com") => Provider::CodeCommit,
            _ if has_label("github") || host.ends_with(".ghe.com") => Provider::GitHub,
            _ if has_label("gitlab") => Provider::GitLab,
            "ssh.github.com" => Provider::GitHub,
            "altssh.gitlab.com" => Provider::GitLab,
            "codeberg.org" => Provider::Gitea,
            _ if has_label("gitea") || has_label("forgejo") => Provider::Gitea,
            _ => Provider::None,
        }
    }
}

/// What a server takes at a time, and how long it is waited for. Durations are written as `"90s"`, sizes as `"2GiB"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteLimits {
    /// Most refs in one push.
    #[serde(deserialize_with = "some_count")]
    pub refs_per_push: Option<usize>,
    /// Most bytes of a pack in one push.
    #[serde(deserialize_with = "some_size")]
    pub bytes_per_push: Option<ByteSize>,
    /// Whether it takes requests of unknown length.
    pub chunked: Option<bool>,
    /// Most bytes that are kept in a temporary file: of a request for a server that does not, and of what is fetched to
    /// find the pointers of Git LFS.
    #[serde(deserialize_with = "some_size")]
    pub spool: Option<ByteSize>,
    /// How long a connection may take to open.
    #[serde(deserialize_with = "some_duration")]
    pub connect_time: Option<Duration>,
    /// A server that says or takes nothing for this long is gone.
    #[serde(deserialize_with = "some_duration")]
    pub silence: Option<Duration>,
}

fn some_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

impl RemoteConfig {
    /// What makes no sense in it.
    pub fn check(&self) -> Result<(), String> {
        let template = UrlTemplate::parse(&self.url)?;
        self.auth.check().map_err(|reason| format!("auth: {reason}"))?;
        if matches!(self.auth, RemoteAuth::Ssh { .. }) != template.is_ssh() {
            return Err(match template.is_ssh() {
                true => "auth: SSH needs kind = \"ssh\" with key and known_hosts".into(),
                false => "auth: kind = \"ssh\" is for ssh:// only".into(),
            });
        }
        if let Some(auth) = &self.api_auth {
            auth.check().map_err(|reason| format!("api_auth: {reason}"))?;
            if matches!(auth, RemoteAuth::Ssh { .. }) {
                return Err("api_auth: an API takes no SSH key".into());
            }
        }
        if template.is_ssh() && (self.ca.is_some() || self.proxy.is_some()) && self.api_auth.is_none() {
            return Err("ca and proxy are for https://".into());
        }
        if template.is_cleartext() && self.auth != RemoteAuth::None && !self.cleartext {
            return Err(
                "http: shows the credentials to everybody on the way; use https:, or say cleartext = true".into()
            );
        }
        for (name, url) in [("proxy", &self.proxy), ("api", &self.api)] {
            let Some(url) = url else { continue };
            let parsed = reqwest::Url::parse(url).map_err(|error| format!("{name}: {error}"))?;
            if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
                return Err(format!("{name} is not of the form https://HOST[:PORT]"));
            }
            if !parsed.username().is_empty() || parsed.password().is_some() {
                return Err(format!("{name} holds credentials; a proxy's may stand in HTTPS_PROXY, others in `auth`"));
            }
        }
        if self.shows_api_credentials() && !self.cleartext {
            return Err(
                "api: http: shows the credentials to everybody on the way; use https:, or say cleartext = true".into(),
            );
        }
        if self.limits.refs_per_push == Some(0) {
            return Err("limits: refs_per_push is 0, so nothing could be pushed".into());
        }
        self.aws.check().map_err(|reason| format!("aws: {reason}"))
    }

    /// Whether everybody on the way to the API can read along who asks it.
    fn shows_api_credentials(&self) -> bool {
        let auth = self.api_auth.as_ref().unwrap_or(&self.auth);
        let is_nobody = matches!(auth, RemoteAuth::None | RemoteAuth::Ssh { .. });
        let url = self.api.as_deref().and_then(|api| reqwest::Url::parse(api).ok());
        let in_clear = |url: reqwest::Url| url.scheme() == "http" && !is_loopback(url.host_str().unwrap_or_default());
        !is_nobody && url.is_some_and(in_clear)
    }

    /// Whose server it is.
    pub fn provider(&self) -> Provider {
        let host = || UrlTemplate::parse(&self.url).map(|template| template.host()).unwrap_or_default();
        self.provider.unwrap_or_else(|| Provider::of_host(&host()))
    }
}

impl RemoteAuth {
    fn check(&self) -> Result<(), String> {
        match self {
            RemoteAuth::Basic { token_env, token_file, .. } | RemoteAuth::Bearer { token_env, token_file }
                if token_env.is_some() == token_file.is_some() =>
            {
                Err("needs either token_env or token_file".into())
            }
            RemoteAuth::Basic { user, .. } if user.is_empty() || user.contains([':', '\n']) => {
                Err("user is empty or has a colon".into())
            }
            RemoteAuth::Helper { command, .. } if command.first().is_none_or(String::is_empty) => {
                Err("command names no program".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RemoteConfig, String> {
        let config: RemoteConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map(|()| config)
    }

    #[test]
    fn good_ones() {
        let codecommit = parse(
            "url = \"https://git-codecommit.us-east-1.amazonaws.com/v1/repos/{name}\"\nauth = { kind = \"codecommit\" }",
        );
        let codecommit = codecommit.unwrap();
        assert_eq!((codecommit.provider(), &codecommit.auth), (Provider::CodeCommit, &RemoteAuth::CodeCommit));
        for text in [
            "url = \"https://github.com/me/{name}.git\"\nauth = { kind = \"basic\", user = \"x\", token_env = \"T\" }",
            "url = \"https://h/{name}\"\nauth = { kind = \"bearer\", token_file = \"t\" }\nca = \"ca.pem\"",
            "url = \"https://h/{name}\"\nauth = { kind = \"helper\", command = [\"pass-git\", \"x\"] }",
            "url = \"https://h/{name}\"\nauth = { kind = \"helper\", command = [\"pass-git\"], path = true }",
            "url = \"https://h/{name}\"\nproxy = \"http://proxy:3128\"\nlimits = { silence = \"5m\", spool = \"2GiB\" }",
            "url = \"git@h:{name}\"\nauth = { kind = \"ssh\", key = \"k\", known_hosts = \"h\", passphrase_env = \"P\" }",
            "url = \"http://h/{name}\"\nauth = { kind = \"bearer\", token_env = \"T\" }\ncleartext = true",
            "url = \"https://h/{name}\"\napi = \"http://h\"",
            "url = \"https://h/{name}\"\napi = \"http://[::1]:1\"\nauth = { kind = \"bearer\", token_env = \"T\" }",
            "url = \"https://h/{name}\"\napi = \"http://h\"\nauth = { kind = \"codecommit\" }\ncleartext = true",
            "url = \"http://127.0.0.1:1/{name}\"\nauth = { kind = \"bearer\", token_env = \"T\" }",
            "url = \"http://h/{name}\"",
        ] {
            parse(text).unwrap();
        }
    }

    #[test]
    fn what_is_refused() {
        for (text, expected) in [
            ("", "url"),
            ("url = \"https://h/app\"", "{name}"),
            ("url = \"https://h/{name}\"\nauth = { kind = \"magic\" }", "magic"),
            ("url = \"https://h/{name}\"\nauth = { kind = \"bearer\" }", "either token_env or token_file"),
            ("url = \"https://h/{name}\"\nauth = { kind = \"bearer\", token = \"x\" }", "token"),
            ("url = \"https://h/{name}\"\nauth = { kind = \"basic\", user = \"a:b\", token_env = \"T\" }", "colon"),
            ("url = \"https://h/{name}\"\nauth = { kind = \"helper\", command = [] }", "no program"),
            ("url = \"https://h/{name}\"\nauth = { kind = \"ssh\", key = \"k\", known_hosts = \"h\" }", "ssh:// only"),
            ("url = \"git@h:{name}\"", "kind = \"ssh\""),
            ("url = \"http://h/{name}\"\nauth = { kind = \"bearer\", token_env = \"T\" }", "cleartext"),
            ("url = \"https://h/{name}\"\nproxy = \"http://me:hunter2@proxy\"", "HTTPS_PROXY"),
            ("url = \"https://h/{name}\"\napi = \"h\"", "api"),
            (
                "url = \"https://h/{name}\"\napi = \"http://h\"\nauth = { kind = \"bearer\", token_env = \"T\" }",
                "api: http: shows",
            ),
            (
                "url = \"git@h:{name}\"\nauth = { kind = \"ssh\", key = \"k\", known_hosts = \"h\" }\napi = \"http://h\"\n\
                 api_auth = { kind = \"bearer\", token_env = \"T\" }",
                "api: http: shows",
            ),
            ("url = \"https://h/{name}\"\nlimits = { refs_per_push = 0 }", "refs_per_push"),
            ("url = \"https://h/{name}\"\naws = { region = \"\" }", "aws: region"),
        ] {
            let error = parse(text).map(drop).unwrap_err();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn providers_by_host() {
        for (host, provider) in [
            ("git-codecommit.eu-west-1.amazonaws.com", Provider::CodeCommit),
            ("git-codecommit-fips.us-east-1.amazonaws.com", Provider::CodeCommit),
            ("vpce-0a1b.git-codecommit.us-east-1.vpce.amazonaws.com", Provider::CodeCommit),
            ("git-codecommit.cn-north-1.amazonaws.com.cn", Provider::CodeCommit),
            ("github.com", Provider::GitHub),
            ("gitlab.com", Provider::GitLab),
            ("ssh.github.com", Provider::GitHub),
            ("altssh.gitlab.com", Provider::GitLab),
            ("gitlab.corp.example", Provider::GitLab),
            ("codeberg.org", Provider::Gitea),
            ("forgejo.example", Provider::Gitea),
            ("git.example", Provider::None),
            ("notgithub.com", Provider::None),
        ] {
            assert_eq!(Provider::of_host(host), provider, "{host}");
        }
    }
}
