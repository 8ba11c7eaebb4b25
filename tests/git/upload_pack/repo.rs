//! Repositories made by Git, and views of them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use gitferry_git::pack::PackSet;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::{RefTable, View};
pub use gitferry_test_support::git::run as git_in;
use gix::ObjectId;
use gix::hash::Kind as Format;
use tempfile::TempDir;

pub const FORMATS: [Format; 2] = [Format::Sha1, Format::Sha256];

/// A bare repository that lives as long as the value.
pub struct Repo {
    pub dir: TempDir,
    pub format: Format,
}

/// Runs Git, which has to succeed; its output without the last newline.
pub fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = git_in(dir, arguments, b"");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?} in {}: {errors}", dir.display());
    String::from_utf8(output.stdout).unwrap().trim_end().into()
}

/// Runs Git, which has to fail; what it says.
pub fn git_fails(dir: &Path, arguments: &[&str]) -> String {
    let output = git_in(dir, arguments, b"");
    assert!(!output.status.success(), "git {arguments:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into()
}

impl Repo {
    pub fn empty(format: Format) -> Repo {
        let repo = Repo { dir: tempfile::tempdir().unwrap(), format };
        let format = format!("--object-format={format}");
        git(repo.path(), &["init", "-q", "--bare", &format, "-b", "main", "."]);
        for key in ["uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant", "uploadpack.allowRefInWant"] {
            git(repo.path(), &["config", key, "true"]);
        }
        git(repo.path(), &["config", "gc.auto", "0"]);
        repo
    }

    /// Sixty commits with merges and growing files in directories, branches, tags (annotated, of tags, of
    /// trees and blobs), a note and refs elsewhere; in two packs.
    pub fn with_history(format: Format) -> Repo {
        static MADE: [OnceLock<Repo>; 2] = [const { OnceLock::new() }; 2];
        let made = MADE[usize::from(format == FORMATS[1])].get_or_init(|| Repo::make_history(format));
        let repo = Repo { dir: tempfile::tempdir().unwrap(), format };
        copy(made.path(), repo.path());
        repo
    }

    fn make_history(format: Format) -> Repo {
        let repo = Repo::empty(format);
        repo.import(&history(0..40, format));
        repo.git(&["repack", "-q", "-d", "--depth=20"]);
        repo.import(&history(40..60, format));
        let tag = |name: &str, target: &str| repo.git(&["tag", "-a", "-m", name, name, target]);
        tag("v1", "main~30");
        tag("v2", "main~3");
        tag("tagged-tag", "v2");
        tag("tree", "main~5^{tree}");
        repo.git(&["tag", "light", "main~20"]);
        repo.git(&["tag", "blob", "main:dir0/sub/file0"]);
        repo.git(&["update-ref", "refs/pull/1/head", "main~7"]);
        repo.git(&["update-ref", "refs/pull/2/head", "side"]);
        repo.git(&["notes", "add", "-m", "a note", "main~4"]);
        repo.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/side"]);
        repo.git(&["symbolic-ref", "refs/heads/dangling", "refs/heads/nowhere"]);
        repo.pack();
        repo
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        git(self.path(), arguments)
    }

    pub fn import(&self, script: &[u8]) {
        let output =
            git_in(self.path(), &["-c", "fastimport.unpackLimit=1000000", "fast-import", "--quiet", "--force"], script);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Adds commits on top of a branch that touch one file each; the last one's id.
    pub fn commit(&self, branch: &str, count: usize, marker: &str) -> ObjectId {
        let from = self.git(&["rev-parse", "--verify", "-q", branch]);
        let mut script = Vec::new();
        for number in 0..count {
            let time = 1_700_100_000 + number;
            writeln!(script, "commit refs/heads/{branch}\ncommitter C <c@example.org> {time} +0000").unwrap();
            data(&mut script, &format!("{marker} {number}"));
            if number == 0 {
                writeln!(script, "from {from}").unwrap();
            }
            writeln!(script, "M 100644 inline dir1/{marker}").unwrap();
            data(&mut script, &format!("{marker} has {number}\n"));
        }
        self.import(&script);
        self.pack();
        self.rev_parse(branch)
    }

    /// Puts loose objects into another pack.
    pub fn pack(&self) {
        self.git(&["repack", "-q", "-d"]);
    }

    pub fn rev_parse(&self, name: &str) -> ObjectId {
        ObjectId::from_hex(self.git(&["rev-parse", "--verify", name]).as_bytes()).unwrap()
    }

    /// The URL for Git's own upload-pack.
    pub fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    pub fn packs(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.path().join("objects/pack")).unwrap();
        let mut packs: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        packs.retain(|path| path.extension().is_some_and(|extension| extension == "pack"));
        packs.sort();
        packs
    }

    /// Its state now, all refs visible.
    pub fn view(&self) -> View {
        self.view_without("refs/hidden/")
    }

    pub fn view_without(&self, hidden: &str) -> View {
        let mut packs = PackSet::new(self.format);
        for pack in self.packs() {
            packs.add(&pack, &pack.with_extension("idx")).unwrap();
        }
        let mut refs: Vec<(RefName, RefValue)> = Vec::new();
        for line in self.git(&["for-each-ref", "--format=%(refname) %(objectname) %(symref)"]).lines() {
            let mut parts = line.splitn(3, ' ');
            let (name, id, symref) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap_or_default());
            let name = RefName::new(name).unwrap();
            if name.starts_with(hidden.as_bytes()) {
                continue;
            }
            let value = match symref {
                "" => RefValue::Object(ObjectId::from_hex(id.as_bytes()).unwrap()),
                target => RefValue::Symbolic(RefName::new(target).unwrap()),
            };
            refs.push((name, value));
        }
        // `for-each-ref` passes over it.
        if self.path().join("refs/heads/dangling").exists() {
            let target = RefValue::Symbolic(RefName::new("refs/heads/nowhere").unwrap());
            refs.push((RefName::new("refs/heads/dangling").unwrap(), target));
            refs.sort_by(|a, b| a.0.cmp(&b.0));
        }
        let head = std::fs::read_to_string(self.path().join("HEAD")).unwrap();
        let head = match head.trim_end().strip_prefix("ref: ") {
            Some(target) => RefValue::Symbolic(RefName::new(target).unwrap()),
            None => RefValue::Object(ObjectId::from_hex(head.trim_end().as_bytes()).unwrap()),
        };
        View {
            format: self.format,
            head,
            refs: Arc::new(RefTable::from_sorted(self.format, refs).unwrap()),
            packs: Arc::new(packs),
            recent_tips: Default::default(),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
        let to = to.join(entry.file_name().unwrap());
        if kind.is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry, &to);
        } else {
            std::fs::copy(&entry, &to).unwrap();
        }
    }
}

