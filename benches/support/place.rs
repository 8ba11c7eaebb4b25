//! Where it all happens: a temporary folder beside the build, the two commands, repositories made by Git.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::measure::{Sample, run};
use super::report::mebi;

/// A temporary folder on the disk of the build.
#[derive(Debug)]
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// Makes one; it goes when this is dropped.
    pub fn new() -> io::Result<Place> {
        let beside = out_dir();
        fs::create_dir_all(&beside)?;
        Ok(Place { dir: tempfile::Builder::new().prefix("side-by-side-").tempdir_in(beside)? })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// `target/bench`.
pub fn out_dir() -> PathBuf {
    let executable = PathBuf::from(env!("CARGO_BIN_EXE_gitferry"));
    let target = executable.ancestors().nth(2).map_or_else(|| PathBuf::from("target"), Path::to_path_buf);
    target.join("bench")
}

/// Starts empty again, untimed.
pub fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Lets the disk finish what earlier steps have left it, so that the next one does not pay for them.
pub fn settle() {
    // SAFETY: takes no arguments and touches no memory of this process.
    unsafe { libc::sync() }
}

/// A git command with the same surroundings everywhere.
pub fn git(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(arguments);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("LC_ALL", "C");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Bench").env(format!("GIT_{who}_EMAIL"), "bench@example.org");
        command.env(format!("GIT_{who}_DATE"), "1700000000 +0000");
    }
    command
}

/// Runs git untimed and returns what it prints.
pub fn git_says(dir: &Path, arguments: &[&str]) -> io::Result<String> {
    let output = git(dir, arguments).stderr(Stdio::inherit()).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
        false => Err(io::Error::other(format!("git {arguments:?} failed: {}", output.status))),
    }
}

/// Two regions with a link between them, in a folder of their own.
#[derive(Debug)]
pub struct Regions {
    dir: PathBuf,
}

impl Regions {
    /// As `gitferry init` makes them.
    pub fn new(dir: PathBuf) -> io::Result<Regions> {
        fs::create_dir_all(&dir)?;
        let regions = Regions { dir };
        run(regions.command(&["init"]).current_dir(&regions.dir))?;
        Ok(regions)
    }

    /// A gitferry command on them.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = gitferry();
        command.current_dir(&self.dir).args(arguments);
        command
    }

    /// Imports a repository into the source region.
    pub fn import(&self, source: &Path, name: &str) -> io::Result<Sample> {
        let mut command = self.command(&["import"]);
        run(command.arg(source).args([name, "--region", "us-east-1"]))
    }

    /// One pass over the link.
    pub fn replicate(&self) -> io::Result<Sample> {
        run(&mut self.command(&["replicate", "dr"]))
    }

    /// Where the configuration is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of a region.
    pub fn region(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes a region empty again: removes its stores and initializes new ones, untimed.
    pub fn clear(&self, name: &str) -> io::Result<()> {
        clear(&self.region(name))?;
        run(&mut self.command(&["region", "init", name])).map(drop)
    }

    /// The pack files and indexes of the source region.
    pub fn packs(&self) -> io::Result<Vec<PathBuf>> {
        let (mut found, mut left) = (Vec::new(), vec![self.region("us-east-1").join("objects")]);
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                let path = entry.path();
                match entry.file_type()?.is_dir() {
                    true => left.push(path),
                    false if path.extension().is_some_and(|e| e == "pack" || e == "idx") => found.push(path),
                    false => {}
                }
            }
        }
        Ok(found)
    }
}

/// The gitferry command, without the surroundings that would change what it does.
pub fn gitferry() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gitferry"));
    command.env_remove("GITFERRY_CONFIG").env_remove("GITFERRY_LOG").env_remove("FAILPOINTS");
    command
}

/// What Git does today: a mirror that is kept, and a bare repository that it pushes to.
#[derive(Debug)]
pub struct KeptMirror {
    mirror: PathBuf,
    target: PathBuf,
}

impl KeptMirror {
    /// Clones and pushes once.
    pub fn new(dir: PathBuf, source: &Path) -> io::Result<KeptMirror> {
        fs::create_dir_all(&dir)?;
        let kept = KeptMirror { mirror: dir.join("mirror.git"), target: dir.join("target.git") };
        kept.first(source).map(|_| kept)
    }

    /// Clones and pushes from nothing; each timed.
    pub fn first(&self, source: &Path) -> io::Result<(Sample, Sample)> {
        let dir = self.mirror.parent().unwrap_or(Path::new("."));
        clear(&self.mirror)?;
        clear(&self.target)?;
        let (mirror, target) = (self.mirror.clone(), self.target.clone());
        let mut init = git(dir, &["init", "-q", "--bare"]);
        run(init.arg(&target))?;
        settle();
        let mut clone = git(dir, &["clone", "-q", "--mirror", "--no-local"]);
        let clone = run(clone.arg(source).arg(&mirror))?;
        Ok((clone, self.push()?))
    }

    /// Fetches what is new and pushes it on.
    pub fn update(&self) -> io::Result<Sample> {
        let fetch = self.fetch()?;
        Ok(fetch.then(self.push()?))
    }

    /// Fetches what is new.
    pub fn fetch(&self) -> io::Result<Sample> {
        run(&mut git(&self.mirror, &["fetch", "-q", "--prune"]))
    }

