//! The messages of one SSH connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use gitferry_audit::{Caller, Protocol};
use gitferry_base::printable::Printable;
use gitferry_git::protocol::Version;
use russh::keys::{Algorithm, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Disconnect, Pty};
use tokio::sync::{oneshot, watch};
use tracing::Instrument as _;

use super::command::Command;
use super::conversation::{Asked, Conversation};
use super::failed_logins::{FailedLogins, reason_of};
use super::identities::{UserKey, is_accepted};
use super::input::{self, Input};
use super::link::Link;
use super::listen::SshServer;
use super::output::Output;
use crate::auth::{Denied, Principal};
use crate::client::Client;
use crate::client::connections::ClientConnection;
use crate::client::proxies::ClientInfo;

/// Most open channels of one connection. Each conversation also takes a slot of admission control.
const MAX_CHANNELS: usize = 16;
/// The only environment variable that is read.
const PROTOCOL_VARIABLE: &str = "GIT_PROTOCOL";
/// Longest value of that variable, in bytes.
const MAX_PROTOCOL_BYTES: usize = 256;
/// Most requests for environment variables on one channel; more end the connection.
const MAX_VARIABLES: usize = 500;

/// One connection, as `russh` calls it for each message.
pub(super) struct SshSession {
    server: Arc<SshServer>,
    link: Arc<Link>,
    connection: Arc<ClientConnection>,
    /// Turns true when the host stops.
    stop: watch::Receiver<bool>,
    /// The key that has logged in. Its principal is looked up for each command, so that a key that is removed, or whose
    /// rights change, is of no use on an open connection.
    key: Option<UserKey>,
    failed: FailedLogins,
    channels: HashMap<ChannelId, ChannelState>,
}

enum ChannelState {
    /// The client has not said what the channel is for.
    Waiting { output: ChannelWriteHalf<Msg>, version: Version, variables: usize },
    /// A conversation reads the input. It ends when `_present` is dropped.
    Running { input: Input, present: oneshot::Sender<()> },
}

impl ChannelState {
    /// Returns true once the conversation has ended and closed the channel.
    fn has_ended(&self) -> bool {
        match self {
            ChannelState::Waiting { .. } => false,
            ChannelState::Running { present, .. } => present.is_closed(),
        }
    }
}

impl SshSession {
    /// A connection whose client is unknown.
    pub(super) fn new(
        server: Arc<SshServer>,
        link: Arc<Link>,
        connection: Arc<ClientConnection>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let channels = HashMap::new();
        SshSession { server, link, connection, stop, key: None, failed: FailedLogins::default(), channels }
    }

    fn address(&self) -> Option<IpAddr> {
        self.connection.peer().map(|peer| peer.ip())
    }

