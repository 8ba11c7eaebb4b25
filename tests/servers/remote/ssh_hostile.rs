//! SSH servers that mean harm: what they cost is bounded, and ends with the conversation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gitferry_base::Kind;
use gitferry_git::client::{ClientError, Server as _};
use gitferry_git::protocol::{Service, Version};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::remote::place::{Place, listed};
use gitferry_test_support::sshd::keygen;

/// A server is silent, or floods, at one of these points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// The login is never answered.
    SilentLogin,
    /// The command is never answered.
    SilentCommand,
    /// Complaints without end.
    Complaints,
    /// What looks like an answer, without end.
    Answers,
    /// Channels that the client has not asked for.
    Channels,
}

/// How long a client may take to let go of a server after it has given up.
const PATIENCE: Duration = Duration::from_secs(20);

struct Hostile {
    harm: Harm,
    opened: Arc<AtomicUsize>,
}

impl Handler for Hostile {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        if self.harm == Harm::SilentLogin {
            std::future::pending::<()>().await;
        }
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(&mut self, channel: ChannelId, _: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        let handle = session.handle();
        match self.harm {
            Harm::SilentLogin => {}
            Harm::SilentCommand => session.channel_success(channel)?,
            Harm::Complaints | Harm::Answers => {
                session.channel_success(channel)?;
                let harm = self.harm;
                tokio::spawn(async move {
                    // A ref line of an advertisement, again and again.
                    let line = format!("003d{} refs/heads/a\n", "1".repeat(40)).into_bytes();
                    let sent = line.repeat(500);
                    loop {
                        let sent = match harm {
                            Harm::Complaints => handle.extended_data(channel, 1, sent.clone()).await,
                            _ => handle.data(channel, sent.clone()).await,
                        };
                        if sent.is_err() {
                            return;
                        }
                    }
                });
            }
            Harm::Channels => {
                session.channel_success(channel)?;
                let opened = self.opened.clone();
                tokio::spawn(async move {
                    while handle.channel_open_forwarded_tcpip("h", 1, "h", 1).await.is_ok() {
                        opened.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        }
        Ok(())
    }
}

/// The configuration for a server whose key is `host.pub`.
fn lines(place: &Place, address: std::net::SocketAddr) -> String {
    let host = std::fs::read_to_string(place.path("host.pub")).unwrap();
    std::fs::write(place.path("known_hosts"), format!("[127.0.0.1]:{} {host}", address.port())).unwrap();
    format!(
        "url = \"ssh://git@{address}/{{name}}\"\nlimits = {{ silence = \"1s\" }}\n\
         auth = {{ kind = \"ssh\", key = \"key\", known_hosts = \"known_hosts\" }}\n"
    )
}

fn place() -> Place {
    let place = Place::new();
    for key in ["key", "host"] {
        keygen(&place.path(key), "ed25519", "");
    }
    place
}

#[test]
fn what_a_server_does_ends_with_the_conversation() {
    for harm in [Harm::SilentLogin, Harm::SilentCommand, Harm::Complaints, Harm::Answers, Harm::Channels] {
        let place = place();
        let keys = vec![russh::keys::load_secret_key(place.path("host"), None).unwrap()];
        let config = Arc::new(Config { keys, ..Default::default() });
        let (over, is_over) = std::sync::mpsc::channel();
        let opened = Arc::new(AtomicUsize::new(0));
        let count = opened.clone();
        let address = place.tcp(move |stream| {
            let (config, over, opened) = (config.clone(), over.clone(), count.clone());
            async move {
                if let Ok(session) = russh::server::run_stream(config, stream, Hostile { harm, opened }).await {
                    let _ = session.await;
                }
                let _ = over.send(());
            }
        });
        let error = listed(&place.app(&lines(&place, address))).unwrap_err();
        assert!(matches!(error, ClientError::Connection { .. } | ClientError::Protocol { .. }), "{harm:?}: {error}");
        assert_eq!(error.kind(), Kind::Transient, "{harm:?}: {error}");
        assert_eq!(opened.load(Ordering::SeqCst), 0, "{harm:?}: a channel was accepted");
        if harm != Harm::SilentLogin {
            // (That server waits in its own handler, and does not look at its connection.)
            is_over.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{harm:?}: the connection is still there"));
        }
    }
}

#[test]
fn a_server_that_takes_and_says_nothing_does_not_keep_its_connection() {
    let place = place();
    for greeting in [&b""[..], b"SSH-2.0-x\r\n", &b"a line before the greeting\r\n".repeat(100_000)] {
        let (over, is_over) = std::sync::mpsc::channel();
        let greeting = greeting.to_vec();
        let address = place.tcp(move |mut stream| {
            let (over, greeting) = (over.clone(), greeting.clone());
            async move {
                let _ = stream.write_all(&greeting).await;
                let mut all = Vec::new();
                // Ends when the client closes the connection.
                let _ = stream.read_to_end(&mut all).await;
                let _ = over.send(all.len());
            }
        });
        let error = place.app(&lines(&place, address)).connect(Service::UploadPack, Version::V2).err().unwrap();
        assert!(matches!(error, ClientError::Connection { .. }), "{error}");
        is_over.recv_timeout(PATIENCE).expect("the connection is still there");
    }
}