    fn push(&self) -> io::Result<Sample> {
        let mut push = git(&self.mirror, &["push", "-q", "--mirror"]);
        run(push.arg(&self.target))
    }
}

/// Copies files and makes them durable, as plainly as it can be done.
pub fn copy_durably(files: &[PathBuf], to: &Path) -> io::Result<Sample> {
    clear(to)?;
    fs::create_dir_all(to)?;
    settle();
    Sample::timed(|| {
        for file in files {
            let copy = to.join(file.file_name().unwrap_or_default());
            fs::copy(file, &copy)?;
            File::open(&copy)?.sync_all()?;
        }
        File::open(to)?.sync_all()
    })
}

/// A bare repository with `commits` commits on `refs/heads/main` that each change one file of a few
/// hundred bytes, made by `git fast-import` from the same numbers every time.
pub fn synthetic(dir: &Path, commits: usize) -> io::Result<()> {
    git_says(Path::new("."), &["init", "-q", "--bare", "-b", "main", &dir.to_string_lossy()])?;
    let mut import = git(dir, &["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn()?;
    let mut input = io::BufWriter::new(import.stdin.take().ok_or_else(|| io::Error::other("no pipe"))?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..commits {
        let mut text = String::new();
        for _ in 0..40 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(&format!("{:016x}\n", state));
        }
        writeln!(
            input,
            "commit refs/heads/main\ncommitter Bench <bench@example.org> {} +0000",
            1_600_000_000 + number
        )?;
        writeln!(input, "data 6\nchange\nM 644 inline file-{}\ndata {}\n{text}", number % 100, text.len())?;
    }
    drop(input);
    match import.wait()?.success() {
        true => Ok(()),
        false => Err(io::Error::other("git fast-import failed")),
    }
}

/// Gives a repository `count` branches on its newest commits, as packed refs.
pub fn add_refs(dir: &Path, count: usize) -> io::Result<()> {
    let listed = git_says(dir, &["rev-list", "--max-count=50", "refs/heads/main"])?;
    let commits: Vec<&str> = listed.lines().collect();
    let mut packed = io::BufWriter::new(File::create(dir.join("packed-refs"))?);
    writeln!(packed, "# pack-refs with: peeled fully-peeled sorted ")?;
    for number in 0..count {
        let commit = commits.get(number % commits.len().max(1)).copied().unwrap_or_default();
        writeln!(packed, "{commit} refs/heads/branch-{number:07}")?;
    }
    packed.flush()
}

/// Adds a commit to a branch of a bare repository; the tree stays as it is.
pub fn commit(dir: &Path, branch: &str, message: &str) -> io::Result<()> {
    let tree = git_says(dir, &["rev-parse", &format!("{branch}^{{tree}}")])?;
    let new = git_says(dir, &["commit-tree", "-p", branch, "-m", message, &tree])?;
    git_says(dir, &["update-ref", branch, &new]).map(drop)
}

/// Copies a bare repository file by file.
pub fn copy_repository(from: &Path, to: &Path) -> io::Result<()> {
    let mut left = vec![(PathBuf::from(from), PathBuf::from(to))];
    while let Some((from, to)) = left.pop() {
        std::fs::create_dir_all(&to)?;
        for entry in std::fs::read_dir(&from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            match entry.file_type()?.is_dir() {
                true => left.push((entry.path(), target)),
                false => std::fs::copy(entry.path(), target).map(drop)?,
            }
        }
    }
    Ok(())
}

/// The branch that a repository is about: the one that HEAD names, or a branch where HEAD is; else main, or master;
/// else the one of the newest commit.
pub fn main_branch(dir: &Path) -> io::Result<String> {
    const USUAL: [&str; 2] = ["refs/heads/main", "refs/heads/master"];
    let format = "--format=%(objectname) %(refname)";
    let listed = git_says(dir, &["for-each-ref", "--sort=-committerdate", format, "refs/heads/"])?;
    let head = git_says(dir, &["symbolic-ref", "-q", "HEAD"]).ok();
    let tip = git_says(dir, &["rev-parse", "-q", "--verify", "HEAD"]).ok();
    let branches = listed.lines().filter_map(|line| line.split_once(' '));
    let rank = |(id, name): &(&str, &str)| {
        let usual = USUAL.iter().position(|usual| usual == name).unwrap_or(USUAL.len());
        (head.as_deref() != Some(name), tip.as_deref() != Some(id), usual)
    };
    // Of equals the first is taken, which is the newest.
    let branch = branches.min_by_key(rank).map(|(_, name)| name.to_owned());
    branch.ok_or_else(|| io::Error::other(format!("{} has no branch", dir.display())))
}

/// How large a repository is.
pub fn describe(dir: &Path) -> io::Result<String> {
    let refs = git_says(dir, &["for-each-ref", "--format=x"])?.lines().count();
    let counted = git_says(dir, &["count-objects", "-v"])?;
    let value = |name: &str| {
        let line = counted.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
    };
    let (objects, size) = (value("in-pack") + value("count"), mebi(value("size-pack") * 1024));
    Ok(format!("{size} of packs and indexes in {} packs, {objects} objects, {refs} refs", value("packs")))
}
