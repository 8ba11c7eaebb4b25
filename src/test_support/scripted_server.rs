//! Ways to real Git: processes that are talked to over pipes, or one process for each request.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gitferry_git::client::{ClientError, Connection, Request, Server};
use gitferry_git::protocol::{Service, Version};

use crate::git::{GitRepo, command};

pub const VERSIONS: [Version; 3] = [Version::V0, Version::V1, Version::V2];
pub const FORMATS: [&str; 2] = ["sha1", "sha256"];

/// Every version, with and without state.
pub fn ways() -> impl Iterator<Item = (Version, bool)> {
    VERSIONS.into_iter().flat_map(|version| [false, true].map(|stateless| (version, stateless)))
}

/// What becomes of the bytes that a server sends.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    /// They end.
    Cut,
    /// One byte is another.
    Flip(u8),
    /// All that follow are noise.
    Noise(u64),
}

/// Real Git on a repository.
#[derive(Clone, Debug)]
pub struct GitServer {
    path: PathBuf,
    pub stateless: bool,
    /// The highest version that it speaks.
    pub version: Version,
    /// Words of its greeting that are others.
    pub edits: Vec<(String, String)>,
    /// Damage from a byte on, counted over all that it sends in one connection.
    pub damage: Option<(u64, Damage)>,
    /// What it has said without state: greetings and answers.
    pub said: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl GitServer {
    pub fn new(repo: &GitRepo, version: Version, stateless: bool) -> GitServer {
        GitServer { path: repo.path.clone(), stateless, version, edits: Vec::new(), damage: None, said: Arc::default() }
    }

    pub fn path_text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// It greets with another word (of the same length or not).
    pub fn saying(mut self, word: &str, instead: &str) -> GitServer {
        self.edits.push((word.into(), instead.into()));
        self
    }

    fn command(&self, service: Service, version: Version, options: &[&str]) -> Command {
        let mut command = command(Path::new("/"));
        let number = match version.min(self.version) {
            Version::V0 => 0,
            Version::V1 => 1,
            Version::V2 => 2,
        };
        command.env("GIT_PROTOCOL", format!("version={number}"));
        command.arg(service.name().trim_start_matches("git-")).args(options).arg(&self.path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    /// The greeting with its words edited, and behind it whatever comes.
    fn edited<R: Read>(&self, mut input: R) -> std::io::Chain<Cursor<Vec<u8>>, R> {
        let mut greeting = Vec::new();
        loop {
            let mut digits = [0; 4];
            if self.edits.is_empty() || input.read_exact(&mut digits).is_err() {
                break;
            }
            let length = usize::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap();
            if length == 0 {
                greeting.extend(digits);
                break;
            }
            let mut line = vec![0; length - 4];
            input.read_exact(&mut line).unwrap();
            for (word, instead) in &self.edits {
                line = replaced(&line, word.as_bytes(), instead.as_bytes());
            }
            greeting.extend(format!("{:04x}", line.len() + 4).bytes());
            greeting.extend(line);
        }
        Cursor::new(greeting).chain(input)
    }

    fn damaged<R: Read>(&self, input: R, offset: u64) -> Damaged<R> {
        Damaged { input, offset, damage: self.damage }
    }
}

fn replaced(line: &[u8], word: &[u8], instead: &[u8]) -> Vec<u8> {
    match line.windows(word.len().max(1)).position(|part| part == word) {
        Some(at) => [&line[..at], instead, &line[at + word.len()..]].concat(),
        None => line.to_vec(),
    }
}

impl Server for GitServer {
    fn url(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn connect(&self, service: Service, version: Version) -> Result<Box<dyn Connection>, ClientError> {
        if self.stateless {
            let options = ["--stateless-rpc", "--http-backend-info-refs"];
            let output = self.command(service, version, &options).output().unwrap();
            let mut greeting = Vec::new();
            self.edited(&output.stdout[..]).read_to_end(&mut greeting).unwrap();
            let sent = greeting.len() as u64;
            self.said.lock().unwrap().push(greeting.clone());
            let answer = BufReader::new(self.damaged(Cursor::new(greeting), 0));
            let server = self.clone();
            return Ok(Box::new(Stateless { server, service, version, answer, sent }));
        }
        let mut command = self.command(service, version, &[]);
        let mut child;
        let output: Box<dyn Read + Send> = if self.damage.is_some() {
            // Who waits for more than there is would wait for ever: as transports do, this one gives up.
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            child = command.stdout(OwnedFd::from(theirs)).spawn().unwrap();
            Box::new(ours)
        } else {
            child = command.spawn().unwrap();
            Box::new(child.stdout.take().unwrap())
        };
        // It holds the other end, too.
        drop(command);
        let output = self.damaged(self.edited(output), 0);
        let stdin = child.stdin.take();
        Ok(Box::new(Piped { answer: BufReader::new(output), stdin, child }))
    }
}

/// An edited greeting, and what comes behind it.
type Edited = std::io::Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;

/// One process, asked over pipes.
struct Piped {
    answer: BufReader<Damaged<Edited>>,
    stdin: Option<ChildStdin>,
    child: Child,
}

impl Connection for Piped {
    fn is_stateless(&self) -> bool {
        false
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        &mut self.answer
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        Ok(Box::new(PipedRequest { stdin: &mut self.stdin, finished: false }))
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        self.stdin.take();
        // What it still writes would block it.
        let _ = std::io::copy(&mut self.answer.get_mut().input, &mut std::io::sink());
        let _ = self.child.wait();
    }
}

struct PipedRequest<'c> {
    stdin: &'c mut Option<ChildStdin>,
    finished: bool,
}

impl Write for PipedRequest<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?.write(data)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Request for PipedRequest<'_> {
    fn finish(mut self: Box<Self>) -> Result<(), ClientError> {
        self.finished = true;
        Ok(())
    }
}

impl Drop for PipedRequest<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.stdin.take();
        }
    }
}

