//! Real Git, the oracle.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use gitferry_git::local::{RefPatterns, SourceRepository};
use gix::bstr::{BString, ByteSlice, ByteVec};

/// Git with nothing of the user's or the system's configuration.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).stdin(Stdio::null());
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"] {
        command.env_remove(variable);
    }
    for (key, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        // Nothing here outlives the test: thousands of refs need not be durable one by one.
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "core.fsync"),
        ("GIT_CONFIG_VALUE_0", "none"),
        ("GIT_AUTHOR_NAME", "A"),
        ("GIT_AUTHOR_EMAIL", "a@example.com"),
        ("GIT_AUTHOR_DATE", "1700000000 +0000"),
        ("GIT_COMMITTER_NAME", "C"),
        ("GIT_COMMITTER_EMAIL", "c@example.com"),
        ("GIT_COMMITTER_DATE", "1700000000 +0000"),
    ] {
        command.env(key, value);
    }
    command
}

/// Runs Git, which must succeed; its output without the last line end.
pub fn git<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> BString {
    let output = run(dir, args);
    assert!(output.status.success(), "{}", output.stderr.as_bstr());
    let mut text = output.stdout;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    text.into()
}

/// Runs Git, whatever comes of it.
pub fn run<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Output {
    command(dir).args(args).output().unwrap()
}

/// Runs Git with something to read.
pub fn feed(dir: &Path, args: &[&str], input: &[u8]) {
    use std::io::Write;
    let mut child = command(dir).args(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Words of a command line without quoting.
pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// A temporary directory that holds repositories.
pub struct Place(pub tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A repository with a work tree, two commits, two branches, a lightweight and an annotated tag.
    pub fn repository(&self, name: &str, init_args: &str) -> PathBuf {
        let path = self.empty(name, init_args);
        std::fs::write(path.join("a"), "first\n").unwrap();
        git(&path, ["add", "a"]);
        git(&path, ["commit", "-qm", "first"]);
        git(&path, ["branch", "side/deep/er"]);
        git(&path, ["tag", "light"]);
        std::fs::write(path.join("b"), "second\n").unwrap();
        git(&path, ["add", "b"]);
        git(&path, ["commit", "-qm", "second"]);
        git(&path, ["tag", "-am", "annotated", "annotated"]);
        path
    }

    pub fn empty(&self, name: &str, init_args: &str) -> PathBuf {
        let path = self.path(name);
        git(self.0.path(), [words("init -q -b main"), words(init_args), vec![name]].concat());
        path
    }
}

/// Writes loose refs `<prefix>/<i % 37>/<i>` as files: Git itself takes a millisecond for each.
pub fn write_loose_refs(path: &Path, prefix: &str, count: usize) {
    let line = format!("{}\n", git(path, ["rev-parse", "HEAD"]));
    for i in 0..count {
        let dir = path.join(".git").join(prefix).join((i % 37).to_string());
        if i < 37 {
            std::fs::create_dir_all(&dir).unwrap();
        }
        std::fs::write(dir.join(i.to_string()), &line).unwrap();
    }
}

/// All refs as gitferry lists them, in its order.
pub fn refs_of(path: &Path) -> Vec<(BString, BString)> {
    let source = SourceRepository::open(path).unwrap();
    let refs = source.refs(&RefPatterns::all()).unwrap();
    refs.map(|entry| entry.unwrap()).map(|(name, value)| (name.into(), value.to_bytes())).collect()
}

/// All refs as Git lists them (which orders them by bytes as well); dangling symbolic refs are not there.
pub fn for_each_ref(path: &Path) -> Vec<(BString, BString)> {
    let format = "--format=%(refname) %(if)%(symref)%(then)ref:%(symref)%(else)%(objectname)%(end)";
    let text = git(path, ["for-each-ref", format]);
    let pair = |line: &[u8]| {
        let (name, value) = line.split_once_str(" ").unwrap();
        (name.into(), value.into())
    };
    text.lines().map(pair).collect()
}

/// The ids of all objects as gitferry finds them: loose ones, and those that Git finds in its packs.
pub fn objects_of(path: &Path) -> BTreeSet<BString> {
    let source = SourceRepository::open(path).unwrap();
    let mut ids = BTreeSet::new();
    for entry in source.loose_objects() {
        let entry = entry.unwrap();
        let (kind, data) = entry.read(1 << 20).unwrap();
        assert_eq!(gix::objs::compute_hash(source.object_format(), kind, &data).unwrap(), entry.id);
        assert!(ids.insert(entry.id.to_string().into()), "listed twice: {}", entry.id);
    }
    for pack in source.packs().unwrap() {
        assert_eq!(pack.open_pack().unwrap().metadata().unwrap().len(), pack.bytes);
        let mut show = command(path);
        show.arg("show-index").arg(format!("--object-format={}", source.object_format()));
        let output = show.stdin(pack.open_index().unwrap()).output().unwrap();
        assert!(output.status.success());
        ids.extend(output.stdout.lines().map(|line| BString::from(line.split(|b| *b == b' ').nth(1).unwrap())));
    }
    ids
}

/// The ids of all objects as Git finds them.
pub fn all_objects(path: &Path) -> BTreeSet<BString> {
    git(path, ["cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname)"])
        .lines()
        .map(BString::from)
        .collect()
}

/// Compares everything that can be read with what Git says.
pub fn assert_same(path: &Path) {
    assert_eq!(refs_of(path), for_each_ref(path));
    let objects = objects_of(path);
    assert_eq!(objects, all_objects(path));
    assert!(!objects.is_empty());
}

/// `refs/heads/` and so on, with bytes of choice behind.
pub fn name(prefix: &str, rest: &[u8]) -> BString {
    let mut name = BString::from(prefix);
    name.push_str(rest);
    name
}
