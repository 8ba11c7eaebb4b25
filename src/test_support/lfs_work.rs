//! What a person with git-lfs has, and what a store has of it.

use std::path::{Path, PathBuf};
use std::process::Output;

use sha2::{Digest as _, Sha256};

use crate::git::{self, GitRepo};

/// A work tree in which `*.bin` are LFS objects.
pub struct Work {
    pub path: PathBuf,
}

impl Work {
    pub fn new(path: PathBuf) -> Work {
        let installed = std::process::Command::new("git-lfs").arg("version").output();
        assert!(installed.is_ok_and(|output| output.status.success()), "git-lfs is needed: apt-get install git-lfs");
        std::fs::create_dir(&path).unwrap();
        let work = Work { path };
        work.git(&["init", "-q", "-b", "main"]);
        work.git(&["lfs", "install", "--local"]);
        work.git(&["lfs", "track", "*.bin"]);
        work
    }

    /// A clone in a folder, whose files are those that LFS objects hold.
    pub fn clone(dir: &Path, url: &str) -> Work {
        let path = (0..).map(|n| dir.join(format!("clone-{n}"))).find(|path| !path.exists()).unwrap();
        let filters = [
            "filter.lfs.process=git-lfs filter-process",
            "filter.lfs.smudge=git-lfs smudge -- %f",
            "filter.lfs.clean=git-lfs clean -- %f",
            "filter.lfs.required=true",
        ];
        let mut command = git::command(dir);
        command.arg("clone").arg("-q");
        command.args(filters.iter().flat_map(|filter| ["-c", filter]));
        let output = command.arg(url).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        Work { path }
    }

    pub fn try_git(&self, args: &[&str]) -> Output {
        git::command(&self.path).args(args).output().unwrap()
    }

    pub fn git(&self, args: &[&str]) -> String {
        let output = self.try_git(args);
        assert!(output.status.success(), "git {args:?}: {}", said(&output));
        said(&output)
    }

    pub fn commit(&self, file: &str, content: &[u8]) {
        std::fs::write(self.path.join(file), content).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "-qm", file]);
    }

    pub fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path.join(file)).unwrap()
    }

    pub fn repo(&self) -> GitRepo {
        GitRepo::at(self.path.join(".git"))
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

pub fn oid_of(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// Where the store of a region in a folder has an LFS object.
pub fn stored(region: &Path, oid: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir(region.join("objects/repositories")).into_iter().flatten();
    let paths = folders.map(|entry| entry.unwrap().path().join("lfs").join(&oid[..2]).join(&oid[2..4]).join(oid));
    paths.into_iter().find(|path| path.exists())
}

/// A bare repository whose only branch points to an LFS object that it does not have.
pub fn with_pointer(path: &Path, content: &[u8]) -> GitRepo {
    let repo = GitRepo::init(path, &[]);
    let (oid, size) = (oid_of(content), content.len());
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n");
    repo.commit("main", "file.bin", &pointer);
    repo
}
