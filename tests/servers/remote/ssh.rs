//! OpenSSH with Git's own programs behind it.

use std::io::Write as _;
use std::path::PathBuf;

use gitferry_base::Kind;
use gitferry_git::client::{ClientError, Server as _, UploadPack};
use gitferry_git::protocol::{Service, Version};
use gitferry_remote::RemoteRepository;
use tokio::io::AsyncWriteExt as _;

use crate::remote::place::{Place, assert_fetches, bulky, listed, push_main, refs_of};
use gitferry_test_support::sshd::{Sshd, keygen};

struct Ssh {
    place: Place,
    key: PathBuf,
    server: Sshd,
}

/// A server that knows the key `key`, and is known.
fn ssh(more: &str) -> Ssh {
    let place = Place::new();
    let key = place.path("key");
    keygen(&key, "ed25519", "");
    let server = Sshd::start(place.dir.path(), &[&key], more);
    std::fs::write(place.path("known_hosts"), server.known()).unwrap();
    Ssh { place, key, server }
}

impl Ssh {
    fn lines(&self, key: &str) -> String {
        let url = self.server.url(&self.place.path("served"));
        format!("url = \"{url}\"\nauth = {{ kind = \"ssh\", key = \"{key}\", known_hosts = \"known_hosts\" }}\n")
    }

    fn app(&self) -> RemoteRepository {
        self.place.app(&self.lines("key"))
    }
}

#[test]
fn versions_and_pushes() {
    let ssh = ssh("");
    let repo = ssh.place.repository("app");
    let app = ssh.app();
    assert_eq!(UploadPack::open(&app).unwrap().version(), Version::V2, "{}", ssh.server.log());
    assert_eq!(listed(&app).unwrap(), refs_of(&repo));
    assert_fetches(&ssh.place, &app, &repo);
    for (name, bytes) in [("small", 1000), ("large", 9 << 20)] {
        let target = ssh.place.empty(name);
        let source = bulky(ssh.place.path(&format!("from-{name}")), bytes);
        let there = app.remote().repository(name).unwrap();
        let report = push_main(&there, &source).unwrap();
        assert!(report.is_ok(), "{report:?}");
        assert_eq!(refs_of(&target), refs_of(&source));
        target.git(&["fsck", "--strict"]);
        assert_fetches(&ssh.place, &there, &target);
    }
}

/// How often the keys of a connection have been exchanged, as a server tells that logs all it does.
fn exchanges(server: &Sshd) -> usize {
    server.log().matches("SSH2_MSG_NEWKEYS received").count()
}

#[test]
fn keys_are_exchanged_while_packs_flow() {
    let ssh = ssh("LogLevel DEBUG1\nRekeyLimit 1M\n");
    let target = ssh.place.empty("app");
    let source = bulky(ssh.place.path("bulk"), 32 << 20);
    let app = ssh.app();
    assert!(push_main(&app, &source).unwrap().is_ok(), "{}", ssh.server.log());
    assert_eq!(refs_of(&target), refs_of(&source));
    let pushed = exchanges(&ssh.server);
    // How much is on its way while keys are exchanged depends on the machine.
    assert!(pushed > 8, "{pushed}");
    assert_fetches(&ssh.place, &app, &target);
    let fetched = exchanges(&ssh.server) - pushed;
    assert!(fetched > 8, "{fetched}");
}

#[test]
fn a_server_that_takes_no_variables_speaks_version_0() {
    let ssh = ssh("AcceptEnv NOTHING\n");
    let repo = ssh.place.repository("app");
    let app = ssh.app();
    assert_eq!(UploadPack::open(&app).unwrap().version(), Version::V0);
    assert_eq!(listed(&app).unwrap(), refs_of(&repo));
    assert_fetches(&ssh.place, &app, &repo);
}

