//! The two servers, each a process of its own, measured from outside.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::git_server::{GitServer, open_for_pushes};
use super::support::measure::{Sample, anonymous_kib, children, cpu};
use super::support::place::{git_says, gitferry};
use super::support::process::Process;

/// How often the memory of a server is looked at.
const POLL_EVERY: Duration = Duration::from_millis(5);
/// Longest wait for a server to start.
const START: Duration = Duration::from_secs(30);

/// A server of Git over HTTP.
#[derive(Debug)]
pub struct Server {
    process: Process,
    /// What it is, for the report.
    pub who: &'static str,
    /// Where it is.
    pub url: String,
    /// gitferry: the second region's host.
    pub replica: String,
    /// Where its repositories or its state are.
    pub dir: PathBuf,
}

impl Server {
    /// `git http-backend`.
    pub fn git(dir: PathBuf) -> io::Result<Server> {
        let GitServer { process, address, dir } = GitServer::start(dir)?;
        let url = format!("http://{address}");
        Ok(Server { process, who: "git http-backend", url, replica: String::new(), dir })
    }

    /// `gitferry up` in a folder that `gitferry init` has been run in.
    pub fn gitferry(dir: PathBuf) -> io::Result<Server> {
        Server::up(dir, &[])
    }

    /// The host of the source region alone, without a worker, in such a folder.
    pub fn gitferry_host(dir: PathBuf) -> io::Result<Server> {
        Server::up(dir, &["--host", "us-east-1"])
    }

    fn up(dir: PathBuf, arguments: &[&str]) -> io::Result<Server> {
        let ports = [free_port()?, free_port()?];
        let file = dir.join("gitferry.toml");
        let text = std::fs::read_to_string(&file)?;
        let text = text.replace("8411", &ports[0].to_string()).replace("8412", &ports[1].to_string());
        std::fs::write(&file, text)?;
        let log = File::create(dir.join("log"))?;
        let mut command = gitferry();
        let process = Process::start(
            command.args(["up", "--dir"]).arg(&dir).args(arguments).stdout(log.try_clone()?).stderr(log),
        )?;
        let [url, replica] = ports.map(|port| format!("http://127.0.0.1:{port}"));
        let server = Server { process, who: "gitferry", url, replica, dir };
        let last = if arguments.is_empty() { ports[1] } else { ports[0] };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", last)).is_err() {
            if start.elapsed() > START {
                return Err(io::Error::other("gitferry up did not start"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Makes room for a repository that is pushed: Git's has to be there first.
    pub fn prepare(&self, name: &str) -> io::Result<()> {
        if self.who == "gitferry" {
            return Ok(());
        }
        let path = self.dir.join(name);
        git_says(&self.dir, &["init", "-q", "--bare", &path.to_string_lossy()])?;
        configure(&path)
    }

    /// Does something and measures this server meanwhile. Memory is that of all its processes together.
    pub fn measure(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<Sample> {
        let (pid, done) = (self.process.id(), AtomicBool::new(false));
        let before = cpu(pid)?;
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| watch(pid, &done));
            let start = Instant::now();
            let worked = work();
            let wall = start.elapsed();
            done.store(true, Ordering::Relaxed);
            let anon_kib = watcher.join().unwrap_or_default();
            worked?;
            // A CGI process may be reaped a moment after its answer has ended.
            std::thread::sleep(Duration::from_millis(30));
            Ok(Sample { wall, cpu: cpu(pid)?.saturating_sub(before), anon_kib, ..Sample::default() })
        })
    }
}

/// Git checks what it receives as gitferry does.
pub fn configure(path: &Path) -> io::Result<()> {
    open_for_pushes(path)?;
    git_says(path, &["config", "receive.fsckObjects", "true"]).map(drop)
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn watch(root: u32, done: &AtomicBool) -> u64 {
    let mut peak = 0;
    while !done.load(Ordering::Relaxed) {
        let (mut sum, mut left) = (0, vec![root]);
        while let Some(pid) = left.pop() {
            sum += anonymous_kib(pid).unwrap_or(0);
            left.extend(children(pid));
        }
        peak = peak.max(sum);
        std::thread::sleep(POLL_EVERY);
    }
    peak
}
