//! Access policies on single refs: which facts they see, and what they refuse. Git judges the facts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use gitferry_engine::region::import::{ImportOptions, ImportProgress};
use gitferry_engine::region::push::{Facts, RefAuthorizer, RefUpdate};
use gitferry_git::local::RefPatterns;
use gitferry_policy::Context;
use gitferry_policy::keys::MAX_CHANGED_PATHS;
use gix::bstr::{BStr, ByteSlice};

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::receiving::Host;

/// An update as a policy saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    name: String,
    deletion: bool,
    forced: bool,
    paths: BTreeSet<String>,
}

/// Records all updates, and refuses those that `refuses` names.
struct Recorder {
    facts: Facts,
    seen: Mutex<Vec<Seen>>,
    refuses: Box<dyn Fn(&Seen) -> bool + Send + Sync>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recorder({:?})", self.facts)
    }
}

impl RefAuthorizer for Recorder {
    fn depends_on(&self, _: &BStr) -> Facts {
        self.facts
    }

    fn authorize(&self, update: &RefUpdate<'_>) -> Result<(), String> {
        let seen = Seen {
            name: update.name.to_string(),
            deletion: update.deletion,
            forced: update.forced,
            paths: update.changed_paths.iter().map(ToString::to_string).collect(),
        };
        self.seen.lock().unwrap().push(seen.clone());
        if (self.refuses)(&seen) { Err("not allowed".into()) } else { Ok(()) }
    }
}

const ALL: Facts = Facts { forced: true, changed_paths: Some(MAX_CHANGED_PATHS) };