#[test]
fn servers_that_are_not_the_one() {
    let ssh = ssh("");
    ssh.place.repository("app");
    let other = Sshd::start(ssh.place.dir.path(), &[&ssh.key], "");
    let changed =
        ssh.server.known().split(' ').next().unwrap().to_owned() + " " + other.known().split_once(' ').unwrap().1;
    keygen(&ssh.place.path("ecdsa"), "ecdsa", "");
    let ecdsa = std::fs::read_to_string(ssh.place.path("ecdsa.pub")).unwrap();
    let name = format!("[127.0.0.1]:{}", ssh.server.port);
    for (known, words) in [
        (String::new(), "is not in known_hosts"),
        (changed, "differs from the one in known_hosts"),
        (format!("{name} {ecdsa}"), "no host key of an algorithm"),
        (format!("@revoked {0}{0}", ssh.server.known()), "@revoked"),
        (format!("@cert-authority {}", ssh.server.known()), "@cert-authority"),
        (ssh.server.known().replace(&name, "127.0.0.1"), "is not in known_hosts"),
    ] {
        std::fs::write(ssh.place.path("known_hosts"), &known).unwrap();
        let error = listed(&ssh.app()).unwrap_err();
        assert!(matches!(error, ClientError::Untrusted { .. }) && error.kind() == Kind::Refused, "{known}: {error}");
        assert!(error.to_string().contains(words), "{known}: {error}");
    }
    std::fs::remove_file(ssh.place.path("known_hosts")).unwrap();
    let error = listed(&ssh.app()).unwrap_err();
    assert!(matches!(error, ClientError::Untrusted { .. }), "{error}");
    // Nobody tried to log in.
    assert!(!ssh.server.log().contains("Accepted"), "{}", ssh.server.log());
}

#[test]
fn a_hashed_name_is_recognised() {
    let ssh = ssh("");
    let repo = ssh.place.repository("app");
    let mut hash = std::process::Command::new("ssh-keygen");
    let hashed = hash.args(["-q", "-H", "-f"]).arg(ssh.place.path("known_hosts")).output().unwrap();
    assert!(hashed.status.success());
    assert!(std::fs::read_to_string(ssh.place.path("known_hosts")).unwrap().starts_with("|1|"));
    assert_eq!(listed(&ssh.app()).unwrap(), refs_of(&repo));
}

#[test]
fn keys_of_all_kinds() {
    let place = Place::new();
    let repo = place.repository("app");
    let kinds = [("ed25519", ""), ("ecdsa", ""), ("rsa", ""), ("ed25519", "open sesame")];
    let files: Vec<PathBuf> = (0..kinds.len()).map(|n| place.path(&format!("key-{n}"))).collect();
    for ((kind, passphrase), file) in kinds.iter().zip(&files) {
        keygen(file, kind, passphrase);
    }
    let authorized: Vec<_> = files.iter().map(PathBuf::as_path).collect();
    let server = Sshd::start(place.dir.path(), &authorized, "");
    std::fs::write(place.path("known_hosts"), server.known()).unwrap();
    let ssh = Ssh { place, key: files[0].clone(), server };
    for key in ["key-0", "key-1", "key-2"] {
        assert_eq!(listed(&ssh.place.app(&ssh.lines(key))).unwrap(), refs_of(&repo), "{}", ssh.server.log());
    }
    // SAFETY: no other thread looks at this variable.
    unsafe { std::env::set_var("GITFERRY_TEST_PASSPHRASE", "open sesame") };
    let with = |variable: &str| ssh.lines("key-3").replace(" }\n", &format!(", passphrase_env = \"{variable}\" }}\n"));
    assert_eq!(listed(&ssh.place.app(&with("GITFERRY_TEST_PASSPHRASE"))).unwrap(), refs_of(&repo));
    for (lines, words) in
        [(with("GITFERRY_TEST_NOTHING"), "GITFERRY_TEST_NOTHING"), (ssh.lines("key-3"), "passphrase_env")]
    {
        let error = listed(&ssh.place.app(&lines)).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("sesame"), "{error}");
    }
    for (file, words) in [("nowhere", "cannot read"), ("known_hosts", "not a private key")] {
        let error = listed(&ssh.place.app(&ssh.lines(file))).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_key_that_the_server_does_not_know() {
    let ssh = ssh("");
    ssh.place.repository("app");
    keygen(&ssh.place.path("other"), "ed25519", "");
    let error = listed(&ssh.place.app(&ssh.lines("other"))).unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized { .. }) && error.kind() == Kind::Refused, "{error}");
}

