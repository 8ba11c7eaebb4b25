//! What the tests of the command share: real Git, two regions in a temporary folder, and the command itself.

use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;

use crate::git::GitRepo;

/// The regions and the link of [`World::new`].
pub const SOURCE: &str = "us-east-1";
pub const TARGET: &str = "eu-west-1";
pub const LINK: &str = "dr";

/// A folder with a configuration, regions, and repositories; gone when it is dropped.
pub struct World {
    dir: tempfile::TempDir,
    /// What the command has in its environment beside.
    pub environment: Vec<(String, String)>,
}

/// How a run of the command ended.
#[derive(Debug)]
pub struct Run {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl World {
    /// What `gitferry init` makes: [`SOURCE`], [`TARGET`], and [`LINK`] from one to the other.
    pub fn new() -> World {
        let world = World { dir: tempfile::tempdir().unwrap(), environment: Vec::new() };
        world.ok(&["init"]);
        world
    }

    /// Empty regions of these names, and links as TOML.
    pub fn with(regions: &[&str], links: &str) -> World {
        let world = World { dir: tempfile::tempdir().unwrap(), environment: Vec::new() };
        world.configure(regions, links);
        world
    }

    /// Writes another configuration over the one that there is.
    pub fn configure(&self, regions: &[&str], links: &str) {
        let region = |name: &&str| {
            format!("[regions.{name}]\nobjects = \"file:{name}/objects\"\ntable = \"sqlite:{name}/table.db\"\n")
        };
        let text: String = regions.iter().map(region).collect();
        let text = text + links;
        std::fs::write(self.path("gitferry.toml"), &text).unwrap();
        if text.contains("[regions.") || text.contains("\ntable = \"sqlite:") {
            self.ok(&["region", "init"]);
        }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A fresh path in the folder.
    pub fn fresh(&self, prefix: &str) -> PathBuf {
        let mut number = 0..;
        number.find_map(|n: u32| Some(self.path(&format!("{prefix}-{n}"))).filter(|path| !path.exists())).unwrap()
    }

    /// The command with these arguments, in the folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(crate::paths::gitferry());
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        for variable in ["GITFERRY_CONFIG", "GITFERRY_CONFIG_TOML", "GITFERRY_METRICS", "GITFERRY_LOG", "FAILPOINTS"] {
            command.env_remove(variable);
        }
        // Git must not be needed: it is not found.
        command.env("PATH", "/nowhere").env("USER", "tester");
        // Changes name the same actor on every machine.
        command.env("HOSTNAME", "");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the command, whatever comes of it.
    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args))
    }

    /// Runs the command, which must succeed; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        self.ends(0, args).stdout
    }

    /// Runs the command, which must end with an exit code.
    pub fn ends(&self, code: i32, args: &[&str]) -> Run {
        let run = self.run(args);
        assert_eq!(run.status.code(), Some(code), "gitferry {args:?}\n{}{}", run.stdout, run.stderr);
        run
    }

    /// Runs the command with `--json`, which must succeed; the one value that it printed.
    pub fn json(&self, args: &[&str]) -> Value {
        parse(&self.ok(&[args, &["--json"]].concat()))
    }

    /// Imports a repository into [`SOURCE`]; what the command said.
    pub fn import(&self, source: &GitRepo, name: &str) -> Value {
        self.json(&["import", source.path.to_str().unwrap(), name, "--region", SOURCE])
    }

    /// Imports a repository by a process whose configuration knows no replica: one that knows it would refuse.
    pub fn import_unawares(&self, source: &GitRepo, name: &str) -> Value {
        let text = std::fs::read_to_string(self.path("gitferry.toml")).unwrap();
        let regions = text.split("[links.").next().unwrap();
        std::fs::write(self.path("regions.toml"), regions).unwrap();
        let source = source.path.to_str().unwrap();
        self.json(&["--config", "regions.toml", "import", source, name, "--region", SOURCE])
    }

    /// One pass over [`LINK`]; its summary.
    pub fn replicate(&self) -> Value {
        self.json(&["replicate", LINK])
    }

    /// Imports, replicates, and compares.
    pub fn sync(&self, source: &GitRepo, name: &str) -> Value {
        self.import(source, name);
        let summary = self.replicate();
        self.assert_synced(source, name);
        summary
    }

    /// Both regions verify deep, and what comes out of the target is the source, as Git sees it.
    pub fn assert_synced(&self, source: &GitRepo, name: &str) {
        self.ok(&["verify", LINK, "--deep"]);
        self.assert_exports_as(source, name, TARGET);
    }

    /// An export from a region is the source, as Git sees it: refs, HEAD, every reachable object, fsck.
    pub fn assert_exports_as(&self, source: &GitRepo, name: &str, region: &str) -> GitRepo {
        let to = self.fresh("export");
        self.ok(&["export", name, "--region", region, "--to", to.to_str().unwrap()]);
        let export = GitRepo::at(to);
        assert_eq!(text(&export.refs()), text(&source.refs()), "refs of {name} in {region}");
        assert_eq!(export.head(), source.head(), "HEAD of {name} in {region}");
        assert_eq!(export.reachable(), source.reachable(), "objects of {name} in {region}");
        assert_eq!(export.fsck(), source.fsck(), "fsck of {name} in {region}");
        export
    }

    /// `gitferry repo show` as JSON.
    pub fn show(&self, name: &str, region: &str) -> Value {
        self.json(&["repo", "show", name, "--region", region])
    }

    /// The pack files that lie in a region's object store.
    pub fn pack_files(&self, region: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path(region).join("objects")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.extension().is_some_and(|e| e == "pack") => found.push(path),
                    false => {}
                }
            }
        }
        found.sort();
        found
    }
}

impl Run {
    /// Runs a prepared command.
    pub fn of(mut command: Command) -> Run {
        let output = command.output().unwrap();
        Run {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What it printed, as JSON.
    pub fn json(&self) -> Value {
        parse(&self.stdout)
    }

    /// Asserts that the error says each of these.
    pub fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in: {}", self.stderr);
        }
    }
}

/// One line of JSON, and nothing but that.
pub fn parse(text: &str) -> Value {
    assert_eq!(text.trim_end_matches('\n').lines().count(), 1, "not one line: {text}");
    serde_json::from_str(text).unwrap()
}

fn text(lines: &[Vec<u8>]) -> Vec<String> {
    lines.iter().map(|line| line.escape_ascii().to_string()).collect()
}
