//! `[remotes.NAME]`: Git servers that gitferry did not build.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::limits::{duration, some_count, some_size};
use super::remote_url::{UrlTemplate, host_of, is_loopback};
use gitferry_store::aws::AwsConfig;

/// A Git server, or the repositories of one that a URL template covers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteConfig {
    /// URL of a repository with `{name}` for its name: `https://HOST/PATH`, `ssh://USER@HOST/PATH` or `USER@HOST:PATH`.
    pub url: String,
    /// Credentials for Git.
    #[serde(default)]
    pub auth: RemoteAuth,
    /// Credentials for the provider's API. Defaults to `auth`, unless that is an SSH key.
    #[serde(default)]
    pub api_auth: Option<RemoteAuth>,
    /// AWS settings for credentials of kind `codecommit` and for CodeCommit's API.
    #[serde(default)]
    pub aws: AwsConfig,
    /// PEM file of the certificates that verify the server, relative to the configuration. Defaults to the system's
    /// trusted certificates.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// URL of the HTTP proxy. Defaults to `HTTPS_PROXY` and related variables.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Provider whose API sets `HEAD`. Defaults to a guess from the host name.
    #[serde(default)]
    pub provider: Option<Provider>,
    /// Base URL of the API. Defaults to the provider's.
    #[serde(default)]
    pub api: Option<String>,
    /// True if credentials may be sent over unencrypted HTTP.
    #[serde(default)]
    pub cleartext: bool,
    /// Limits of the server. Default to the provider's published limits.
    #[serde(default)]
    pub limits: RemoteLimits,
}

/// Source of credentials for a Git server. The configuration names secrets and never contains them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum RemoteAuth {
    /// Anonymous access.
    #[default]
    None,
    /// HTTP Basic with a password or token.
    Basic {
        /// User name.
        user: String,
        /// Environment variable with the password.
        #[serde(default)]
        token_env: Option<String>,
        /// File with the secret, relative to the configuration; read again for each conversation.
        #[serde(default)]
        token_file: Option<PathBuf>,
    },
    /// HTTP Bearer with a token.
    Bearer {
        /// Environment variable with the token.
        #[serde(default)]
        token_env: Option<String>,
        /// File with the secret, relative to the configuration; read again for each conversation.
        #[serde(default)]
        token_file: Option<PathBuf>,
    },
    /// A Git credential helper (git-credential(1)).
    Helper {
        /// Program and arguments, to which `get`, `store` or `erase` is appended.
        command: Vec<String>,
        /// True to pass the repository's path, as with Git's `credential.useHttpPath`. The helper then looks up a
        /// secret per repository and does not find one for the whole host. Defaults to true for CodeCommit only.
        #[serde(default)]
        path: Option<bool>,
    },
    /// CodeCommit signatures from AWS credentials.
    CodeCommit,
    /// An SSH key.
    Ssh {
        /// Private key file, relative to the configuration.
        key: PathBuf,
        /// Host keys in OpenSSH's `known_hosts` format, relative to the configuration.
        known_hosts: PathBuf,
        /// Environment variable with the passphrase of the key.
        #[serde(default)]
        passphrase_env: Option<String>,
    },
}

/// Software or service of a Git server.
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
    /// A gitferry host.
    Gitferry,
    /// Any other server, without an API that gitferry speaks.
    None,
}

impl Provider {
    /// Guesses the provider from a host name.
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

/// Limits and timeouts of a server. Durations have the form `"90s"`, sizes `"2GiB"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteLimits {
    /// Most refs in one push.
    #[serde(deserialize_with = "some_count")]
    pub refs_per_push: Option<usize>,
    /// Most bytes of a pack in one push.
    #[serde(deserialize_with = "some_size")]
    pub bytes_per_push: Option<ByteSize>,
    /// True if the server accepts requests of unknown length.
    pub chunked: Option<bool>,
    /// Most bytes of a temporary file: of a request for a server without `chunked`, and of a fetch that searches for
    /// LFS pointers.
    #[serde(deserialize_with = "some_size")]
    pub spool: Option<ByteSize>,
    /// Limit for opening a connection.
    #[serde(rename = "connect_time", deserialize_with = "some_duration")]
    pub connect_timeout: Option<Duration>,
    /// Longest time in which the server neither sends nor accepts a byte.
    #[serde(rename = "silence", deserialize_with = "some_duration")]
    pub idle_timeout: Option<Duration>,
}

fn some_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

impl RemoteConfig {
    /// Validates the remote. Returns the invalid setting and the violation.
    pub fn check(&self) -> Result<(), String> {
        let template = UrlTemplate::parse(&self.url)?;
        self.auth.check().map_err(|reason| format!("auth: {reason}"))?;
        if matches!(self.auth, RemoteAuth::Ssh { .. }) != template.is_ssh() {
            let reason = if template.is_ssh() {
                "auth: an SSH URL needs kind = \"ssh\" with key and known_hosts"
            } else {
                "auth: kind = \"ssh\" is for ssh:// only"
            };
            return Err(reason.into());
        }
        if let Some(auth) = &self.api_auth {
            auth.check().map_err(|reason| format!("api_auth: {reason}"))?;
            if matches!(auth, RemoteAuth::Ssh { .. }) {
                return Err("api_auth: an SSH key cannot authenticate to an API".into());
            }
        }
        if template.is_ssh() && (self.ca.is_some() || self.proxy.is_some()) && self.api_auth.is_none() {
            return Err("ca and proxy are for https:// only".into());
        }
        if template.is_cleartext() && self.auth != RemoteAuth::None && !self.cleartext {
            return Err("url: http: would send credentials unencrypted; use https:, or set cleartext = true".into());
        }
        for (name, url) in [("proxy", &self.proxy), ("api", &self.api)] {
            let Some(url) = url else { continue };
            let parsed = reqwest::Url::parse(url).map_err(|error| format!("{name}: {error}"))?;
            if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
                return Err(format!("{name} is not of the form https://HOST[:PORT]"));
            }
            if !parsed.username().is_empty() || parsed.password().is_some() {
                return Err(format!("{name} holds credentials; put a proxy's into HTTPS_PROXY, others into `auth`"));
            }
        }
        if self.sends_api_credentials_in_clear() && !self.cleartext {
            return Err("api: http: would send credentials unencrypted; use https:, or set cleartext = true".into());
        }
        if self.limits.refs_per_push == Some(0) {
            return Err("limits: refs_per_push is 0, which would allow no push".into());
        }
        self.aws.check().map_err(|reason| format!("aws: {reason}"))
    }

    /// Returns true if credentials would be sent to the API unencrypted.
    fn sends_api_credentials_in_clear(&self) -> bool {
        let auth = self.api_auth.as_ref().unwrap_or(&self.auth);
        let is_anonymous = matches!(auth, RemoteAuth::None | RemoteAuth::Ssh { .. });
        let url = self.api.as_deref().and_then(|api| reqwest::Url::parse(api).ok());
        let in_clear = |url: reqwest::Url| url.scheme() == "http" && !is_loopback(host_of(&url));
        !is_anonymous && url.is_some_and(in_clear)
    }

    /// Returns the configured provider, or else a guess from the host name.
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
                Err("user is empty or contains a colon or line feed".into())
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
                "api: http: would send credentials",
            ),
            (
                "url = \"git@h:{name}\"\nauth = { kind = \"ssh\", key = \"k\", known_hosts = \"h\" }\napi = \"http://h\"\n\
                 api_auth = { kind = \"bearer\", token_env = \"T\" }",
                "api: http: would send credentials",
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
