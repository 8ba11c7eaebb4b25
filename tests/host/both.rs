//! The same repository behind a host and behind Git's own server, which says how it should be.

use std::path::PathBuf;
use std::process::Output;

use crate::said;
use gitferry_test_support::git::{self, GitRepo};
use gitferry_test_support::pair::{Pair, REGIONS, US};

pub const VERSIONS: [&str; 3] = ["0", "1", "2"];
pub const FORMATS: [&str; 2] = ["sha1", "sha256"];

/// One repository behind a host, and the same one for Git's own server.
pub struct Both {
    pub pair: Pair,
    /// The source, served by Git over `file://`.
    pub repo: GitRepo,
    pub ours: String,
    pub theirs: String,
}

impl Both {
    pub fn new(pair: Pair, format: &str) -> Both {
        let repo = GitRepo::with_history(pair.path("src.git"), &[&format!("--object-format={format}")]);
        for (key, value) in [("allowFilter", "true"), ("allowReachableSHA1InWant", "true")] {
            repo.git(&["config", &format!("uploadpack.{key}"), value]);
        }
        let (ours, theirs) = (pair.url(US, "app"), format!("file://{}", repo.path.display()));
        Both { pair, repo, ours, theirs }
    }

    /// Brings the host to the state of the source. The first time by an import, which decides the format.
    pub fn publish(&self) {
        let there = self.repo.try_git(&["ls-remote", &self.ours]).status.success();
        match there {
            true => drop(self.repo.git(&["push", "-q", "--mirror", &self.ours])),
            false => drop(self.pair.ok(&["import", self.repo.path.to_str().unwrap(), "app", "--region", REGIONS[US]])),
        }
    }

    /// Does something in two folders, once with each server, and compares what is there afterwards.
    pub fn compare(&self, what: &str, version: &str, run: impl Fn(&Client)) {
        let sides = [&self.ours, &self.theirs].map(|url| {
            let dir = (0..).map(|n| self.pair.path(&format!("client-{n}"))).find(|path| !path.exists()).unwrap();
            std::fs::create_dir(&dir).unwrap();
            let client = Client { dir, url: url.clone(), version: version.into() };
            run(&client);
            client
        });
        let [ours, theirs] = &sides;
        let (ours, theirs) = (ours.state(), theirs.state());
        for (part, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert!(ours == theirs, "{what}, version {version}, part {part}:\n{ours}\ninstead of\n{theirs}");
        }
        sides.iter().for_each(|client| std::fs::remove_dir_all(&client.dir).unwrap());
    }

    /// [`Both::compare`] in all versions of the protocol.
    pub fn compare_all(&self, what: &str, run: impl Fn(&Client)) {
        VERSIONS.iter().for_each(|version| self.compare(what, version, &run));
    }
}

/// Somebody with a folder of their own.
pub struct Client {
    pub dir: PathBuf,
    pub url: String,
    pub version: String,
}

impl Client {
    pub fn try_git(&self, args: &[&str]) -> Output {
        let version = format!("protocol.version={}", self.version);
        git::command(&self.dir).args(["-c", &version]).args(args).output().unwrap()
    }

    pub fn git(&self, args: &[&str]) -> String {
        let output = self.try_git(args);
        assert!(output.status.success(), "git {args:?} ({}, {}): {}", self.url, self.version, said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `git clone` into the folder `c`.
    pub fn clone(&self, options: &[&str]) {
        self.git(&[&["clone", "-q"], options, &[&self.url, "c"]].concat());
    }

    pub fn at(&self, args: &[&str]) -> String {
        self.git(&[&["-C", "c"], args].concat())
    }

    /// Refs, HEAD, where history ends, objects, all as far as it does not depend on the server's address.
    pub fn state(&self) -> Vec<String> {
        let repo = self.dir.join("c");
        let clean = self.try_git(&["-C", "c", "fsck", "--strict", "--no-dangling"]);
        assert!(clean.status.success(), "{}", said(&clean));
        let dir = if repo.join("HEAD").exists() { repo } else { repo.join(".git") };
        let shallow = std::fs::read_to_string(dir.join("shallow")).unwrap_or_default();
        let mut shallow: Vec<&str> = shallow.lines().collect();
        shallow.sort_unstable();
        // Nothing may be fetched for the comparison.
        let all = ["cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname)"];
        let objects = self.at(&all);
        let mut objects: Vec<&str> = objects.lines().collect();
        objects.sort_unstable();
        let head = std::fs::read_to_string(dir.join("HEAD")).unwrap();
        let refs = self.at(&["for-each-ref", "--format=%(refname) %(objectname) %(symref)"]);
        vec![refs, head, shallow.join("\n"), objects.join("\n")]
    }
}
