//! Hooks that judge a push before anything of it is visible.

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

/// Most bytes of a hook's output that the client is shown; the rest is read and dropped.
pub const MAX_HOOK_OUTPUT_BYTES: usize = 64 << 10;
/// How often it is looked whether a hook has ended.
const POLL: Duration = Duration::from_millis(5);
/// How long the output of a hook that has ended is waited for, if something that it started keeps it open.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// A push to be judged.
#[derive(Clone, Copy, Debug)]
pub struct HookInput<'a> {
    /// The repository's name.
    pub repository: &'a str,
    /// Who pushes.
    pub actor: &'a str,
    /// The object format.
    pub format: Format,
    /// What is to be done; commands that are refused anyway are left out.
    pub commands: &'a [Command],
    /// The client's options.
    pub options: &'a [BString],
    /// The objects, old and new.
    pub quarantine: &'a Quarantine,
    /// The repository before the push.
    pub view: &'a View,
}

impl HookInput<'_> {
    /// The repository as it would be: all objects, and the refs after the commands.
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

/// What a hook says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookVerdict {
    /// Whether the push goes on.
    pub accepted: bool,
    /// What it has to say to the person who pushes.
    pub output: Vec<String>,
}

/// Why a hook could not judge. The push is refused.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// Its answer makes no sense.
    #[error("the pre-receive hook gave no verdict: {0}")]
    Answer(String),
    /// It could not be run or talked to.
    #[error("the pre-receive hook could not be run: {0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("the pre-receive hook took longer than {0:?}")]
    Timeout(Duration),
}

/// Judges pushes.
pub trait PreReceive: std::fmt::Debug + Send + Sync {
    /// Blocking. Called once for a push, on a thread that may wait.
    fn judge(&self, push: &HookInput<'_>) -> Result<HookVerdict, HookError>;
}

/// A command, called as Git calls `pre-receive` (githooks(5)): a line `<old> <new> <ref>` for each command on
/// its standard input, push options in `GIT_PUSH_OPTION_*`, and `GIT_DIR` and `GIT_QUARANTINE_PATH` naming the
/// quarantine. `GITFERRY_REPOSITORY` and `GITFERRY_ACTOR` say what and who. Exit status 0 accepts.
#[derive(Clone, Debug)]
pub struct CommandHook {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// It is killed, with all that it started in its process group, when it takes longer.
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
        // Its copies of the pipe's end are closed with it, so that reading ends.
        drop(command);
        let stdin = child.stdin.take();
        let (sender, receiver) = mpsc::channel();
        std::thread::Builder::new().spawn(move || sender.send(read_bounded(output)))?;
        let input = lines(push);
        std::thread::Builder::new().spawn(move || {
            // A hook need not read what it is told.
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

/// Reads to the end, and keeps the beginning.
fn read_bounded(mut input: PipeReader) -> Vec<u8> {
    let mut kept = Vec::new();
    let _ = input.by_ref().take(MAX_HOOK_OUTPUT_BYTES as u64).read_to_end(&mut kept);
    let _ = io::copy(&mut input, &mut io::sink());
    kept
}

/// Waits for the end; `None` if it had to be killed.
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