#[test]
fn what_the_other_end_complains_of() {
    let ssh = ssh("");
    let error = listed(&ssh.app()).unwrap_err();
    assert!(matches!(error, ClientError::NotFound { .. }), "{error}");
    // Another program than Git's.
    let loud = self::ssh("ForceCommand printf '\\033[2Jbroken\\nhere' >&2; exit 7\n");
    let error = listed(&loud.app()).unwrap_err();
    let ClientError::Exit { status: 7, reason, .. } = error else { panic!("{error}") };
    assert_eq!(reason, "[2Jbroken here");
}

#[test]
fn a_push_that_is_dropped_is_refused() {
    let ssh = ssh("");
    let target = ssh.place.empty("app");
    let source = bulky(ssh.place.path("bulk"), 1 << 20);
    let id = source.git(&["rev-parse", "main"]);
    let pack = source.feed(&["pack-objects", "--stdout", "--revs", "-q"], b"main\n");
    let app = ssh.app();
    let mut connection = app.connect(Service::ReceivePack, Version::V0).unwrap();
    let line = format!("{} {id} refs/heads/main\0report-status", "0".repeat(40));
    let mut request = connection.request().unwrap();
    request.write_all(format!("{:04x}{line}0000", line.len() + 4).as_bytes()).unwrap();
    request.write_all(&pack[..pack.len() - 10]).unwrap();
    drop(request);
    assert!(connection.request().is_err());
    drop(connection);
    assert!(refs_of(&target).is_empty());
    assert!(push_main(&app, &source).unwrap().is_ok());
    assert_eq!(refs_of(&target), refs_of(&source));
}

#[test]
fn servers_that_say_nothing_or_hang_up() {
    let ssh = ssh("");
    for hang in [true, false] {
        let address = ssh.place.tcp(move |mut stream| async move {
            stream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
            if hang {
                std::future::pending::<()>().await;
            }
        });
        let lines = format!(
            "url = \"ssh://git@{address}/{{name}}\"\nlimits = {{ silence = \"300ms\" }}\n\
             auth = {{ kind = \"ssh\", key = \"key\", known_hosts = \"known_hosts\" }}\n"
        );
        let error = listed(&ssh.place.app(&lines)).unwrap_err();
        assert!(matches!(error, ClientError::Connection { .. }) && error.kind() == Kind::Transient, "{error}");
    }
}

/// Lets everybody in and runs nothing, and keeps the channel open for all that.
struct RunsNothing;

impl russh::server::Handler for RunsNothing {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _: &str,
        _: russh::server::VerifiedPublicKey<'_>,
    ) -> Result<russh::server::Auth, russh::Error> {
        Ok(russh::server::Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: russh::Channel<russh::server::Msg>,
        reply: russh::server::ChannelOpenHandle,
        _: &mut russh::server::Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: russh::ChannelId,
        _: &[u8],
        session: &mut russh::server::Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }
}

#[test]
fn a_server_that_runs_nothing_is_not_waited_for() {
    let place = Place::new();
    for key in ["key", "host"] {
        keygen(&place.path(key), "ed25519", "");
    }
    let keys = vec![russh::keys::load_secret_key(place.path("host"), None).unwrap()];
    let config = std::sync::Arc::new(russh::server::Config { keys, ..Default::default() });
    let address = place.tcp(move |stream| {
        let config = config.clone();
        async move {
            let session = russh::server::run_stream(config, stream, RunsNothing).await.unwrap();
            let _ = session.await;
        }
    });
    let host = std::fs::read_to_string(place.path("host.pub")).unwrap();
    std::fs::write(place.path("known_hosts"), format!("[127.0.0.1]:{} {host}", address.port())).unwrap();
    let lines = format!(
        "url = \"ssh://git@{address}/{{name}}\"\n\
         auth = {{ kind = \"ssh\", key = \"key\", known_hosts = \"known_hosts\" }}\n"
    );
    let error = listed(&place.app(&lines)).unwrap_err();
    assert!(matches!(error, ClientError::Unsupported { .. }), "{error}");
}