    /// Looks a key up, in the same way whether the client only asks for it or has proven that it has it. `None` if it
    /// may not log in.
    fn find(&mut self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> Option<UserKey> {
        let address = self.address();
        let user_key = UserKey::new(user, key);
        let found = self.server.identities().identify(&user_key.login(address, ""));
        if found.is_ok() && is_accepted(key, algorithm) {
            return Some(user_key);
        }
        // A right key under an algorithm that is not accepted counts as unknown.
        let denied = found.err().unwrap_or(Denied::Unknown);
        let user = Printable(user_key.user());
        tracing::debug!(?address, %user, %algorithm, reason = reason_of(denied), "an SSH key is not accepted");
        self.failed.add(&user_key, denied);
        None
    }

    /// Starts a conversation on a channel that waits for one.
    fn start(&mut self, channel: ChannelId, asked: Asked, session: &mut Session) -> Result<(), russh::Error> {
        let Some((output, version)) = self.take_waiting(channel) else { return session.channel_failure(channel) };
        if *self.stop.borrow() {
            return session.channel_failure(channel);
        }
        let Some(key) = self.key.clone() else { return Err(russh::Error::Disconnect) };
        let software = String::from_utf8_lossy(session.remote_sshid()).into_owned();
        let address = self.address();
        let principal = match self.server.identities().identify(&key.login(address, &software)) {
            Ok(principal) => principal.at(address),
            Err(denied) => {
                let reason = reason_of(denied);
                tracing::info!(?address, user = %Printable(key.user()), reason, "a command over SSH is refused");
                let mut failed = FailedLogins::default();
                failed.add(&key, denied);
                failed.record(self.server.host(), address, &software);
                return session.disconnect(Disconnect::ByApplication, reason, "");
            }
        };
        session.channel_success(channel)?;
        let (input, body) = input::channel(&self.link);
        let (present, left) = oneshot::channel();
        self.channels.insert(channel, ChannelState::Running { input, present });
        let host = self.server.host().clone();
        let client = self.client(&host, &principal, &software);
        let software = Printable(&software).to_string();
        let span = tracing::error_span!(
            "request",
            request_id = client.request_id(),
            address = client.address().map(tracing::field::display),
            method = "ssh",
            software,
            repository = tracing::field::Empty,
            actor = principal.name(),
        );
        let in_conversation = self.link.begin_conversation();
        let output = Output::new(output, host.limits().response_silence);
        let conversation = Conversation { host, principal, key, software, version, output };
        let running = async move {
            tokio::select! {
                () = client.scope(conversation.run(asked, body)) => {}
                _ = left => tracing::debug!("the client has left"),
            }
            drop(in_conversation);
        };
        tokio::spawn(running.instrument(span));
        Ok(())
    }

    /// Takes a channel that waits for a command. Leaves one that has its command alone.
    fn take_waiting(&mut self, channel: ChannelId) -> Option<(ChannelWriteHalf<Msg>, Version)> {
        match self.channels.remove(&channel)? {
            ChannelState::Waiting { output, version, .. } => Some((output, version)),
            running @ ChannelState::Running { .. } => {
                self.channels.insert(channel, running);
                None
            }
        }
    }

    /// The client of one conversation, for admission control, the log and the audit trail.
    fn client(&self, host: &crate::Host, principal: &Principal, software: &str) -> Arc<Client> {
        let request_id = host.new_request_id();
        let entry = host.audit().begin();
        entry.caller(Caller {
            protocol: Protocol::Ssh,
            request_id: request_id.clone(),
            source: self.address(),
            user_agent: software.to_owned(),
            tls_host: None,
        });
        entry.account(host.access().authenticator.account());
        let info = ClientInfo { address: self.address(), ..ClientInfo::default() };
        let client = Client::new(request_id, info, Some(self.connection.clone()), entry);
        // Without authentication all clients have one name: the fair share distinguishes them by network.
        if !self.server.identities().allows_anonymous() {
            client.set_principal_name(principal.name());
        }
        client
    }
}

/// Counts and records the user names that proved no key on the connection.
impl Drop for SshSession {
    fn drop(&mut self) {
        if self.key.is_none() {
            let address = self.address();
            self.failed.count(self.server.identities(), address);
            self.failed.record(self.server.host(), address, "");
        }
    }
}

impl Handler for SshSession {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, russh::Error> {
        let found = self.find(user, offer.public_key, offer.algorithm);
        Ok(found.map_or_else(Auth::reject, |_| Auth::Accept))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        self.key = self.find(user, key.public_key, key.algorithm);
        Ok(if self.key.is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), russh::Error> {
        self.link.authenticated();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels.retain(|_, state| !state.has_ended());
        if self.channels.len() >= MAX_CHANNELS || *self.stop.borrow() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        // Input comes through `data`, which does not wait: a full queue of the reading half would stop the connection.
        let (_, output) = channel.split();
        let id = output.id();
        self.channels.insert(id, ChannelState::Waiting { output, version: Version::default(), variables: 0 });
        reply.accept().await;
        Ok(())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if let Some(ChannelState::Waiting { version, variables, .. }) = self.channels.get_mut(&channel) {
            *variables += 1;
            if *variables > MAX_VARIABLES {
                return Err(russh::Error::Disconnect);
            }
            if name == PROTOCOL_VARIABLE && value.len() <= MAX_PROTOCOL_BYTES {
                *version = Version::negotiate(value.as_bytes());
                return session.channel_success(channel);
            }
        }
        session.channel_failure(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.start(channel, Asked::Command(Command::parse(command)), session)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.start(channel, Asked::Shell, session)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> Result<(), russh::Error> {
        if let Some(ChannelState::Running { input, .. }) = self.channels.get(&channel) {
            input.push(data);
        }
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        if let Some(ChannelState::Running { input, .. }) = self.channels.get(&channel) {
            input.end();
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.channels.remove(&channel);
        Ok(())
    }
}
