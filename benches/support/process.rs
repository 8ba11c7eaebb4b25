//! A process that runs beside the benchmark.

use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// Such a process; it is killed when this is dropped.
#[derive(Debug)]
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Starts one.
    pub fn start(command: &mut Command) -> io::Result<Process> {
        command.stdin(Stdio::null()).spawn().map(Process)
    }

    /// Starts one, and waits for the line on its standard output that says where it is.
    pub fn start_and_hear(command: &mut Command) -> io::Result<(Process, String)> {
        let mut process = Process::start(command.stdout(Stdio::piped()))?;
        let output = process.0.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        Ok((process, line))
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}