/// A process for each request.
struct Stateless {
    server: GitServer,
    service: Service,
    version: Version,
    answer: BufReader<Damaged<Cursor<Vec<u8>>>>,
    sent: u64,
}

impl Connection for Stateless {
    fn is_stateless(&self) -> bool {
        true
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        &mut self.answer
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        Ok(Box::new(StatelessRequest { connection: self, body: tempfile::tempfile().unwrap(), finished: false }))
    }
}

struct StatelessRequest<'c> {
    connection: &'c mut Stateless,
    body: File,
    finished: bool,
}

impl Write for StatelessRequest<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.body.write(data)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl StatelessRequest<'_> {
    /// What the server answers to what it got.
    fn run(&mut self) -> Vec<u8> {
        use std::io::Seek;
        self.body.rewind().unwrap();
        let Stateless { server, service, version, .. } = &self.connection;
        let mut command = server.command(*service, *version, &["--stateless-rpc"]);
        command.stdin(self.body.try_clone().unwrap()).output().unwrap().stdout
    }
}

impl Request for StatelessRequest<'_> {
    fn finish(mut self: Box<Self>) -> Result<(), ClientError> {
        let answer = self.run();
        self.finished = true;
        let connection = &mut *self.connection;
        let bytes = answer.len() as u64;
        connection.server.said.lock().unwrap().push(answer.clone());
        connection.answer = BufReader::new(connection.server.damaged(Cursor::new(answer), connection.sent));
        connection.sent += bytes;
        Ok(())
    }
}

/// What was sent so far reaches the server all the same.
impl Drop for StatelessRequest<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.run();
        }
    }
}

/// Does to what it reads what was said.
pub struct Damaged<R> {
    pub input: R,
    pub offset: u64,
    pub damage: Option<(u64, Damage)>,
}

impl<R: Read> Read for Damaged<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let mut count = self.input.read(out)?;
        let Some((at, damage)) = self.damage else { return Ok(count) };
        let from = at.saturating_sub(self.offset).min(count as u64) as usize;
        let hit = at >= self.offset && from < count;
        match damage {
            Damage::Cut => count = from,
            Damage::Flip(bits) if hit => out[from] ^= bits.max(1),
            Damage::Flip(_) => {}
            Damage::Noise(seed) => {
                let noise = crate::git::noise(seed ^ self.offset, count);
                out[from..count].copy_from_slice(&noise[from..]);
            }
        }
        self.offset += count as u64;
        Ok(count)
    }
}
