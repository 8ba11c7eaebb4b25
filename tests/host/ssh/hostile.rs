//! Clients that mean harm, or are broken: they end by themselves, and cost the others nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::US;
use russh::client::Config;

use super::Ssh;
use super::client::{connect, drain, login};
use crate::said;

/// So much more memory than before a flood is the allocator's.
const MAX_GROWTH_MIB: u64 = 64;

fn raw(ssh: &Ssh) -> TcpStream {
    let stream = TcpStream::connect(ssh.address(US)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

/// Waits until the host closes a connection; the time that takes, and what came.
fn closed(stream: &mut TcpStream) -> (Duration, Vec<u8>) {
    let start = Instant::now();
    let mut all = Vec::new();
    let ended = stream.read_to_end(&mut all);
    let stays = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!stays, "the connection stays open");
    (start.elapsed(), all)
}

/// A packet before encryption: length, padding, payload.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 - (payload.len() + 5) % 8 + 8;
    let length = (payload.len() + padding + 1) as u32;
    [&length.to_be_bytes()[..], &[padding as u8], payload, &vec![0; padding]].concat()
}

/// Clients that never get as far as a login are cut off after half a minute; meanwhile others work.
#[test]
fn clients_that_do_not_log_in_are_cut_off() {
    let ssh = Ssh::open();
    let repo = ssh.with_app();
    let start = Instant::now();
    let mut silent = raw(&ssh);
    let mut named = raw(&ssh);
    named.write_all(b"SSH-2.0-slow\r\n").unwrap();
    let mut slow = raw(&ssh);
    let mut chatty = raw(&ssh);
    chatty.write_all(b"SSH-2.0-chatty\r\n").unwrap();
    // `SSH_MSG_IGNORE`, again and again, keeps no connection open.
    let ignore = packet(&[2, 0, 0, 0, 0]);
    std::thread::scope(|scope| {
        let ends = [&mut silent, &mut named].map(|stream| scope.spawn(move || closed(stream).0));
        scope.spawn(|| {
            for byte in b"SSH-2.0-".iter().chain(std::iter::repeat(&b'a')) {
                if slow.write_all(&[*byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(300));
                assert!(start.elapsed() < Duration::from_secs(60), "a slow banner stays");
            }
        });
        scope.spawn(|| {
            while chatty.write_all(&ignore).is_ok() {
                std::thread::sleep(Duration::from_millis(300));
                assert!(start.elapsed() < Duration::from_secs(60), "a chatty client stays");
            }
        });
        // Others are served all the while.
        for _ in 0..5 {
            ssh.git("ann", &repo, &["ls-remote", &ssh.url(US, "app")]);
            std::thread::sleep(Duration::from_secs(2));
        }
        for end in ends {
            let time = end.join().unwrap();
            assert!((20..45).contains(&time.as_secs()), "{time:?}");
        }
    });
}

#[test]
fn nonsense_ends_the_connection_at_once() {
    let ssh = Ssh::open();
    let memory = ssh.pair.memory_mib();
    let giant = [&u32::MAX.to_be_bytes()[..], &[0; 64]].concat();
    let large = [&(300_000u32).to_be_bytes()[..], &[0; 64]].concat();
    let table: [(&str, Vec<u8>); 8] = [
        ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("old", b"SSH-1.5-old\r\n".to_vec()),
        ("endless", vec![b'a'; 2000]),
        ("binary", vec![0xff; 600]),
        ("giant", [b"SSH-2.0-x\r\n".to_vec(), giant].concat()),
        ("large", [b"SSH-2.0-x\r\n".to_vec(), large].concat()),
        ("kex", [b"SSH-2.0-x\r\n".to_vec(), packet(&[20; 40])].concat()),
        ("auth", [b"SSH-2.0-x\r\n".to_vec(), packet(&[50, 0, 0, 0, 1, b'x'])].concat()),
    ];
    for (name, bytes) in table {
        for _ in 0..20 {
            let mut stream = raw(&ssh);
            // Fails if the host has refused the beginning already.
            let _ = stream.write_all(&bytes);
            let (time, answer) = closed(&mut stream);
            assert!(time < Duration::from_secs(10), "{name}: {time:?}");
            assert!(answer.is_empty() || answer.starts_with(b"SSH-2.0-gitferry\r\n"), "{name}: {answer:?}");
        }
    }
    assert!(said(&ssh.run("ann", &[])).contains("Hi ann!"));
    assert!(ssh.pair.memory_mib() < memory + MAX_GROWTH_MIB);
    assert!(!ssh.pair.log().contains("panicked"), "{}", ssh.pair.log());
}

/// Connections that do nothing give way to those that log in, however many they are.
#[test]
fn a_crowd_of_silent_connections_keeps_nobody_out() {
    let ssh = Ssh::with(&[("ann", "write")], ["limits = { connections = 8 }", ""], "");
    let crowd: Vec<TcpStream> = (0..100).map(|_| raw(&ssh)).collect();
    let repo = ssh.with_app();
    ssh.git("ann", &repo, &["ls-remote", &ssh.url(US, "app")]);
    drop(crowd);
}

/// A thousand connections that do nothing are all kept, at a bounded cost, and others log in beside them.
#[test]
fn a_thousand_idle_connections_cost_little() {
    rlimit::increase_nofile_limit(8192).unwrap();
    let ssh = Ssh::open();
    let repo = ssh.with_app();
    let before = ssh.pair.memory_mib();
    let mut crowd: Vec<TcpStream> = (0..1000).map(|_| raw(&ssh)).collect();
    for stream in &mut crowd {
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"SSH-2.0-gitferry\r\n");
    }
    let start = Instant::now();
    ssh.git("ann", &repo, &["ls-remote", &ssh.url(US, "app")]);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let grown = ssh.pair.memory_mib().saturating_sub(before);
    assert!(grown < MAX_GROWTH_MIB, "{grown} MiB for a thousand connections");
    // None of them has a login after half a minute.
    let last = crowd.last_mut().unwrap();
    assert!(closed(last).0 < Duration::from_secs(45));
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_channels_and_variables_are_bounded() {
    let ssh = Ssh::open();
    let memory = ssh.pair.memory_mib();
    let session = login(&ssh, "ann", Config::default()).await;
    let mut open = Vec::new();
    let refused = loop {
        assert!(open.len() < 100, "no limit of channels");
        match session.channel_open_session().await {
            Ok(channel) => open.push(channel),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, russh::Error::ChannelOpenFailure(_)), "{refused}");
    assert_eq!(open.len(), 16);
    // A channel without a command takes data, and drops it.
    for _ in 0..64 {
        open[0].data_bytes(vec![0; 1 << 20]).await.unwrap();
    }
    assert!(ssh.pair.memory_mib() < memory + MAX_GROWTH_MIB);
    // The first command of a channel is the only one.
    open[1].exec(true, "git-upload-pack 'app'").await.unwrap();
    open[1].exec(true, "git-upload-pack 'app'").await.unwrap();
    let (_, error, status) = drain(open.remove(1)).await;
    assert_eq!((error.matches("there is no repository").count(), status), (1, Some(128)));
    let again = session.channel_open_session().await.unwrap();
    for number in 0..1000 {
        if again.set_env(false, format!("NAME{number}"), "value").await.is_err() {
            break;
        }
    }
    // The connection has ended; another one begins.
    let ended = tokio::time::timeout(Duration::from_secs(20), drain(again)).await;
    assert_eq!(ended.unwrap().2, None);
    assert!(session.is_closed() || session.channel_open_session().await.is_err());
    let other = login(&ssh, "ann", Config::default()).await;
    other.channel_open_session().await.unwrap();
}

/// A client that never opens its window, or reads nothing, keeps neither a thread nor a slot.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_given_up() {
    let limits = "limits = { response_silence = \"2s\", requests = 2, waiting = 4 }";
    let ssh = Ssh::with(&[("ann", "write"), ("bob", "read")], [limits, ""], "");
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    repo.pack_many_refs("refs/tags/many", 20_000, &repo.git(&["rev-parse", "main"]));
    ssh.git("ann", &repo, &["push", "-q", "--mirror", &ssh.url(US, "app")]);
    let closed_window = || Config { window_size: 0, ..Config::default() };
    let mut channels = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let session = login(&ssh, "bob", closed_window()).await;
        let channel = session.channel_open_session().await.unwrap();
        channel.exec(false, "git-upload-pack 'app'").await.unwrap();
        channels.push(channel);
        sessions.push(session);
    }
    // Another user is served beside them.
    let start = Instant::now();
    ssh.git("ann", &repo, &["ls-remote", "-q", &ssh.url(US, "app"), "refs/heads/main"]);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    for channel in channels {
        let ended = tokio::time::timeout(Duration::from_secs(40), drain(channel)).await;
        let (output, _, status) = ended.expect("a closed window keeps a channel");
        assert!(output.is_empty() && status != Some(0), "{status:?}");
    }
}

