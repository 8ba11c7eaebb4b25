//! Pushes to symbolic refs, and to names right below `refs/`: the outcomes of `git receive-pack`, side by side.

use std::sync::Arc;

use gitferry_engine::region::import::{ImportOptions, ImportProgress};
use gitferry_git::local::RefPatterns;

use crate::receive_pack::rules::protect;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::receiving::{Host, said};

/// A repository with symbolic refs, the same one in a region, and a client of both.
fn setup() -> (Host, GitRepo, GitRepo) {
    let host = Host::new();
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    let git = GitRepo::init(host.dir.path().join("git"), &[]);
    client.git(&["push", "-q", "--mirror", git.path.to_str().unwrap()]);
    for (name, target) in [
        ("refs/heads/alias", "refs/heads/main"),
        ("refs/heads/alias2", "refs/heads/alias"),
        ("refs/heads/unborn", "refs/heads/new"),
        ("refs/heads/loop1", "refs/heads/loop2"),
        ("refs/heads/loop2", "refs/heads/loop1"),
        ("refs/heads/side2", "refs/heads/side"),
    ] {
        git.git(&["symbolic-ref", name, target]);
    }
    let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "tests".into() };
    let progress = Arc::new(ImportProgress::default());
    host.runtime.block_on(host.region.importer().import(&git.path, "repo", &options, progress)).unwrap();
    (host, git, client)
}

/// All refs with what they name in the end. Those that lead nowhere are left out, as Git does.
fn values(host: &Host) -> Vec<String> {
    let to = tempfile::tempdir().unwrap();
    let to = to.path().join("export");
    host.runtime.block_on(host.region.exporter().export("repo", &to)).unwrap();
    let export = GitRepo::at(&to);
    export.git(&["for-each-ref", "--format=%(refname) %(objectname) %(symref)"]).lines().map(String::from).collect()
}

/// What Git's client prints of each ref.
fn outcomes(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with(" ") && line.contains("->") || line.contains("[deleted]"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_same_becomes_of_refs_as_with_git() {
    let (host, git, client) = setup();
    let path = git.path.to_str().unwrap().to_owned();
    let next = || client.commit("main", "file", &format!("{:?}\n", std::time::Instant::now()));
    type Step<'a> = (bool, &'a [&'a str]);
    let steps: &[Step<'_>] = &[
        (true, &["main:alias"]),
        (true, &["main:alias2", "main:main"]),
        (true, &["main:alias", "main~1:main"]),
        (true, &["main:refs/heads/alias2"]),
        (false, &["--force", "main~1:alias"]),
        (true, &["main:loop1"]),
        (false, &["main:unborn"]),
        (false, &["--delete", "side2"]),
        (false, &["--delete", "side2"]),
        (true, &["main:refs/stash"]),
        (false, &["main:refs/x", "main:refs/heads/x"]),
        (false, &["--delete", "x"]),
    ];
    for (commits, args) in steps {
        if *commits {
            next();
        }
        let (ours, options, refs): (_, Vec<&str>, Vec<&str>) = {
            let (options, refs) = args.iter().partition(|arg| arg.starts_with("--"));
            (host.try_push(&client, args), options, refs)
        };
        let theirs = client.try_git(&[&["push"][..], &options, &[path.as_str()], &refs].concat());
        let (ours, theirs) = (said(&ours), said(&theirs));
        // Git's reason has no more words than these two.
        let short = |text: &str| outcomes(&text.replace("funny refname: it is directly below refs/", "funny refname"));
        assert_eq!(short(&ours), short(&theirs), "push {args:?}\n{ours}\n{theirs}");
        let format = "--format=%(refname) %(objectname) %(symref)";
        let git: Vec<String> = git.git(&["for-each-ref", format]).lines().map(String::from).collect();
        assert_eq!(values(&host), git, "push {args:?}");
    }
}

#[test]
fn refs_right_below_refs_can_be_deleted() {
    let host = Host::new();
    let source = GitRepo::with_history(host.dir.path().join("source"), &[]);
    source.git(&["update-ref", "refs/stash", "main"]);
    let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "tests".into() };
    let progress = Arc::new(ImportProgress::default());
    host.runtime.block_on(host.region.importer().import(&source.path, "repo", &options, progress)).unwrap();
    host.refuses(&source, &["--force", "main~1:refs/stash"], &["funny refname"]);
    host.push(&source, &["--delete", "refs/stash"]);
    assert!(!host.refs().iter().any(|(name, _)| name == "refs/stash"));
}

#[test]
fn rules_hold_for_what_a_symbolic_ref_leads_to() {
    let (host, _, client) = setup();
    host.accept(|policy| policy.protections = vec![protect("refs/heads/main", |p| p.no_force = true)]);
    host.refuses(&client, &["--force", "main~1:alias"], &["protected ref: non-fast-forward"]);
    host.accept(|policy| policy.protections = vec![protect("refs/heads/alias2", |p| p.no_push = true)]);
    client.commit("main", "x", "x\n");
    host.refuses(&client, &["main:alias2"], &["protected ref: no pushes"]);
    host.refuses(&client, &["--delete", "alias2"], &["protected ref: no pushes"]);
    host.refuses(&client, &["--delete", "alias"], &["deletion of the current branch prohibited"]);
    host.refuses(&client, &["--force", "main^{tree}:alias"], &["a branch must name a commit"]);
    host.accept(|policy| policy.hidden = Some(RefPatterns::new(["refs/heads/side"]).unwrap()));
    host.refuses(&client, &["--force", "main:side2"], &["rejected"]);
}
