//! Servers that do not behave, and proxies.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gitferry_base::Kind;
use gitferry_git::client::{ClientError, Server as _};
use gitferry_git::protocol::{Service, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::remote::place::{Place, assert_fetches, bulky, listed, open, push_main};

const ADVERTISED: &str = "001f# service=git-receive-pack\n0000\
    00740000000000000000000000000000000000000000 capabilities^{}\0report-status delete-refs ofs-delta agent=x/1 atomic\n\
    0000";

/// Reads a request's head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn answer(kind: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// With the length of its line as it is.
fn advertised() -> String {
    ADVERTISED.replace("0074", &format!("{:04x}", 4 + ADVERTISED.split("0074").nth(1).unwrap().len() - 4))
}

/// A server whose receive-pack advertises nothing special, and which then does this with what is pushed.
fn receiving(place: &Place, then: &'static str, probes: bool) -> String {
    let advertised = advertised();
    let posts = Arc::new(AtomicUsize::new(0));
    let address = place.tcp(move |mut stream| {
        let (advertised, posts) = (advertised.clone(), posts.clone());
        async move {
            loop {
                let head = head(&mut stream).await;
                if head.starts_with("GET") {
                    let text = answer("application/x-git-receive-pack-advertisement", &advertised);
                    stream.write_all(text.as_bytes()).await.unwrap();
                    continue;
                }
                if head.is_empty() {
                    return;
                }
                if probes && posts.fetch_add(1, Ordering::SeqCst) == 0 {
                    let mut probe = [0; 14];
                    stream.read_exact(&mut probe).await.unwrap();
                    assert_eq!(&probe, b"4\r\n0000\r\n0\r\n\r\n");
                    let text = answer("application/x-git-receive-pack-result", "");
                    stream.write_all(text.as_bytes()).await.unwrap();
                    continue;
                }
                stream.write_all(then.as_bytes()).await.unwrap();
                if then.is_empty() {
                    // Takes nothing, says nothing.
                    std::future::pending::<()>().await;
                }
                // Hangs up while the rest is still being sent.
                let mut some = vec![0; 100_000];
                let _ = stream.read(&mut some).await;
                return;
            }
        }
    });
    format!("url = \"http://{address}/{{name}}\"\n")
}

#[test]
fn answers_while_the_body_is_still_being_sent() {
    let place = Place::new();
    let large = bulky(place.path("bulk"), 24 << 20);
    for (status, words) in [("413 Payload Too Large", "too large for us"), ("403 Forbidden", "not you")] {
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{words}", words.len());
        let lines = receiving(&place, Box::leak(text.into_boxed_str()), true);
        let error = push_main(&place.app(&lines), &large).unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains(words) && shown.contains(&status[..3]), "{shown}");
        assert_eq!(error.kind(), Kind::Refused);
    }
}

#[test]
fn an_answer_that_is_lost_when_the_connection_breaks_is_asked_for_again() {
    let place = Place::new();
    let large = bulky(place.path("bulk"), 24 << 20);
    for (status, words) in [("401 Unauthorized", "log in"), ("403 Forbidden", "not you"), ("503 Busy", "")] {
        let advertised = answer("application/x-git-receive-pack-advertisement", &advertised());
        let refusal = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{words}", words.len());
        let posts = Arc::new(AtomicUsize::new(0));
        let address = place.tcp(move |mut stream| {
            let (advertised, refusal, posts) = (advertised.clone(), refusal.clone(), posts.clone());
            async move {
                loop {
                    let head = head(&mut stream).await;
                    if head.is_empty() {
                        return;
                    }
                    if head.starts_with("GET") {
                        stream.write_all(advertised.as_bytes()).await.unwrap();
                        continue;
                    }
                    match posts.fetch_add(1, Ordering::SeqCst) {
                        0 => {
                            let mut probe = [0; 14];
                            stream.read_exact(&mut probe).await.unwrap();
                            let text = answer("application/x-git-receive-pack-result", "");
                            stream.write_all(text.as_bytes()).await.unwrap();
                        }
                        // What was answered is lost: the connection is reset.
                        1 => {
                            let mut some = vec![0; 100_000];
                            stream.read_exact(&mut some).await.unwrap();
                            #[allow(deprecated)]
                            stream.set_linger(Some(std::time::Duration::ZERO)).unwrap();
                            return;
                        }
                        _ => {
                            stream.write_all(refusal.as_bytes()).await.unwrap();
                            let mut rest = vec![0; 1000];
                            while stream.read(&mut rest).await.unwrap_or(0) > 0 {}
                            return;
                        }
                    }
                }
            }
        });
        let error = push_main(&place.app(&format!("url = \"http://{address}/{{name}}\"\n")), &large).unwrap_err();
        assert_eq!(error.to_string().contains(&status[..3]), !words.is_empty(), "{error}");
        assert_eq!(error.kind(), if words.is_empty() { Kind::Transient } else { Kind::Refused }, "{error}");
    }
}

