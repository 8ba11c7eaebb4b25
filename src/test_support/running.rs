//! A running `gitferry worker`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::aws::Emulator;
use crate::world::World;

/// A process that ends with its value, such as `gitferry up`.
pub struct Ends(pub Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Running {
    pub child: Child,
    pub health: String,
    pub output: BufReader<std::process::ChildStdout>,
}

impl Running {
    /// On the configuration of a world, with more environment and more arguments.
    pub fn start(world: &World, environment: &[(&str, &str)], more: &[&str]) -> Running {
        let args = ["worker", "--health", "127.0.0.1:0", "--json"];
        let mut command: Command = world.command(&[&args[..], more].concat());
        command.envs(Emulator::get().environment()).envs(environment.iter().copied());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(world.path("log")).unwrap();
        let mut child = command.env("GITFERRY_LOG", "info").stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("it did not start: {line}"));
        Running { child, health: started["health"].as_str().unwrap().to_owned(), output }
    }

    /// The code and body of an answer.
    pub fn get(&self, path: &str) -> (u16, Value) {
        let (code, body) = self.get_text(path);
        (code, serde_json::from_str(&body).unwrap())
    }

    /// The same of an answer that is not JSON.
    pub fn get_text(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.health).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// One of the counters of `/_health`.
    pub fn counter(&self, name: &str) -> u64 {
        self.get("/_health").1["counters"][name].as_u64().unwrap()
    }

    /// Sends it a signal: `TERM`, `KILL`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it as an orchestrator does; its exit code and its last line.
    pub fn stop(self) -> (Option<i32>, Value) {
        self.signal("TERM");
        self.finish()
    }

    /// Waits for its end, once it has been asked to; its exit code and its last line.
    pub fn finish(mut self) -> (Option<i32>, Value) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), serde_json::from_str(&rest).unwrap())
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
