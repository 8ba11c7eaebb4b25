//! The two clients: gitferry, which keeps nothing, and git with a mirror on this disk.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::git_server::{GitServer, open_for_pushes};
use super::support::measure::{Sample, run};
use super::support::place::{clear, copy_repository, git, git_says, gitferry, settle};

/// The repository at the source, and gitferry's copy of it at the target.
pub const REPOSITORY: &str = "repository";
/// Git's copy at the target, made from nothing.
pub const COLD: &str = "cold";
/// Git's copy at the target, made from a mirror that is kept.
pub const KEPT: &str = "kept";

/// Both servers, and a folder for the clients.
pub struct Site {
    pub source: GitServer,
    pub target: GitServer,
    /// gitferry's configuration and git's mirrors.
    pub clients: PathBuf,
}

impl Site {
    /// With gitferry's configuration.
    pub fn new(source: GitServer, target: GitServer, clients: PathBuf) -> io::Result<Site> {
        let config = format!(
            "[remotes.from]\nurl = \"{}\"\n[remotes.to]\nurl = \"{}\"\n[links.copy]\nsource = \"from\"\n\
             target = \"to\"\nrepositories = [\"{REPOSITORY}\"]\n",
            source.url("{name}"),
            target.url("{name}")
        );
        std::fs::create_dir_all(clients.join("gitferry"))?;
        std::fs::write(clients.join("gitferry/gitferry.toml"), config)?;
        Ok(Site { source, target, clients })
    }

    /// Reads what a pass reads, and leaves nothing. Where a file was not read since it was written, or for a day, the
    /// kernel notes on the disk when it is read (`relatime` in mount(8)), and counts that block as written by the
    /// reader: of a new file even `cat` is said to write 4,096 bytes.
    pub fn warm(&self) -> io::Result<()> {
        let dir = self.clients.join("gitferry");
        self.target.make_empty(REPOSITORY)?;
        run(gitferry().current_dir(&dir).args(["explain", "copy", REPOSITORY]))?;
        match std::fs::read_dir(&dir)?.count() {
            1 => Ok(()),
            _ => Err(io::Error::other("gitferry has left something beside its configuration")),
        }
    }

    /// Runs one client and counts its requests.
    fn counted(&self, work: impl FnOnce() -> io::Result<Sample>) -> io::Result<Sample> {
        settle();
        self.source.requests()?;
        self.target.requests()?;
        let sample = work()?;
        Ok(Sample { requests: Some(self.source.requests()? + self.target.requests()?), ..sample })
    }

    /// `gitferry replicate`, the whole process.
    pub fn gitferry(&self) -> io::Result<Sample> {
        let mut command = gitferry();
        command.current_dir(self.clients.join("gitferry")).args(["replicate", "copy", "--json"]);
        let sample = self.counted(|| run(&mut command))?;
        self.assert_same(REPOSITORY)?;
        Ok(sample)
    }

    /// `git clone --mirror` and `git push --mirror`, both from nothing.
    pub fn cold(&self) -> io::Result<Sample> {
        clear(&self.clients.join(COLD))?;
        self.target.make_empty(COLD)?;
        let sample = self.counted(|| {
            let url = self.source.url(REPOSITORY);
            let clone = run(&mut client(&self.clients, &["clone", "-q", "--mirror", &url, COLD]))?;
            Ok(clone.then(self.push(COLD)?))
        })?;
        self.assert_same(COLD)?;
        clear(&self.clients.join(COLD))?;
        clear(&self.target.path(COLD))?;
        Ok(sample)
    }

    /// `git fetch --prune` and `git push --mirror` from the mirror that is kept.
    pub fn kept(&self) -> io::Result<Sample> {
        let sample = self.counted(|| {
            let fetch = run(&mut client(&self.clients.join(KEPT), &["fetch", "-q", "--prune"]))?;
            Ok(fetch.then(self.push(KEPT)?))
        })?;
        self.assert_same(KEPT)?;
        Ok(sample)
    }

    fn push(&self, name: &str) -> io::Result<Sample> {
        run(&mut client(&self.clients.join(name), &["push", "-q", "--mirror", &self.target.url(name)]))
    }

    /// Puts both copies at the target, and the mirror that is kept, back to what a repository is.
    pub fn reset(&self, to: &Path) -> io::Result<()> {
        for copy in [self.target.path(REPOSITORY), self.target.path(KEPT), self.clients.join(KEPT)] {
            clear(&copy)?;
            copy_repository(to, &copy)?;
        }
        open_for_pushes(&self.target.path(REPOSITORY))?;
        open_for_pushes(&self.target.path(KEPT))?;
        let mirror = self.clients.join(KEPT);
        for (key, value) in [
            ("remote.origin.url", self.source.url(REPOSITORY).as_str()),
            ("remote.origin.fetch", "+refs/*:refs/*"),
            ("remote.origin.mirror", "true"),
        ] {
            git_says(&mirror, &["config", key, value])?;
        }
        Ok(())
    }

    /// A copy at the target has the refs of the source.
    fn assert_same(&self, name: &str) -> io::Result<()> {
        let refs = |path: &Path| git_says(path, &["for-each-ref", "--format=%(objectname) %(refname)"]);
        match refs(&self.source.path(REPOSITORY))? == refs(&self.target.path(name))? {
            true => Ok(()),
            false => Err(io::Error::other(format!("{name} at the target is not what the source is"))),
        }
    }
}

/// A git command that does no work in the background.
fn client(dir: &Path, arguments: &[&str]) -> Command {
    git(dir, &[&["-c", "gc.auto=0", "-c", "maintenance.auto=false"], arguments].concat())
}

/// Bytes of all files below a folder.
pub fn bytes_of(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => bytes_of(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}
