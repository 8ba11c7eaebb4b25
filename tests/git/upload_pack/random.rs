//! Git's server and ours, asked the same by the same clients over the same random histories: the clients end up with
//! the same, in as many requests, and ours sends no object more.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use gitferry_git::view::View;
use gix::ObjectId;
use gix::hash::Kind as Format;

use crate::upload_pack::cloning::{assert_same_clones, sorted};
use crate::upload_pack::repo::{Repo, git, git_in};
use crate::upload_pack::traced::{Traced, run};
use gitferry_test_support::serving::Server;

/// Seeds of which all are tried every time.
const SEEDS: std::ops::Range<u64> = 0..24;
/// Seeds for a long run.
const MANY_SEEDS: std::ops::Range<u64> = 1000..2000;

/// SplitMix64: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

const BRANCHES: [&str; 4] = ["main", "side", "topic/a", "topic/b"];

/// A repository that grows.
struct History {
    repo: Repo,
    time: u64,
    commits: u64,
    /// What refs have named so far; a host remembers it for ten minutes, and Git for longer.
    told: BTreeSet<ObjectId>,
}

impl History {
    fn new(random: &mut Random) -> History {
        let format = if random.one_in(8) { Format::Sha256 } else { Format::Sha1 };
        let mut history = History { repo: Repo::empty(format), time: 1_700_000_000, commits: 0, told: BTreeSet::new() };
        // With bitmaps, Git also leaves out what only commits before the common ones have.
        history.repo.git(&["config", "repack.writeBitmaps", "false"]);
        // With wants by name, Git's server fails its own shallow clients (`parity.rs`).
        history.repo.git(&["config", "uploadpack.allowRefInWant", "false"]);
        history.grow(random, true);
        history
    }

    fn view(&self) -> View {
        View { recent_tips: self.told.iter().map(|id| (jiff::Timestamp::MAX, *id)).collect(), ..self.repo.view() }
    }

    /// More commits: on branches, from their past, as merges; and tags.
    fn grow(&mut self, random: &mut Random, first: bool) {
        self.told.extend(self.repo.view().tips());
        let known = self.repo.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads/"]);
        let mut known: Vec<&str> =
            BRANCHES.into_iter().filter(|name| known.lines().any(|line| line == *name)).collect();
        let mut script = String::new();
        let mut begun: Vec<&str> = Vec::new();
        for _ in 0..1 + random.below(if first { 40 } else { 12 }) {
            self.commits += 1;
            self.time += random.of(&[0, 1, 60, 86_400]);
            let branch = if self.commits == 1 { "main" } else { random.of(&BRANCHES) };
            let (number, time) = (self.commits, self.time);
            writeln!(script, "commit refs/heads/{branch}\ncommitter C <c@example.org> {time} +0000").unwrap();
            writeln!(script, "data <<E\ncommit {number}\nE").unwrap();
            if !begun.contains(&branch) {
                // From where it was, from its past (a forced push), or from the past of another one.
                let from = if known.contains(&branch) && !random.one_in(6) { branch } else { "main" };
                if known.contains(&from) && !first {
                    let back = if random.one_in(3) { random.below(2) } else { 0 };
                    let from = self.repo.git(&["rev-list", "-1", &format!("--skip={back}"), from]);
                    if !from.is_empty() {
                        writeln!(script, "from {from}").unwrap();
                    }
                } else if self.commits > 1 && begun.contains(&"main") {
                    writeln!(script, "from refs/heads/main").unwrap();
                }
            }
            let other = random.of(&BRANCHES);
            if random.one_in(5) && begun.contains(&other) && other != branch && begun.contains(&branch) {
                writeln!(script, "merge refs/heads/{other}").unwrap();
            }
            for _ in 0..1 + random.below(3) {
                let path =
                    format!("{}/{}{}", random.of(&["a", "b", "a/deep"]), random.of(&["x", "y"]), random.below(4));
                // Old content comes back now and then.
                let content = if random.one_in(4) { random.below(3) } else { number };
                writeln!(script, "M 100644 inline {path}\ndata <<E\n{path} {content}\n{}E", "line\n".repeat(9))
                    .unwrap();
            }
            if !begun.contains(&branch) {
                begun.push(branch);
            }
        }
        self.repo.import(script.as_bytes());
        known.clear();
        if random.one_in(2) {
            let (name, target) = (format!("v{}", self.commits), random.of(&begun));
            self.repo.git(&["tag", "-f", "-a", "-m", &name, &name, target]);
        }
        if random.one_in(3) {
            self.repo.git(&["repack", "-q", "-a", "-d"])
        } else {
            self.repo.git(&["repack", "-q", "-d"])
        };
    }
}

/// A client's clone from Git's server, and its twin from ours.
struct Twins {
    theirs: PathBuf,
    ours: PathBuf,
    version: &'static str,
}