fn record(host: &Host, facts: Facts, refuses: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Arc<Recorder> {
    let recorder = Arc::new(Recorder { facts, seen: Mutex::default(), refuses: Box::new(refuses) });
    let authorizer = recorder.clone();
    host.accept(move |policy| policy.authorizer = Some(authorizer));
    recorder
}

impl Recorder {
    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn lines(text: String) -> BTreeSet<String> {
    text.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
}

/// Paths that Git finds changed by an update of a ref from `old` to `new`, where the host holds what `held` reach.
fn by_git(client: &GitRepo, old: Option<&str>, new: &str, held: &[String]) -> BTreeSet<String> {
    let mut paths = match old {
        Some(old) => lines(client.git(&["diff", "--name-only", "--no-renames", old, new])),
        None => BTreeSet::new(),
    };
    let mut args = vec!["log", "-c", "--root", "--name-only", "--no-renames", "--format=", new, "--not"];
    args.extend(held.iter().map(String::as_str));
    paths.extend(lines(client.git(&args)));
    paths
}

fn tips(host: &Host) -> Vec<String> {
    host.refs().into_iter().map(|(_, id)| id).collect()
}

#[test]
fn policies_see_the_facts_that_git_sees() {
    let host = Host::new();
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    host.push(&client, &["--mirror"]);
    let recorder = record(&host, ALL, |_| false);
    let mut seed = 20_261_129_u64;
    let mut random = |below: u64| {
        seed = u64::from_le_bytes(noise(seed, 8).try_into().unwrap());
        seed % below
    };
    for step in 0..60 {
        let branch = format!("b{}", random(3));
        let full = format!("refs/heads/{branch}");
        let held = tips(&host);
        let old = host.refs().into_iter().find(|(name, _)| *name == full).map(|(_, id)| id);
        for _ in 0..=random(3) {
            let file = ["infra/main.tf", "infra/modules/host/x", "src/a", "src/a/b", "README"][random(5) as usize];
            match random(6) {
                0 => {
                    // A merge that takes the tree of one side, or of none.
                    let tree = client.git(&["rev-parse", ["main^{tree}", "main~2^{tree}"][random(2) as usize]]);
                    let from = if client.try_git(&["rev-parse", "-q", "--verify", &full]).status.success() {
                        full.as_str()
                    } else {
                        "main"
                    };
                    let merge = ["commit-tree", &tree, "-p", from, "-p", "main~1", "-m", "merge"];
                    let merge = client.git(&merge);
                    client.git(&["update-ref", &full, &merge]);
                }
                1 => drop(client.git(&["update-ref", &full, ["main", "main~1", "main~3"][random(3) as usize]])),
                _ => drop(client.commit(&branch, file, &format!("{step} {}\n", random(1000)))),
            }
        }
        let new = client.git(&["rev-parse", &full]);
        recorder.take();
        host.push(&client, &["--force", &format!("{full}:{full}")]);
        if old.as_deref() == Some(new.as_str()) {
            continue;
        }
        let seen = recorder.take();
        let [seen] = &seen[..] else { panic!("one decision for one ref: {seen:?}") };
        let forced = old
            .as_deref()
            .is_some_and(|old| !client.try_git(&["merge-base", "--is-ancestor", old, &new]).status.success());
        assert_eq!((seen.name.as_str(), seen.deletion, seen.forced), (full.as_str(), false, forced), "step {step}");
        let expected = by_git(&client, old.as_deref(), &new, &held);
        if old.is_some() {
            assert_eq!(seen.paths, expected, "step {step}");
        } else {
            // A created branch is compared to a common ancestor with the default branch, too.
            assert!(seen.paths.is_superset(&expected), "step {step}: {seen:?} lacks some of {expected:?}");
        }
        if random(8) == 0 {
            recorder.take();
            host.push(&client, &["--delete", &branch]);
            let gone = Seen { name: full, deletion: true, forced: false, paths: BTreeSet::new() };
            assert_eq!(recorder.take(), [gone]);
        }
    }
    host.verified();
}

#[test]
fn a_created_branch_is_compared_to_where_it_left_the_default_branch() {
    let host = Host::new();
    let client = GitRepo::init(host.dir.path().join("client"), &[]);
    for (file, content) in [("a", "1"), ("infra/x", "1"), ("a", "2")] {
        client.commit("main", file, content);
    }
    host.push(&client, &["main"]);
    let recorder = record(&host, ALL, |_| false);
    client.git(&["branch", "topic", "main~1"]);
    client.commit("topic", "src/new", "1");
    client.commit("main", "a", "3");
    host.push(&client, &["main"]);
    recorder.take();
    host.push(&client, &["topic"]);
    assert_eq!(recorder.take()[0].paths, BTreeSet::from(["src/new".to_owned()]));
    // The objects are there, yet the second branch changes the same path with respect to the default branch.
    host.push(&client, &["topic:again"]);
    assert_eq!(recorder.take()[0].paths, BTreeSet::from(["src/new".to_owned()]));
    host.push(&client, &["main~1:refs/heads/older"]);
    assert_eq!(recorder.take()[0].paths, BTreeSet::new());
    // Without a common ancestor, all files are new.
    client.git(&["symbolic-ref", "HEAD", "refs/heads/other"]);
    client.commit("other", "infra/y", "1");
    host.push(&client, &["other"]);
    assert_eq!(recorder.take()[0].paths, BTreeSet::from(["infra/y".to_owned()]));
}

#[test]
fn a_refused_ref_leaves_the_others() {
    let host = Host::new();
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    host.push(&client, &["--mirror"]);
    let before = client.git(&["rev-parse", "main"]);
    client.commit("main", "x", "1");
    client.commit("topic2", "y", "1");
    let spooled = host.pack_keys();
    for facts in [Facts::default(), ALL] {
        record(&host, facts, |seen| seen.name == "refs/heads/main");
        let said = host.refuses(&client, &["main"], &["not allowed"]);
        assert!(!said.contains("unpacker error"), "{said}");
        assert_eq!(host.pack_keys(), spooled, "a refused push stores nothing");
        host.refuses(&client, &["--atomic", "main", "topic2"], &["not allowed", "atomic"]);
        assert_eq!(host.pack_keys(), spooled, "a refused push stores nothing");
        host.refuses(&client, &["--delete", "main"], &["not allowed"]);
    }
    // An outdated value is no way to learn more than that the ref is not allowed.
    record(&host, Facts::default(), |seen| seen.name == "refs/heads/main");
    let answer = host.talk(&[format!("{} {before} refs/heads/main", "1".repeat(40))], b"");
    assert!(answer.contains("ng refs/heads/main not allowed"), "{answer}");
    host.refuses(&client, &["main", "topic2"], &["not allowed"]);
    let refs = host.refs();
    assert!(refs.contains(&("refs/heads/main".into(), before)), "{refs:?}");
    assert!(refs.iter().any(|(name, _)| name == "refs/heads/topic2"));
    host.verified();
}

#[test]
fn both_ends_of_a_symbolic_ref_are_authorized() {
    let host = Host::new();
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    client.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
    let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "tests".into() };
    let progress = Arc::new(ImportProgress::default());
    let importing = host.region.importer().import(&client.path, "repo", &options, progress);
    host.runtime.block_on(importing).unwrap();
    client.commit("main", "x", "1");
    for refused in ["refs/heads/main", "refs/heads/alias"] {
        for facts in [Facts::default(), ALL] {
            record(&host, facts, move |seen| seen.name == refused);
            host.refuses(&client, &["main:alias"], &["not allowed"]);
        }
    }
    let recorder = record(&host, Facts::default(), |_| false);
    host.push(&client, &["main:alias"]);
    assert!(recorder.take().iter().any(|seen| seen.name == "refs/heads/main"));
}

/// A push within the limit is within that of policies, which see the directories above the files as well.
#[test]
fn more_paths_than_a_policy_may_depend_on_are_refused() {
    let host = Host::new();
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    host.push(&client, &["main"]);
    let blob = String::from_utf8(client.feed(&["hash-object", "-w", "--stdin"], b"x")).unwrap();
    let commit = |name: &str, paths: &mut dyn Iterator<Item = String>| {
        let entries: String = paths.map(|path| format!("100644 blob {}\t{path}\n", blob.trim())).collect();
        let index = host.dir.path().join(format!("index-{name}"));
        let mut command = gitferry_test_support::git::command(&client.path);
        command.env("GIT_INDEX_FILE", &index).args(["update-index", "--index-info"]);
        command.stdin(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), entries.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let mut command = gitferry_test_support::git::command(&client.path);
        let tree = command.env("GIT_INDEX_FILE", &index).arg("write-tree").output().unwrap().stdout;
        let commit = client.git(&["commit-tree", tree.trim().to_str().unwrap(), "-m", "many"]);
        format!("{commit}:refs/heads/{name}")
    };
    // Files of one directory, which counts itself, and directories with a file each.
    let flat = |count: usize| (0..count).map(|n| format!("many/{n}"));
    let deep = |count: usize| (0..count).map(|n| format!("{n}/file"));
    let fit = [commit("flat", &mut flat(MAX_CHANGED_PATHS - 1)), commit("deep", &mut deep(MAX_CHANGED_PATHS / 2))];
    let many =
        [commit("too-flat", &mut flat(MAX_CHANGED_PATHS)), commit("too-deep", &mut deep(MAX_CHANGED_PATHS / 2 + 1))];
    let recorder =
        record(&host, ALL, |seen| Context::builder().changed_paths(seen.paths.iter().map(String::as_str)).is_err());
    for refspec in &fit {
        host.push(&client, &[refspec]);
        assert!(recorder.take()[0].paths.len() >= MAX_CHANGED_PATHS / 2);
    }
    for refspec in &many {
        host.refuses(&client, &[refspec], &["changed paths"]);
        assert_eq!(recorder.take(), [], "the policy is not asked");
    }
    // A policy that does not depend on paths counts none.
    record(&host, Facts { forced: true, changed_paths: None }, |_| false);
    host.push(&client, &[&many[0], &many[1]]);
}
