//! What passes between a Git client and a server, counted by the client.

use std::path::Path;
use std::process::{Command, Output};

/// One run of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    pub ok: bool,
    /// Objects in all packs that came.
    pub objects: u64,
    /// Requests of `fetch` (version 2), or rounds of haves (versions 0 and 1).
    pub requests: usize,
    /// Haves that were sent.
    pub haves: usize,
    /// The client's own words.
    pub said: String,
}

/// Runs a client that shows progress.
pub fn run(dir: &Path, arguments: &[&str]) -> Traced {
    let Output { status, stderr, .. } = Command::new("git")
        .args(arguments)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_TRACE_PACKET", "1")
        .output()
        .unwrap();
    let mut traced = Traced { ok: status.success(), ..Traced::default() };
    for line in String::from_utf8_lossy(&stderr).split(['\r', '\n']) {
        // Over HTTP, versions 0 and 1 are spoken by `fetch-pack`.
        let speakers = ["fetch> ", "clone> ", "fetch-pack> "].into_iter();
        let sent = speakers.filter_map(|speaker| line.split_once(speaker)).map(|(_, sent)| sent).next();
        let total = line.strip_prefix("remote: Total ").and_then(|rest| rest.split(' ').next());
        match (sent, total) {
            (Some(sent), _) if sent.starts_with("have ") => traced.haves += 1,
            (Some("command=fetch"), _) => traced.requests += 1,
            (Some(sent), _) if sent.starts_with("done") => traced.requests += usize::from(traced.requests == 0),
            (_, Some(total)) => traced.objects += total.parse::<u64>().unwrap(),
            _ if line.starts_with("fatal: ") || line.starts_with("error: ") => traced.said += line,
            _ => {}
        }
    }
    traced
}