fn data(script: &mut Vec<u8>, data: &str) {
    write!(script, "data {}\n{data}\n", data.len()).unwrap();
}

/// Commits in a made-up history, for fast-import.
fn history(commits: std::ops::Range<usize>, format: Format) -> Vec<u8> {
    let mut script = Vec::new();
    let mut begun = std::collections::HashSet::new();
    for commit in commits.clone() {
        let branch = if commit % 7 == 3 { "side" } else { "main" };
        let time = 1_700_000_000 + commit * 86_400;
        writeln!(script, "commit refs/heads/{branch}\nmark :{}", commit + 1).unwrap();
        writeln!(script, "committer C <c@example.org> {time} +0000").unwrap();
        data(&mut script, &format!("commit {commit}"));
        if begun.insert(branch) && commits.start > 0 {
            writeln!(script, "from refs/heads/{branch}^0").unwrap();
        }
        if commit % 10 == 9 {
            writeln!(script, "merge refs/heads/side").unwrap();
        }
        for file in (0..8).filter(|file| (commit + file) % 3 == 0) {
            writeln!(script, "M 100644 inline dir{}/sub/file{file}", file % 3).unwrap();
            let text: String = (0..=commit).map(|line| format!("line {line} {}\n", line * 7919 % 101)).collect();
            data(&mut script, &format!("file {file}\n{text}"));
        }
        if commit == 5 {
            writeln!(script, "M 160000 {} module", "5".repeat(format.len_in_hex())).unwrap();
        }
    }
    script
}
