//! Pre-receive hooks: accept or decline a push while it is in quarantine.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use gix::bstr::BString;
use gix::hash::Kind as Format;

use super::quarantine::Quarantine;
use super::request::Command;
use crate::pack::PackSet;
use crate::refs::{RefName, RefValue};
use crate::view::View;

/// Most bytes of hook output shown to the client; the rest is read and discarded.
pub const MAX_HOOK_OUTPUT_BYTES: usize = 64 << 10;
/// Interval between two checks for the exit of a hook.
const POLL: Duration = Duration::from_millis(5);
/// Longest wait for output after a hook has exited, if a process that it started keeps the pipe open.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// Input of a hook: a push in quarantine.
#[derive(Clone, Copy, Debug)]
pub struct HookInput<'a> {
    /// Name of the repository.
    pub repository: &'a str,
    /// Name of the principal that pushes.
    pub actor: &'a str,
    /// Object format of the repository.
    pub format: Format,
    /// Requested ref updates, without those that are refused anyway.
    pub commands: &'a [Command],
    /// Push options of the client.
    pub options: &'a [BString],
    /// Bare repository with all objects, held and new.
    pub quarantine: &'a Quarantine,
    /// Repository before the push.
    pub view: &'a View,
}

impl HookInput<'_> {
    /// Returns the repository as it would be after the push: all objects, and refs with the commands applied.
    pub fn view_after(&self) -> io::Result<View> {
        let mut packs = PackSet::new(self.format);
        for (pack, index) in self.quarantine.packs()? {
            packs.add(&pack, &index).map_err(io::Error::other)?;
        }
        let edit = |command: &Command| {
            let name = RefName::new(command.name.clone()).map_err(io::Error::other)?;
            Ok((name, command.new.map(RefValue::Object)))
        };
        let edits = self.commands.iter().map(edit).collect::<io::Result<BTreeMap<_, _>>>()?;
        let refs = Arc::new(self.view.refs.with_edits(edits).map_err(io::Error::other)?);
        let View { format, head, .. } = self.view.clone();
        Ok(View { format, head, refs, packs: Arc::new(packs), recent_tips: Default::default() })
    }
}

/// Decision of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookVerdict {
    /// False to refuse the push.
    pub accepted: bool,
    /// Lines shown to the user of the client.
    pub output: Vec<String>,
}

/// A hook failed to decide. The push is refused.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The answer of the hook is invalid.
    #[error("the pre-receive hook gave no verdict: {0}")]
    Answer(String),
    /// The hook cannot be started or reached.
    #[error("the pre-receive hook could not be run: {0}")]
    Io(#[from] io::Error),
    /// The hook exceeded its time limit.
    #[error("the pre-receive hook took longer than {0:?}")]
    Timeout(Duration),
}

/// Pre-receive hook.
pub trait PreReceive: std::fmt::Debug + Send + Sync {
    /// Decides on a push. Called once per push, on a thread that may block.
    fn judge(&self, push: &HookInput<'_>) -> Result<HookVerdict, HookError>;
}

/// Hook that runs a program with the interface of Git's `pre-receive` (githooks(5)): a line `<old> <new> <ref>` per
/// command on standard input, push options in `GIT_PUSH_OPTION_*`, the quarantine in `GIT_DIR` and
/// `GIT_QUARANTINE_PATH`. `GITFERRY_REPOSITORY` and `GITFERRY_ACTOR` name repository and principal. Exit status 0
/// accepts the push.
#[derive(Clone, Debug)]
pub struct CommandHook {
    /// Path or name of the program.
    pub program: PathBuf,
    /// Arguments of the program.
    pub arguments: Vec<String>,
    /// Time limit, after which the process group of the program is killed.
    pub timeout: Duration,
}

impl PreReceive for CommandHook {
    fn judge(&self, push: &HookInput<'_>) -> Result<HookVerdict, HookError> {
        let (output, output_writer) = io::pipe()?;
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.arguments).current_dir(push.quarantine.path()).process_group(0);
        command.stdin(Stdio::piped()).stdout(output_writer.try_clone()?).stderr(output_writer);
        command.env("GIT_DIR", push.quarantine.path()).env("GIT_QUARANTINE_PATH", push.quarantine.objects());
        command.env("GITFERRY_REPOSITORY", push.repository).env("GITFERRY_ACTOR", push.actor);
        command.env("GIT_PUSH_OPTION_COUNT", push.options.len().to_string());
        for (number, option) in push.options.iter().enumerate() {
            command.env(format!("GIT_PUSH_OPTION_{number}"), OsStr::from_bytes(option));
        }
        let mut child = command.spawn()?;
        // Closes the parent's copies of the pipe's write end, so that reading ends with the child.
        drop(command);
        let stdin = child.stdin.take();
        let (sender, receiver) = mpsc::channel();
        std::thread::Builder::new().spawn(move || sender.send(read_bounded(output)))?;
        let input = lines(push);
        std::thread::Builder::new().spawn(move || {
            // A hook may exit without reading its input.
            stdin.map(|mut stdin| stdin.write_all(&input))
        })?;
        let status = wait(&mut child, self.timeout)?;
        let output = receiver.recv_timeout(OUTPUT_GRACE).unwrap_or_default();
        let output = String::from_utf8_lossy(&output).lines().map(String::from).collect();
        match status {
            Some(status) => Ok(HookVerdict { accepted: status.success(), output }),
            None => Err(HookError::Timeout(self.timeout)),
        }
    }
}

fn lines(push: &HookInput<'_>) -> Vec<u8> {
    let mut lines = Vec::new();
    let null = gix::ObjectId::null(push.format);
    for Command { name, old, new } in push.commands {
        lines.extend_from_slice(format!("{} {} ", old.unwrap_or(null), new.unwrap_or(null)).as_bytes());
        lines.extend_from_slice(name);
        lines.push(b'\n');
    }
    lines
}

/// Reads to the end of the input, and returns the first [`MAX_HOOK_OUTPUT_BYTES`].
fn read_bounded(mut input: PipeReader) -> Vec<u8> {
    let mut kept = Vec::new();
    let _ = input.by_ref().take(MAX_HOOK_OUTPUT_BYTES as u64).read_to_end(&mut kept);
    let _ = io::copy(&mut input, &mut io::sink());
    kept
}

/// Waits for the exit of a child. Kills its process group after `timeout`, and then returns `None`.
fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= timeout {
            if let Ok(group) = i32::try_from(child.id()) {
                // SAFETY: no memory is involved. The child has not been waited for, so the number of its
                // process group, which it leads, is still its own.
                unsafe { libc::kill(-group, libc::SIGKILL) };
            }
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}
