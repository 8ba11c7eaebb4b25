//! Reloading of certificates, tokens and SSH keys while hosts serve.

use std::sync::Arc;
use std::time::Duration;

use gitferry_host::auth::tokens::TokenFile;
use gitferry_host::listen::tls::Certificate;
use gitferry_host::ssh::authorized_keys::AuthorizedKeys;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Interval between two checks of the files of tokens and keys for changes.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// Files that are reloaded while hosts serve.
#[derive(Debug, Default)]
pub struct Files {
    pub certificates: Vec<Arc<Certificate>>,
    pub tokens: Vec<Arc<TokenFile>>,
    pub ssh_keys: Vec<Arc<AuthorizedKeys>>,
}

impl Files {
    /// Reloads all files on SIGHUP, and those of tokens and keys whenever they change. A file that is not valid changes
    /// nothing.
    pub async fn reload(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => return tracing::error!(%error, "no handler for SIGHUP: certificates are not reloaded"),
        };
        let mut poll = tokio::time::interval(POLL_EVERY);
        loop {
            let asked = tokio::select! {
                asked = hangup.recv() => asked.is_some(),
                _ = poll.tick() => false,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            for certificate in self.certificates.iter().filter(|_| asked) {
                match certificate.reload() {
                    Ok(()) => tracing::info!(?certificate, "reloaded"),
                    Err(error) => tracing::error!(%error, "not reloaded; the old certificate stays in use"),
                }
            }
            for tokens in self.tokens.iter().filter(|tokens| asked || tokens.has_changed()) {
                match tokens.reload() {
                    Ok(()) => tracing::info!(?tokens, "reloaded"),
                    Err(error) => tracing::error!(%error, "not reloaded; the old tokens stay in use"),
                }
            }
            for keys in self.ssh_keys.iter().filter(|keys| asked || keys.has_changed()) {
                match keys.reload() {
                    Ok(()) => tracing::info!(?keys, "reloaded"),
                    Err(error) => tracing::error!(%error, "not reloaded; the old SSH keys stay in use"),
                }
            }
        }
    }
}
