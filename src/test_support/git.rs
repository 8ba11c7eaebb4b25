//! Real Git: it makes the sources, and it judges what comes out.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Git with nothing of the user's or the system's configuration.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).stdin(Stdio::null());
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"] {
        command.env_remove(variable);
    }
    for variable in ["GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.env_remove(variable);
    }
    for (key, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        // Nothing here outlives the test: thousands of refs need not be durable one by one.
        ("GIT_CONFIG_COUNT", "3"),
        ("GIT_CONFIG_KEY_0", "core.fsync"),
        ("GIT_CONFIG_VALUE_0", "none"),
        ("GIT_CONFIG_KEY_1", "gc.auto"),
        ("GIT_CONFIG_VALUE_1", "0"),
        ("GIT_CONFIG_KEY_2", "maintenance.auto"),
        ("GIT_CONFIG_VALUE_2", "false"),
        ("GIT_AUTHOR_NAME", "A"),
        ("GIT_AUTHOR_EMAIL", "a@example.com"),
        ("GIT_AUTHOR_DATE", "1700000000 +0000"),
        ("GIT_COMMITTER_NAME", "C"),
        ("GIT_COMMITTER_EMAIL", "c@example.com"),
        ("GIT_COMMITTER_DATE", "1700000000 +0000"),
        ("LC_ALL", "C"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ] {
        command.env(key, value);
    }
    command
}

/// Runs Git in a folder with something to read, whatever comes of it.
pub fn run(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut command = command(dir);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // Git may end before it has read everything.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    })
}

/// A repository on disk.
#[derive(Clone, Debug)]
pub struct GitRepo {
    pub path: PathBuf,
}

impl GitRepo {
    /// An empty bare repository whose HEAD names `main`; `extra` goes to `git init`.
    pub fn init(path: impl Into<PathBuf>, extra: &[&str]) -> GitRepo {
        let path = path.into();
        std::fs::create_dir_all(&path).unwrap();
        let repo = GitRepo { path };
        repo.git(&[&["init", "-q", "--bare", "-b", "main"], extra, &["."]].concat());
        repo
    }

    /// A repository that is there already.
    pub fn at(path: impl Into<PathBuf>) -> GitRepo {
        GitRepo { path: path.into() }
    }

    /// Three branches, a merge, an annotated tag of an annotated tag, a note: some 60 objects, loose.
    pub fn with_history(path: impl Into<PathBuf>, extra: &[&str]) -> GitRepo {
        let repo = GitRepo::init(path, extra);
        for n in 0..8 {
            repo.commit("main", &format!("dir/file{}", n % 3), &format!("line {n}\n").repeat(n + 1));
        }
        repo.git(&["branch", "side", "main~3"]);
        repo.commit("side", "other", "on the side\n");
        repo.git(&["branch", "topic/deep/er", "main~1"]);
        let tree = repo.git(&["rev-parse", "main^{tree}"]);
        let merge = repo.git(&["commit-tree", &tree, "-p", "main", "-p", "side", "-m", "merge"]);
        repo.git(&["update-ref", "refs/heads/main", &merge]);
        repo.git(&["tag", "light", "main~2"]);
        repo.git(&["tag", "-am", "one", "v1", "main~1"]);
        repo.git(&["tag", "-am", "two", "v2", "v1"]);
        repo.git(&["notes", "add", "-m", "noted", "main"]);
        repo
    }

    /// Runs Git, which must succeed; its output without the last line end.
    pub fn git(&self, args: &[&str]) -> String {
        let output = self.try_git(args);
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').into()
    }

    /// Runs Git, whatever comes of it.
    pub fn try_git(&self, args: &[&str]) -> Output {
        command(&self.path).args(args).output().unwrap()
    }

    /// Runs Git, which must succeed, with something to read; its output as it is.
    pub fn feed(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let output = run(&self.path, args, input);
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A commit on a branch (made when it is not there) that writes one file; its id.
    pub fn commit(&self, branch: &str, file: &str, content: &str) -> String {
        self.commit_bytes(branch, file, content.as_bytes())
    }

    /// The same with any bytes.
    pub fn commit_bytes(&self, branch: &str, file: &str, content: &[u8]) -> String {
        let name = format!("refs/heads/{branch}");
        let parent = self.try_git(&["rev-parse", "-q", "--verify", &name]);
        let mut script = format!("commit {name}\ncommitter C <c@example.com> 1700000000 +0000\n").into_bytes();
        script.extend(format!("data {}\nwrite {file}\n", file.len() + 6).bytes());
        if parent.status.success() {
            script.extend(format!("from {name}^0\n").bytes());
        }
        script.extend(format!("M 100644 inline {file}\ndata {}\n", content.len()).bytes());
        script.extend(content);
        script.push(b'\n');
        self.feed(&["fast-import", "--quiet"], &script);
        self.git(&["rev-parse", &name])
    }

    /// `git update-ref --stdin`: all lines in one transaction.
    pub fn update_refs(&self, lines: impl AsRef<[u8]>) {
        self.feed(&["update-ref", "--stdin"], lines.as_ref());
    }

    /// Writes `count` packed refs `<prefix><number>` with one value, beside those that there are.
    pub fn pack_many_refs(&self, prefix: &str, count: usize, value: &str) {
        self.git(&["pack-refs", "--all"]);
        let file = self.path.join("packed-refs");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        // Without the header that promises an order, Git sorts by itself.
        let mut text: String =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        for n in 0..count {
            text.push_str(&format!("{value} {prefix}{n:07}\n"));
        }
        std::fs::write(file, text).unwrap();
    }

    /// All refs with their values, symbolic ones with their targets, in the order of their names.
    pub fn refs(&self) -> Vec<Vec<u8>> {
        let format = "--format=%(refname) %(if)%(symref)%(then)ref:%(symref)%(else)%(objectname)%(end)";
        let output = self.try_git(&["for-each-ref", format]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
    }

    /// What HEAD says: the ref it names, or the commit it is detached at.
    pub fn head(&self) -> String {
        let symbolic = self.try_git(&["symbolic-ref", "-q", "HEAD"]);
        match symbolic.status.success() {
            true => String::from_utf8(symbolic.stdout).unwrap(),
            false => self.git(&["rev-parse", "HEAD"]),
        }
    }

    /// What `git fsck --strict` says, sorted, and whether it found anything wrong.
    pub fn fsck(&self) -> (Option<i32>, BTreeSet<String>) {
        let output = self.try_git(&["fsck", "--strict", "--no-dangling", "--no-progress"]);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).lines().map(String::from).collect())
    }

    /// The ids of all objects that Git finds here.
    pub fn objects(&self) -> BTreeSet<String> {
        let all = ["cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname)"];
        self.git(&all).lines().map(String::from).collect()
    }

    /// The ids of all objects that refs reach.
    pub fn reachable(&self) -> BTreeSet<String> {
        self.git(&["rev-list", "--objects", "--no-object-names", "--all"]).lines().map(String::from).collect()
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
