//! A client that does what OpenSSH's never does, and security keys without a device.

use std::sync::Arc;

use gitferry_test_support::pair::US;
use russh::client::{Config, Handle, Handler, Msg};
use russh::keys::agent::AgentIdentity;
use russh::keys::key::safe_rng;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::public::{KeyData, SkEcdsaSha2NistP256, SkEd25519};
use russh::keys::{
    Algorithm, EcdsaCurve, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate,
    load_secret_key,
};
use russh::{Channel, ChannelMsg};
use sha2::{Digest as _, Sha256};

use super::Ssh;

/// Trusts every server.
pub struct Trusting;

impl Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// A session of a client.
pub type Session = Handle<Trusting>;

/// Connects, without logging in.
pub async fn connect(ssh: &Ssh, config: Config) -> Session {
    russh::client::connect(Arc::new(config), ssh.address(US), Trusting).await.unwrap()
}

/// Logs in as a user.
pub async fn login(ssh: &Ssh, user: &str, config: Config) -> Session {
    let mut session = connect(ssh, config).await;
    let key = load_secret_key(ssh.key(user), None).unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    assert!(session.authenticate_publickey("git", key).await.unwrap().success());
    session
}

/// All that comes on a channel until it is closed: the output, the standard error, and the exit status.
pub async fn drain(mut channel: Channel<Msg>) -> (Vec<u8>, String, Option<u32>) {
    let (mut output, mut error, mut status) = (Vec::new(), Vec::new(), None);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => output.extend_from_slice(&data),
            ChannelMsg::ExtendedData { data, ext: 1 } => error.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    (output, String::from_utf8(error).unwrap(), status)
}

/// The part of a security key that signs: over the application, flags and a counter (OpenSSH's `PROTOCOL.u2f`).
pub struct Device {
    key: PrivateKey,
    algorithm: Algorithm,
}

/// Application of keys that `ssh-keygen -t …-sk` makes.
const APPLICATION: &str = "ssh:";
/// The user has touched the device.
const TOUCHED: u8 = 1;

impl Device {
    pub fn new(algorithm: Algorithm) -> (Device, PublicKey) {
        let inner = match algorithm {
            Algorithm::SkEd25519 => Algorithm::Ed25519,
            _ => Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        };
        let key = PrivateKey::random(&mut safe_rng(), inner).unwrap();
        let public = match key.public_key().key_data() {
            KeyData::Ed25519(key) => KeyData::SkEd25519(SkEd25519::new(*key, APPLICATION)),
            KeyData::Ecdsa(russh::keys::ssh_key::public::EcdsaPublicKey::NistP256(point)) => {
                KeyData::SkEcdsaSha2NistP256(SkEcdsaSha2NistP256::new(*point, APPLICATION))
            }
            other => panic!("{other:?}"),
        };
        (Device { key, algorithm }, public.into())
    }
}

impl russh::Signer for Device {
    type Error = russh::AgentAuthError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        _: Option<HashAlg>,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, russh::AgentAuthError> {
        let trailer = [&[TOUCHED][..], &7u32.to_be_bytes()].concat();
        let message = [&Sha256::digest(APPLICATION)[..], &trailer, &Sha256::digest(&to_sign)[..]].concat();
        let inner: Signature = self.key.try_sign(&message).unwrap();
        let signed = Signature::new(self.algorithm.clone(), [inner.as_bytes(), &trailer].concat()).unwrap();
        let mut blob = Vec::new();
        signed.encode(&mut blob).unwrap();
        let mut answer = to_sign;
        blob.encode(&mut answer).unwrap();
        Ok(answer)
    }
}

#[tokio::test]
async fn security_keys_log_in() {
    let kinds = [Algorithm::SkEd25519, Algorithm::SkEcdsaSha2NistP256];
    let mut devices = kinds.map(Device::new);
    let lines: String = devices
        .iter()
        .map(|(_, key)| format!("{} read {}\n", &key.algorithm().as_str()[..6], key.to_openssh().unwrap()))
        .collect();
    let ssh = Ssh::on(tempfile::tempdir().unwrap(), &lines, ["", ""], "");
    for (device, key) in &mut devices {
        let mut session = connect(&ssh, Config::default()).await;
        let result = session.authenticate_publickey_with("git", key.clone(), None, device).await.unwrap();
        assert!(result.success(), "{}: {}", key.algorithm(), ssh.pair.log());
        let channel = session.channel_open_session().await.unwrap();
        channel.request_shell(true).await.unwrap();
        let (_, greeting, status) = drain(channel).await;
        assert!(greeting.contains("Hi sk-") && status == Some(1), "{greeting}");
    }
    // Another device with a key of the same kind does not pass for it.
    let (mut stranger, _) = Device::new(Algorithm::SkEd25519);
    let mut session = connect(&ssh, Config::default()).await;
    let key = devices[0].1.clone();
    let result = session.authenticate_publickey_with("git", key, None, &mut stranger).await.unwrap();
    assert!(!result.success());
}
