//! Git over SSH, implemented with russh: `ssh` is not run, and its configuration is not read.
//!
//! Each conversation has its own connection. Nothing is sent before a key in `known_hosts` has identified the server.

mod cancellable;
mod connection;
mod known_hosts;
mod session;

use std::path::{Path, PathBuf};

use russh::keys::PrivateKey;
use tokio::runtime::Handle;

use self::connection::SshConnection;
use self::known_hosts::HostKeys;
use super::limits::Timeouts;
use super::secret::Secret;
use gitferry_config::SshUrl;
use gitferry_git::client::{ClientError, Connection};
use gitferry_git::protocol::{Service, Version};

/// Most bytes of `known_hosts` that are read.
const MAX_KNOWN_HOSTS_BYTES: u64 = 4 << 20;

/// SSH transport of one remote.
#[derive(Debug)]
pub struct Ssh {
    key: PathBuf,
    known_hosts: PathBuf,
    passphrase_env: Option<String>,
    timeouts: Timeouts,
    runtime: Handle,
}

impl Ssh {
    /// Creates the transport. Reads no file yet.
    pub fn new(
        key: PathBuf,
        known_hosts: PathBuf,
        passphrase_env: Option<String>,
        timeouts: Timeouts,
        runtime: Handle,
    ) -> Self {
        Ssh { key, known_hosts, passphrase_env, timeouts, runtime }
    }

    /// Starts a service of the repository at `url`; `shown` is the URL for errors.
    pub fn connect(
        &self,
        url: &SshUrl,
        shown: &str,
        service: Service,
        version: Version,
    ) -> Result<Box<dyn Connection>, ClientError> {
        let unusable = |reason: String| ClientError::Unauthorized { server: shown.into(), reason };
        // Both files are read for each connection, so that replacing them takes effect.
        let key = self.key().map_err(unusable)?;
        let known = self.known(url).map_err(|reason| ClientError::Untrusted { server: shown.into(), reason })?;
        let (session, line) = self.runtime.block_on(session::open(url, shown, known, key, self.timeouts))?;
        let command = format!("{} {}", service.name(), quoted(&url.path));
        SshConnection::begin((session, line), shown, &command, version, self.timeouts.idle, &self.runtime)
            .map(|it| Box::new(it) as Box<dyn Connection>)
    }

    fn key(&self) -> Result<PrivateKey, String> {
        let shown = self.key.display();
        let passphrase = match &self.passphrase_env {
            None => None,
            Some(name) => {
                let text = std::env::var(name);
                let text = text.map_err(|_| format!("no passphrase: the environment variable {name} is not set"))?;
                Some(Secret::new(text))
            }
        };
        let loaded = russh::keys::load_secret_key(&self.key, passphrase.as_ref().map(Secret::reveal));
        loaded.map_err(|error| match (error, &self.passphrase_env) {
            (russh::keys::Error::IO(error), _) => format!("cannot read the key {shown}: {error}"),
            (russh::keys::Error::KeyIsEncrypted, None) => {
                format!("the key {shown} is encrypted; name the variable with its passphrase in passphrase_env")
            }
            (_, Some(_)) => format!("cannot use the key {shown}: not a private key, or the passphrase is wrong"),
            (_, None) => format!("cannot use the key {shown}: not a private key in a supported format"),
        })
    }

    fn known(&self, url: &SshUrl) -> Result<HostKeys, String> {
        let text = read_limited(&self.known_hosts, MAX_KNOWN_HOSTS_BYTES);
        let text = text.map_err(|error| format!("cannot read {}: {error}", self.known_hosts.display()))?;
        Ok(HostKeys::parse(&text, &url.host, url.port))
    }
}

/// Quotes a path as one shell word, as Git's `sq_quote_buf` does.
fn quoted(path: &str) -> String {
    let mut word = String::from("'");
    for c in path.chars() {
        match c {
            '\'' | '!' => word.extend(['\'', '\\', c, '\'']),
            c => word.push(c),
        }
    }
    word.push('\'');
    word
}

fn read_limited(file: &Path, limit: u64) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(file)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word() {
        for (path, word) in [
            ("/srv/app.git", "'/srv/app.git'"),
            ("~ann/x", "'~ann/x'"),
            ("/a'b; rm -rf !", "'/a'\\''b; rm -rf '\\!''"),
            ("/$(x)`y`", "'/$(x)`y`'"),
        ] {
            assert_eq!(quoted(path), word);
        }
    }
}