impl Twins {
    fn each(&self) -> [&Path; 2] {
        [&self.theirs, &self.ours]
    }

    /// Runs the same in both and compares what came of it. Returns false if both servers refused. A partial clone may get
    /// an object more from ours.
    fn compare(&self, what: &str, arguments: &[&str]) -> bool {
        let config = format!("protocol.version={}", self.version);
        let all = [&["-c", &config], arguments].concat();
        let [theirs, ours] = self.each().map(|dir| run(dir, &all));
        judge(what, &theirs, &ours);
        assert_eq!(self.shallow(&self.ours), self.shallow(&self.theirs), "{what}");
        assert_same_clones(&self.ours, &self.theirs);
        ours.ok
    }

    fn shallow(&self, repo: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(repo.join(".git/shallow")).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

fn judge(what: &str, theirs: &Traced, ours: &Traced) {
    assert_eq!(ours.ok, theirs.ok, "{what}: git says {:?}, ours {:?}", theirs.said, ours.said);
    assert!(ours.objects <= theirs.objects, "{what}: git sends {} objects, ours {}", theirs.objects, ours.objects);
    assert!(ours.requests <= theirs.requests, "{what}: {} requests to git, {} to ours", theirs.requests, ours.requests);
}

const CLONES: [&[&str]; 9] = [
    &[],
    &[],
    &["--no-single-branch", "--depth=1"],
    &["--depth=3"],
    &["--single-branch"],
    &["--filter=blob:none", "--no-checkout"],
    &["--filter=tree:1", "--no-checkout"],
    &["--filter=object:type=commit", "--no-checkout"],
    &["--filter=blob:limit=60", "--no-checkout"],
];

fn compare(seed: u64) {
    // Shown where a comparison fails that does not name it.
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut history = History::new(&mut random);
    let server = Server::start(history.view());
    let dir = tempfile::tempdir().unwrap();
    let (options, version) = (random.of(&CLONES), random.of(&["0", "1", "2", "2"]));
    let config = format!("protocol.version={version}");
    let twins = Twins { theirs: dir.path().join("theirs"), ours: dir.path().join("ours"), version };
    let cloned = [(history.repo.url(), "theirs"), (server.git_url(), "ours")].map(|(url, to)| {
        let to = [&url, to];
        run(dir.path(), &[&["-c", &config, "clone", "--progress"], options, &["--no-tags"], &to].concat())
    });
    let what = format!("seed {seed}, version {version}, clone {options:?}");
    assert!(cloned[0].ok, "{what}: {}", cloned[0].said);
    judge(&what, &cloned[0], &cloned[1]);
    let objects = |repo: &Path| git(repo, &["cat-file", "--batch-all-objects", "--batch-check"]);
    assert!(sorted(&objects(&twins.ours)) == sorted(&objects(&twins.theirs)), "{what}: other objects");
    assert_same_clones(&twins.ours, &twins.theirs);
    for round in 0..3 {
        history.grow(&mut random, false);
        server.show(history.view());
        if random.one_in(3) {
            // Work of the client's own, which no server knows.
            for repo in twins.each() {
                let tree = git(repo, &["rev-parse", "--verify", "-q", "origin/main^{tree}"]);
                let parent = git(repo, &["rev-parse", "origin/main"]);
                let who = format!("O <o@x> {} +0000", history.time);
                let commit = format!("tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\n\nown\n");
                let made = git_in(repo, &["hash-object", "-t", "commit", "-w", "--stdin"], commit.as_bytes());
                git(repo, &["update-ref", "refs/heads/own", String::from_utf8(made.stdout).unwrap().trim()]);
            }
        }
        let shallow = !twins.shallow(&twins.theirs).is_empty();
        let tags = if shallow || random.one_in(2) { "--no-tags" } else { "--tags" };
        let depth = format!("--depth={}", 1 + random.below(4));
        let step: &[&str] = match random.below(8) {
            0 | 1 => &[&depth],
            2 if shallow => &["--deepen=2"],
            3 if shallow => &["--unshallow"],
            4 => &["--shallow-since=2023-11-16"],
            _ => &[],
        };
        let refs: &[&str] = match random.below(4) {
            0 => &["origin", "+refs/heads/*:refs/remotes/origin/*"],
            1 => &["origin", "main"],
            _ => &[],
        };
        let what = format!("{what}, round {round}: fetch {step:?} {refs:?} {tags}");
        if !twins.compare(&what, &[&["fetch", "--progress", tags], step, refs].concat()) {
            // A depth that selects no commit is an error of either server.
            assert_ne!(server.errors(), [""; 0], "{what}");
        }
    }
    assert_eq!(server.errors(), [""; 0], "seed {seed}");
}

#[test]
fn clients_cannot_tell_the_servers_apart() {
    SEEDS.for_each(compare);
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn clients_cannot_tell_the_servers_apart_over_many_seeds() {
    MANY_SEEDS.for_each(compare);
}
