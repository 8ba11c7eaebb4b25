//! `gitferry worker` as a process of its own, measured from outside.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::measure::{anonymous_kib, children, cpu, peak_rss_kib};
use super::support::process::Process;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// A running worker.
pub struct Worker {
    process: Process,
    health: String,
    started: Instant,
    anon_kib: u64,
}

/// What it has taken.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub wall: Duration,
    pub cpu: Duration,
    pub rss_kib: u64,
    pub anon_kib: u64,
}

impl Worker {
    /// Starts one, and waits until it is ready to work.
    pub fn start(mut command: Command, log: &Path) -> io::Result<Worker> {
        let started = Instant::now();
        command.args(["--health", "127.0.0.1:0", "--json"]).stderr(File::create(log)?);
        let (process, line) = Process::start_and_hear(&mut command)?;
        let ready: Value = serde_json::from_str(&line)?;
        let health = ready["health"].as_str().unwrap_or_default().to_owned();
        Ok(Worker { process, health, started, anon_kib: 0 })
    }

    /// Waits for its counters to come to something.
    pub fn until(&mut self, done: impl Fn(&Value) -> bool) -> io::Result<Value> {
        let start = Instant::now();
        loop {
            self.anon_kib = self.anon_kib.max(anonymous_kib(self.process.id()).unwrap_or(0));
            let counters = self.counters()?;
            if done(&counters) {
                return Ok(counters);
            }
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("the worker does not come to an end: {counters}")));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn counters(&self) -> io::Result<Value> {
        let mut stream = TcpStream::connect(&self.health)?;
        write!(stream, "GET /_health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok(serde_json::from_str::<Value>(body)?["counters"].take())
    }

    /// What it has taken so far.
    pub fn taken(&self) -> io::Result<Taken> {
        let pid = self.process.id();
        let rss_kib = peak_rss_kib(pid).unwrap_or(0);
        Ok(Taken { wall: self.started.elapsed(), cpu: cpu(pid)?, rss_kib, anon_kib: self.anon_kib })
    }
}

/// Processor time of a process and of all below it.
pub fn cpu_of_tree(root: Option<u32>) -> Duration {
    let (mut sum, mut left) = (Duration::ZERO, Vec::from_iter(root));
    while let Some(pid) = left.pop() {
        sum += cpu(pid).unwrap_or_default();
        left.extend(children(pid));
    }
    sum
}
