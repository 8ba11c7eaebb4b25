//! Git servers of several makes, each with one repository.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::remotes_servers::git::GitRepo;
use gitferry_test_support::backend::Backend;
use gitferry_test_support::pair::{Pair, REGIONS, US};
use gitferry_test_support::python;
use gitferry_test_support::sshd::{Sshd, keygen};

/// The repository's name at all servers.
pub const NAME: &str = "team/app";
/// The server from PyPI.
const DULWICH: (&str, &str) = ("dulwich", "1.2.21");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// `git http-backend`.
    Backend,
    /// OpenSSH, with Git's own programs behind it, in version 2.
    Ssh,
    /// The same where no variable gets through: version 0.
    OldSsh,
    /// dulwich over HTTP: version 0, HTTP/1.0.
    Dulwich,
    /// gitferry's own host, with nothing but Git's protocol between, for links to push to.
    Gitferry,
    /// The same, for nobody but people.
    Closed,
}

/// Lets links push to a host.
const FOR_LINKS: &str = "[[push_policies]]\nmirror = true\n";

pub struct Server {
    pub make: Make,
    /// The repository itself, or for gitferry's host what was last pushed there.
    pub work: GitRepo,
    dir: PathBuf,
    running: Running,
}

enum Running {
    Backend(Backend),
    Ssh(Sshd),
    Python { process: Child, port: u16 },
    Host(Box<Pair>),
}

impl Server {
    /// With an empty repository, in a folder of its own.
    pub fn start(make: Make, dir: PathBuf) -> Server {
        let work = GitRepo::init(dir.join("served").join(format!("{NAME}.git")), &[]);
        let served = dir.join("served");
        let running = match make {
            Make::Backend => Running::Backend(Backend::serve(&served)),
            Make::Ssh | Make::OldSsh => {
                let key = dir.join("key");
                keygen(&key, "ed25519", "");
                let more = if make == Make::OldSsh { "AcceptEnv NOTHING\n" } else { "" };
                let server = Sshd::start(&dir, &[&key], more);
                std::fs::write(dir.join("known_hosts"), server.known()).unwrap();
                Running::Ssh(server)
            }
            Make::Dulwich => dulwich(&served),
            Make::Gitferry | Make::Closed => {
                let pair = Pair::configured(if make == Make::Gitferry { FOR_LINKS } else { "" }, &[]);
                pair.ok(&["repo", "create", NAME, "--region", REGIONS[US]]);
                Running::Host(Box::new(pair))
            }
        };
        Server { make, work, dir, running }
    }

    /// Its part of a configuration, as a remote of this name.
    pub fn lines(&self, name: &str) -> String {
        let file = |file: &str| self.dir.join(file).display().to_string();
        let more = match self.running {
            Running::Ssh(_) => format!(
                "auth = {{ kind = \"ssh\", key = \"{}\", known_hosts = \"{}\" }}\n",
                file("key"),
                file("known_hosts")
            ),
            _ => String::new(),
        };
        format!("[remotes.{name}]\nurl = \"{}\"\n{more}", self.url())
    }

    fn url(&self) -> String {
        match &self.running {
            Running::Backend(backend) => format!("http://{}/{{name}}.git", backend.address),
            Running::Ssh(server) => server.url(&self.dir.join("served")).replace("{name}", "{name}.git"),
            Running::Python { port, .. } => format!("http://127.0.0.1:{port}/{{name}}.git"),
            Running::Host(pair) => pair.url(US, "{name}"),
        }
    }

    /// Makes the server have what was done in `work`, HEAD as well.
    pub fn publish(&self) {
        if let Running::Host(pair) = &self.running {
            pair.ok(&["import", self.work.path.to_str().unwrap(), NAME, "--region", REGIONS[US]]);
        }
    }

    /// Makes `work` have what the server has.
    pub fn refresh(&self) {
        if let Running::Host(pair) = &self.running {
            self.work.git(&["fetch", "-q", "--prune", &pair.url(US, NAME), "+refs/*:refs/*"]);
        }
    }

    /// What the server has, as Git reads it from there, which must be sound.
    pub fn refs(&self) -> BTreeMap<String, String> {
        self.refresh();
        assert_eq!(self.work.fsck().0, Some(0), "{:?}: {:?}", self.make, self.work.fsck());
        let lines = self.work.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
        lines.lines().map(|line| line.split_once(' ').map(|(name, id)| (name.into(), id.into())).unwrap()).collect()
    }

    /// All that gitferry's host has, as a bare repository that Git reads.
    pub fn exported(&self) -> Option<GitRepo> {
        let Running::Host(pair) = &self.running else { return None };
        let to = self.dir.join("exported.git");
        pair.ok(&["export", NAME, "--region", REGIONS[US], "--to", to.to_str().unwrap()]);
        Some(GitRepo::at(to))
    }

    /// Pushes to it as plain Git does.
    pub fn push(&self, from: &GitRepo, refs: &[&str]) {
        let url = self.url().replace("{name}", NAME);
        from.git(&[&["push", "-q", &url], refs].concat());
    }

    /// What the server's HEAD names.
    pub fn head(&self) -> String {
        match &self.running {
            Running::Host(pair) => {
                let told = self.work.git(&["ls-remote", "--symref", &pair.url(US, NAME), "HEAD"]);
                let first = told.lines().next().and_then(|line| line.strip_prefix("ref: ")).unwrap_or_default();
                first.split('\t').next().unwrap_or_default().to_owned()
            }
            _ => self.work.head().trim().to_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Running::Python { process, .. } = self {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn dulwich(served: &Path) -> Running {
    let python = python::environment(DULWICH.0, DULWICH.1, "");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/remotes_servers/serve_dulwich.py");
    let log = std::fs::File::create(served.with_extension("log")).unwrap();
    let mut command = Command::new(python);
    command.arg(script).arg(served).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut process = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().parse().unwrap_or_else(|_| {
        panic!("dulwich does not start: {}", std::fs::read_to_string(served.with_extension("log")).unwrap())
    });
    Running::Python { process, port }
}