#[test]
fn servers_that_hang_up() {
    let place = Place::new();
    let large = bulky(place.path("bulk"), 24 << 20);
    // In the middle of a push, without a word.
    let lines = receiving(
        &place,
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-receive-pack-result\r\nContent-Length: 1000\r\n\r\n000e",
        true,
    );
    let error = push_main(&place.app(&lines), &large).unwrap_err();
    assert_eq!(error.kind(), Kind::Transient, "{error}");
    // At once, and in the middle of an answer.
    let half = "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\
                Transfer-Encoding: chunked\r\n\r\n1e\r\n001e# service=git-upload-pack\n\r\n";
    for text in ["", "HTTP/1.1 200 O", half] {
        let address = place.tcp(move |mut stream| async move {
            head(&mut stream).await;
            stream.write_all(text.as_bytes()).await.unwrap();
        });
        let error = listed(&place.app(&format!("url = \"http://{address}/{{name}}\"\n"))).unwrap_err();
        assert!(matches!(error, ClientError::Connection { .. } | ClientError::Protocol { .. }), "{error:?}");
        assert_eq!(error.kind(), Kind::Transient, "{error}");
    }
    // Nobody is there.
    let error = listed(&place.app("url = \"http://127.0.0.1:1/{name}\"\n")).unwrap_err();
    assert!(matches!(error, ClientError::Connection { .. }), "{error}");
}

#[test]
fn servers_that_say_nothing() {
    let place = Place::new();
    let limits = "limits = { silence = \"300ms\" }\n";
    let half = "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\
                Content-Length: 1000\r\n\r\n001e# service=git-upload-pack\n";
    for text in ["", half] {
        let address = place.tcp(move |mut stream| async move {
            head(&mut stream).await;
            stream.write_all(text.as_bytes()).await.unwrap();
            std::future::pending().await
        });
        let error = listed(&place.app(&format!("url = \"http://{address}/{{name}}\"\n{limits}"))).unwrap_err();
        assert!(error.kind() == Kind::Transient && error.to_string().contains("300ms"), "{error}");
    }
    // One that takes nothing of a push.
    let large = bulky(place.path("bulk"), 24 << 20);
    let lines = receiving(&place, "", true);
    let error = push_main(&place.app(&format!("{lines}{limits}")), &large).unwrap_err();
    assert!(matches!(error, ClientError::Connection { .. }), "{error}");
}

#[test]
fn what_is_no_git_server() {
    let place = Place::new();
    for (kind, body, words) in [
        ("text/plain", "0123456789012345678901234567890123456789\trefs/heads/main\n", "dumb HTTP"),
        ("text/html; charset=utf-8", "<html>", "text/html"),
        ("application/x-git-receive-pack-advertisement", "", "application/x-git-receive-pack-advertisement"),
        ("application/x-git-upload-pack-advertisement", "", "ends early"),
        (
            "application/x-git-upload-pack-advertisement",
            "001f# service=git-receive-pack\n0000",
            "the requested service",
        ),
        ("application/x-git-upload-pack-advertisement", "zzzz", "line length"),
    ] {
        let text = answer(kind, body);
        let address = place.tcp(move |mut stream| {
            let text = text.clone();
            async move {
                head(&mut stream).await;
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        });
        let error = listed(&place.app(&format!("url = \"http://{address}/{{name}}\"\n"))).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn answers_may_be_compressed() {
    let place = Place::new();
    let body = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(b"001e# service=git-upload-pack\n0000000eversion 2\n0000").unwrap();
        encoder.finish().unwrap()
    };
    let address = place.tcp(move |mut stream| {
        let body = body.clone();
        async move {
            head(&mut stream).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\
                 Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        }
    });
    let app = place.app(&format!("url = \"http://{address}/{{name}}\"\n"));
    let mut connection = app.connect(Service::UploadPack, Version::V2).unwrap();
    let mut said = String::new();
    connection.answer().read_to_string(&mut said).unwrap();
    assert_eq!(said, "000eversion 2\n0000");
}

/// A proxy that only knows CONNECT; what it was asked to connect to.
fn proxy(place: &Place) -> (std::net::SocketAddr, Arc<std::sync::Mutex<Vec<String>>>) {
    let asked: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    let address = place.tcp(move |mut client| {
        let log = log.clone();
        async move {
            let head = head(&mut client).await;
            let mut words = head.split(' ');
            let (verb, to) = (words.next().unwrap().to_owned(), words.next().unwrap_or_default().to_owned());
            log.lock().unwrap().push(format!("{verb} {to}"));
            let mut server = TcpStream::connect(&to).await.unwrap();
            client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    (address, asked)
}

#[test]
fn through_a_proxy() {
    let place = Place::new();
    let repo = place.repository("app");
    let server = place.serve_tls(open(), &["h2", "http/1.1"]);
    let (proxy, asked) = proxy(&place);
    let lines = format!("url = \"https://{}/{{name}}\"\nca = \"cert.pem\"\nproxy = \"http://{proxy}\"", server.address);
    assert_fetches(&place, &place.app(&lines), &repo);
    let asked = asked.lock().unwrap();
    assert!(!asked.is_empty() && asked.iter().all(|it| *it == format!("CONNECT {}", server.address)), "{asked:?}");
}

#[test]
fn through_a_proxy_of_the_environment() {
    // The environment is that of a process: this test runs itself in one of its own.
    const LINES: &str = "GITFERRY_TEST_REMOTE";
    let place = Place::new();
    if let Ok(lines) = std::env::var(LINES) {
        listed(&place.app(&lines)).unwrap();
        return;
    }
    place.repository("app");
    let server = place.serve_tls(open(), &["h2", "http/1.1"]);
    let (proxy, asked) = proxy(&place);
    let ca = place.path("cert.pem");
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "remote::wire::through_a_proxy_of_the_environment"])
        .env(LINES, format!("url = \"https://{}/{{name}}\"\nca = \"{}\"", server.address, ca.display()))
        .env("HTTPS_PROXY", format!("http://{proxy}"))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(asked.lock().unwrap().iter().all(|it| *it == format!("CONNECT {}", server.address)));
    assert!(!asked.lock().unwrap().is_empty());
}