/// A login that starts nothing ends; one that waits for its command's answer does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_login_ends() {
    let ssh = Ssh::with(&[("ann", "write")], ["limits = { response_silence = \"2s\" }", ""], "");
    ssh.with_app();
    let idle = login(&ssh, "ann", Config::default()).await;
    let busy = login(&ssh, "ann", Config::default()).await;
    let channel = busy.channel_open_session().await.unwrap();
    channel.exec(true, "git-receive-pack 'app'").await.unwrap();
    let start = Instant::now();
    while !idle.is_closed() {
        assert!(start.elapsed() < Duration::from_secs(20), "an idle login stays");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(start.elapsed() > Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!busy.is_closed(), "a command that waits for its client was cut off");
    channel.data_bytes(&b"0000"[..]).await.unwrap();
    assert_eq!(drain(channel).await.2, Some(0));
}

/// Guessing keys: the host ends the connection after a few.
#[tokio::test(flavor = "multi_thread")]
async fn many_wrong_keys_end_the_connection() {
    use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, key::safe_rng};
    let ssh = Ssh::open();
    let mut session = connect(&ssh, Config::default()).await;
    let mut refused = 0;
    for number in 0..30 {
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let key = PrivateKeyWithHashAlg::new(std::sync::Arc::new(key), None);
        // Another user name each time begins no new count.
        match session.authenticate_publickey(format!("user{number}"), key).await {
            Ok(result) if !session.is_closed() => {
                assert!(!result.success());
                refused += 1;
            }
            _ => break,
        }
    }
    assert!((5..=12).contains(&refused), "{refused} keys were tried");
}
