//! A server for tests: `git://` and HTTP on one port, just enough of both for a Git client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gitferry_git::protocol::{Packet, PacketReader, Service, Version, announce_service};
use gitferry_git::upload_pack::{Limits, SentPack, ServeError, Session, advertise, serve};
use gitferry_git::view::View;

/// Serves one view, which may be exchanged, until it is dropped.
pub struct Server {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    view: Mutex<Option<View>>,
    /// Takes the place of `view` as soon as a client has been told about refs.
    next: Mutex<Option<View>>,
    sent: Mutex<Vec<SentPack>>,
    errors: Mutex<Vec<String>>,
    ref_in_want: AtomicBool,
    stop: AtomicBool,
}

impl Server {
    pub fn start(view: View) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { view: Mutex::new(Some(view)), ..Shared::default() });
        let server = Server { port, shared: shared.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, shared) = (stream.unwrap(), shared.clone());
                std::thread::spawn(move || {
                    if let Err(error) = connection(&stream, &shared) {
                        shared.errors.lock().unwrap().push(error.to_string());
                    }
                });
            }
        });
        server
    }

    pub fn show(&self, view: View) {
        *self.shared.view.lock().unwrap() = Some(view);
    }

    /// Exchanges the view between a client's look at the refs and its fetch.
    pub fn show_after_refs(&self, view: View) {
        *self.shared.next.lock().unwrap() = Some(view);
    }

    pub fn offer_ref_in_want(&self) {
        self.shared.ref_in_want.store(true, Ordering::Relaxed);
    }

    pub fn git_url(&self) -> String {
        format!("git://127.0.0.1:{}/repo", self.port)
    }

    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}/repo", self.port)
    }

    /// The packs that were sent since the last call.
    pub fn sent(&self) -> Vec<SentPack> {
        std::mem::take(&mut self.shared.sent.lock().unwrap())
    }

    /// What went wrong since the last call.
    pub fn errors(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.errors.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn current(&self) -> View {
        self.view.lock().unwrap().clone().unwrap()
    }

    fn refs_are_told(&self) {
        if let Some(next) = self.next.lock().unwrap().take() {
            *self.view.lock().unwrap() = Some(next);
        }
    }

    fn answer(&self, input: &mut dyn BufRead, session: Session, out: &mut dyn Write) -> Result<bool, ServeError> {
        let cancel = AtomicBool::new(false);
        let served = serve(&self.current(), input, session, out, &Limits::default(), &cancel)?;
        self.sent.lock().unwrap().extend(served.pack);
        Ok(served.may_follow)
    }
}

fn connection(stream: &TcpStream, shared: &Shared) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    let mut input = BufReader::new(stream);
    if input.fill_buf()?.first().is_some_and(u8::is_ascii_hexdigit) {
        return git_daemon(&mut input, stream, shared);
    }
    http(&mut input, stream, shared)
}

/// `git-upload-pack /repo NUL host=… NUL NUL version=2 NUL`, then the conversation with state.
fn git_daemon(
    input: &mut BufReader<&TcpStream>,
    mut stream: &TcpStream,
    shared: &Shared,
) -> Result<(), Box<dyn std::error::Error>> {
    let version = {
        let mut packets = PacketReader::new(&mut *input);
        let Some(Packet::Data(request)) = packets.read()? else { return Ok(()) };
        assert!(request.starts_with(b"git-upload-pack /repo\0"));
        request.split(|byte| *byte == 0).map(Version::negotiate).max().unwrap_or_default()
    };
    let ref_in_want = shared.ref_in_want.load(Ordering::Relaxed);
    let session = Session { version, stateless: false, ref_in_want, thorough: false, own: false };
    let mut view = shared.current();
    advertise(&view, session, &mut stream)?;
    if version != Version::V2 {
        shared.refs_are_told();
        let cancel = AtomicBool::new(false);
        let served = serve(&view, input, session, &mut stream, &Limits::default(), &cancel)?;
        shared.sent.lock().unwrap().extend(served.pack);
        return Ok(());
    }
    while shared.answer(input, session, &mut stream)? {
        view = shared.current();
        shared.refs_are_told();
    }
    drop(view);
    Ok(())
}

fn http(
    input: &mut BufReader<&TcpStream>,
    mut stream: &TcpStream,
    shared: &Shared,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut request = String::new();
    input.read_line(&mut request)?;
    let (mut length, mut chunked, mut gzip, mut version) = (0, false, false, Version::V0);
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        match line.split_once(": ") {
            None => break,
            Some(("content-length", value)) => length = value.parse()?,
            Some(("transfer-encoding", "chunked")) => chunked = true,
            Some(("content-encoding", "gzip")) => gzip = true,
            Some(("git-protocol", value)) => version = Version::negotiate(value.as_bytes()),
            Some(("expect", _)) => stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
            _ => {}
        }
    }
    let ref_in_want = shared.ref_in_want.load(Ordering::Relaxed);
    let session = Session { version, stateless: true, ref_in_want, thorough: false, own: false };
    let head = |kind: &str| {
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/x-git-upload-pack-{kind}\r\n\r\n")
    };
    if request.starts_with("GET /repo/info/refs?service=git-upload-pack ") {
        stream.write_all(head("advertisement").as_bytes())?;
        if version != Version::V2 {
            announce_service(Service::UploadPack, &mut stream)?;
        }
        advertise(&shared.current(), session, &mut stream)?;
        if version != Version::V2 {
            shared.refs_are_told();
        }
        return Ok(());
    }
    if !request.starts_with("POST /repo/git-upload-pack ") {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        return Ok(());
    }
    let body = body(input, length, chunked)?;
    let mut body: Box<dyn BufRead> = match gzip {
        true => Box::new(BufReader::new(flate2::read::GzDecoder::new(std::io::Cursor::new(body)))),
        false => Box::new(std::io::Cursor::new(body)),
    };
    stream.write_all(head("result").as_bytes())?;
    shared.answer(&mut body, session, &mut stream)?;
    shared.refs_are_told();
    Ok(())
}

fn body(input: &mut BufReader<&TcpStream>, length: usize, chunked: bool) -> std::io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    if !chunked {
        input.read_exact(&mut body)?;
        return Ok(body);
    }
    loop {
        let mut size = String::new();
        input.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        input.read_exact(&mut chunk)?;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Ok(body);
        }
    }
}
