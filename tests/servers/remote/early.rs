//! Servers that answer a push before they have read it, and close the connection.

use std::io::{Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use gitferry_git::client::ClientError;
use gitferry_test_support::git::noise;

use crate::remote::place::{Place, bulky, push_pack};

/// Largest body that these servers accept, in bytes.
const LIMIT: usize = 100_000;
/// Time for which a connection stays open after a half-close.
const LINGER: Duration = Duration::from_millis(100);

/// Moment of the refusal.
#[derive(Clone, Copy, Debug)]
enum Refuses {
    /// After the head of each push but the first, the client's probe: 403.
    Heads,
    /// Within the body, after [`LIMIT`] bytes, or after a head that announces more: 413.
    Sizes,
}

/// Treatment of the connection after the refusal.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Closes the connection, whatever has arrived.
    Close,
    /// Reads for a while first, as nginx does.
    ReadAndClose,
    /// Ends its own direction, and reads nothing.
    HalfClose,
    /// Resets the connection.
    Reset,
}

const MANNERS: [(Refuses, Then); 8] = [
    (Refuses::Heads, Then::Close),
    (Refuses::Heads, Then::ReadAndClose),
    (Refuses::Heads, Then::HalfClose),
    (Refuses::Heads, Then::Reset),
    (Refuses::Sizes, Then::Close),
    (Refuses::Sizes, Then::ReadAndClose),
    (Refuses::Sizes, Then::HalfClose),
    (Refuses::Sizes, Then::Reset),
];

fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok().map(|head| head.to_ascii_lowercase())
}

fn say(stream: &mut TcpStream, status: &str, kind: &str, body: &str) {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
    let _ = stream.write_all(text.as_bytes());
}

/// Serves one connection.
fn converse(mut stream: TcpStream, refuses: Refuses, then: Then, posts: &AtomicUsize) {
    while let Some(head) = head(&mut stream) {
        if head.starts_with("get") {
            let line = format!("{} capabilities^{{}}\0report-status agent=x/1\n", "0".repeat(40));
            let body = format!("001f# service=git-receive-pack\n0000{:04x}{line}0000", line.len() + 4);
            say(&mut stream, "200 OK", "application/x-git-receive-pack-advertisement", &body);
            continue;
        }
        let announced = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let announced: Option<usize> = announced.map(|length| length.parse().unwrap());
        let refused = match refuses {
            Refuses::Heads => posts.fetch_add(1, Ordering::SeqCst) > 0,
            Refuses::Sizes => !ends_within(&mut stream, announced),
        };
        if !refused {
            if matches!(refuses, Refuses::Heads) {
                assert!(ends_within(&mut stream, announced));
            }
            say(&mut stream, "200 OK", "application/x-git-receive-pack-result", "");
            continue;
        }
        match refuses {
            Refuses::Heads => say(&mut stream, "403 Forbidden", "text/plain", "not you"),
            Refuses::Sizes => say(&mut stream, "413 Content Too Large", "text/plain", "too much"),
        }
        match then {
            Then::Close => {}
            Then::ReadAndClose => {
                let _ = stream.set_read_timeout(Some(LINGER));
                let mut some = vec![0; 64 << 10];
                while stream.read(&mut some).is_ok_and(|count| count > 0) {}
            }
            Then::HalfClose => {
                let _ = stream.shutdown(Shutdown::Write);
                thread::sleep(LINGER);
            }
            Then::Reset => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
        }
        return;
    }
}

/// Reads a body, chunked unless its length is announced; false for more than [`LIMIT`] bytes.
fn ends_within(stream: &mut TcpStream, announced: Option<usize>) -> bool {
    if let Some(length) = announced {
        return length <= LIMIT && stream.read_exact(&mut vec![0; length]).is_ok();
    }
    let mut last = Vec::new();
    let mut some = vec![0; 16 << 10];
    let mut bytes = 0;
    while bytes <= LIMIT && !last.ends_with(b"0\r\n\r\n") {
        match stream.read(&mut some) {
            Ok(0) | Err(_) => return false,
            Ok(count) => {
                bytes += count;
                last.extend_from_slice(&some[..count]);
                last.drain(..last.len().saturating_sub(5));
            }
        }
    }
    bytes <= LIMIT
}

fn serve(refuses: Refuses, then: Then) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let posts = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let posts = posts.clone();
            thread::spawn(move || converse(stream, refuses, then, &posts));
        }
    });
    address
}

/// Errors of the pushes of `bytes`, among `rounds`, for which the answer is lost.
fn lost(place: &Place, (refuses, then): (Refuses, Then), bytes: usize, rounds: usize) -> Vec<String> {
    let pack = noise(3, bytes);
    let id = "1".repeat(40);
    let mut lost = Vec::new();
    for _ in 0..rounds {
        let address = serve(refuses, then);
        let error = push_pack(&place.app(&format!("url = \"http://{address}/{{name}}\"\n")), &id, &pack).unwrap_err();
        match (refuses, &error) {
            (Refuses::Heads, ClientError::Unauthorized { .. }) => {}
            (Refuses::Sizes, ClientError::Status { status: 413, .. }) => {}
            (_, ClientError::Connection { .. }) => lost.push(error.to_string()),
            _ => panic!("{refuses:?} {then:?}: {error}"),
        }
    }
    lost
}

/// Pushes that are held and sent with their length, and such as are streamed.
const SIZES: [usize; 2] = [900_000, 3 << 20];

#[test]
fn answers_to_pushes_that_are_still_being_sent_are_not_lost() {
    let place = Place::new();
    for manner in MANNERS {
        for bytes in SIZES {
            // A push that is held has no probe before it.
            if !(matches!(manner.0, Refuses::Heads) && bytes == SIZES[0]) {
                let lost = lost(&place, manner, bytes, 20);
                assert!(lost.is_empty(), "{manner:?} {bytes}: {lost:?}");
            }
        }
    }
}

#[test]
#[ignore = "counts over many rounds; prints a table"]
fn answers_that_are_lost() {
    let place = Place::new();
    let work = bulky(place.path("work"), SIZES[1]);
    for manner in MANNERS {
        for bytes in SIZES {
            if !(matches!(manner.0, Refuses::Heads) && bytes == SIZES[0]) {
                println!("{manner:?}, {bytes} bytes: gitferry lost {} of 200", lost(&place, manner, bytes, 200).len());
            }
        }
        let rounds = 50;
        let heard = (0..rounds).filter(|_| {
            let url = format!("http://{}/app", serve(manner.0, manner.1));
            let mut git = std::process::Command::new("git");
            let git = git.current_dir(&work.path).args(["push", &url, "main"]).env("GIT_TERMINAL_PROMPT", "0");
            let said = String::from_utf8_lossy(&git.output().unwrap().stderr).into_owned();
            said.contains("413") || said.contains("403")
        });
        println!("{manner:?}: git lost {} of {rounds}", rounds - heard.count());
    }
}
