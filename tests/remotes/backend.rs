//! `git http-backend` behind a small HTTP server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use crate::git::command;

/// Serves all repositories below a folder, for reading and writing.
pub struct Backend {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    pub fn serve(root: &Path) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (root, log) = (root.to_owned(), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, log) = (root.clone(), log.clone());
                std::thread::spawn(move || drop(answer(stream, &root, &log)));
            }
        });
        Backend { address, requests }
    }

    /// What was asked since it was asked last: methods, paths and queries.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

struct Head {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn read(input: &mut impl BufRead) -> Option<Head> {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            input.read_line(&mut line).ok()?;
            match line.trim_end().split_once(':') {
                None => return Some(Head { method, path, query, headers }),
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            }
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn answer(mut stream: TcpStream, root: &Path, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    let Some(head) = Head::read(&mut input) else { return Ok(()) };
    log.lock().unwrap().push(format!("{} {}?{}", head.method, head.path, head.query));
    if head.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut git = command(root);
    git.arg("http-backend").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    git.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("REMOTE_USER", "tester");
    git.env("REQUEST_METHOD", &head.method).env("PATH_INFO", &head.path).env("QUERY_STRING", &head.query);
    for (variable, header) in [
        ("CONTENT_TYPE", "content-type"),
        ("CONTENT_LENGTH", "content-length"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
        ("GIT_PROTOCOL", "git-protocol"),
    ] {
        if let Some(value) = head.header(header) {
            git.env(variable, value);
        }
    }
    let mut git = git.spawn()?;
    let mut stdin = git.stdin.take().unwrap();
    let (chunked, length) =
        (head.header("transfer-encoding").is_some(), head.header("content-length").and_then(|text| text.parse().ok()));
    std::thread::scope(|scope| {
        scope.spawn(move || match (chunked, length) {
            (true, _) => drop(copy_chunks(&mut input, &mut stdin)),
            (false, length) => drop(std::io::copy(&mut input.take(length.unwrap_or(0)), &mut stdin)),
        });
        let result = respond(&mut stream, &mut BufReader::new(git.stdout.take().unwrap()));
        let _ = stream.shutdown(std::net::Shutdown::Both);
        result
    })?;
    git.wait().map(drop)
}

fn copy_chunks(input: &mut impl BufRead, out: &mut impl Write) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        // One that is cut off ends in an error, and Git is not told that it has all.
        if std::io::copy(&mut input.by_ref().take(size), out)? < size {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        input.read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// CGI: headers, an empty line, the body.
fn respond(stream: &mut TcpStream, output: &mut impl BufRead) -> std::io::Result<()> {
    let (mut status, mut headers) = ("200 OK".to_owned(), String::new());
    loop {
        let mut line = String::new();
        output.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some(("Status", value)) => status = value.to_owned(),
            Some((name, value)) => headers.push_str(&format!("{name}: {value}\r\n")),
            None => break,
        }
    }
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")?;
    loop {
        let data = output.fill_buf()?;
        let count = data.len();
        write!(stream, "{count:x}\r\n")?;
        stream.write_all(data)?;
        stream.write_all(b"\r\n")?;
        if count == 0 {
            return stream.flush();
        }
        output.consume(count);
    }
}
