//! Hosts and workers as containers run them: configured by the environment.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use gitferry_test_support::aws::Emulator;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::World;

const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with the test.
pub struct Running<'a> {
    child: Child,
    world: &'a World,
    address: String,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running<'_> {
    /// A counter of a worker.
    pub fn counter(&self, name: &str) -> u64 {
        let said: Value = serde_json::from_str(&self.world.ok(&["health", &self.address])).unwrap();
        said["counters"][name].as_u64().unwrap()
    }
}

/// A command with this configuration, its errors and logs in the file `log`.
fn gitferry(world: &World, config: &str, args: &[&str]) -> Command {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(world.path("log")).unwrap();
    let mut command = world.command(args);
    command.env("GITFERRY_CONFIG_TOML", config).envs(Emulator::get().environment()).stderr(log);
    command
}

/// Makes the regions of a configuration where they are not there yet.
pub fn init(world: &World, config: &str) {
    let made = gitferry(world, config, &["region", "init"]).output().unwrap();
    assert!(made.status.success(), "{}", std::fs::read_to_string(world.path("log")).unwrap());
}

/// A worker that is ready to work.
pub fn worker<'a>(world: &'a World, config: &str, links: &[&str]) -> Running<'a> {
    init(world, config);
    let args = [&["worker", "--health", "127.0.0.1:0", "--json"], links].concat();
    let mut child = gitferry(world, config, &args).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said = || std::fs::read_to_string(world.path("log")).unwrap();
    let started: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("it did not start: {line}{}", said()));
    Running { child, world, address: started["health"].as_str().unwrap().to_owned() }
}

/// The host of one region, alone.
pub fn serve<'a>(world: &'a World, config: &str, region: &str, address: SocketAddr) -> Running<'a> {
    init(world, config);
    let child = gitferry(world, config, &["up", "--host", region]).stdout(Stdio::null()).spawn().unwrap();
    wait("the host listens", || TcpStream::connect(address).is_ok());
    Running { child, world, address: address.to_string() }
}

/// Pushes a few commits to a repository of a host: `[NAME:TOKEN@]ADDRESS:PORT`.
pub fn push(world: &World, address: &str, name: &str) {
    let repo = GitRepo::with_history(world.path("app.git"), &[]);
    repo.git(&["push", "-q", &format!("http://{address}/{name}"), "main"]);
}

/// The state of a repository in a region, where there is one.
pub fn frontier(world: &World, config: &str, name: &str, region: &str) -> Option<Value> {
    let run = gitferry(world, config, &["repo", "show", name, "--region", region, "--json"]).output().unwrap();
    serde_json::from_slice::<Value>(&run.stdout).ok().map(|shown| shown["frontier"].clone())
}

/// Waits for something that is to come true.
pub fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// An address that nobody listens on.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
