//! A million refs are listed as they are read: memory is that of the table of refs, not of any answer.

use std::process::Stdio;

use gitferry_test_support::git::{self, GitRepo};
use gitferry_test_support::pair::{Pair, REGIONS, US};

/// The table of a million refs (their names, ids, and an index by id) is some 60 MiB, and there is another
/// while it is made; an answer is as large again, and is never there as a whole.
const MAX_GROWTH_MIB: u64 = 250;
/// What any number of answers may add at a time.
const MAX_ANSWERS_MIB: u64 = 64;
const REFS: usize = 1_000_000;

#[test]
#[ignore = "slow: a million refs"]
fn a_million_refs_stream() {
    let pair = Pair::open();
    let repo = GitRepo::init(pair.path("src.git"), &[]);
    let id = repo.commit("main", "file", "content\n");
    repo.pack_many_refs("refs/heads/many/", REFS, &id);
    repo.git(&["pack-refs", "--all"]);
    pair.ok(&["import", repo.path.to_str().unwrap(), "app", "--region", REGIONS[US]]);
    let (url, idle) = (pair.url(US, "app"), pair.memory_mib());
    let count = |args: &[&str]| repo.git(args).lines().count();
    for version in ["0", "2"] {
        let version = format!("protocol.version={version}");
        assert_eq!(count(&["-c", &version, "ls-remote", &url]), REFS + 2);
        assert_eq!(count(&["-c", &version, "ls-remote", &url, "refs/heads/many/00012*"]), 100);
    }
    let warm = pair.memory_mib();
    println!("RssAnon: {idle} MiB idle, {warm} MiB with the table");
    assert!(warm < idle + MAX_GROWTH_MIB, "{warm} MiB, {idle} idle");
    // Eight clients at once that are told all, and do not listen.
    let silent: Vec<_> = (0..8)
        .map(|number| {
            let version = format!("protocol.version={}", number % 3);
            let mut command = git::command(pair.dir());
            command.args(["-c", &version, "ls-remote", &url]).stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    // A ninth is served meanwhile, and a push.
    repo.commit("main", "file", "other\n");
    repo.git(&["push", "-q", &url, "main"]);
    let most = pair.memory_mib();
    println!("RssAnon: {most} MiB with eight listings and a push");
    assert!(most < warm + MAX_GROWTH_MIB + MAX_ANSWERS_MIB, "{most} MiB, {warm} before");
    for client in silent {
        assert!(client.wait_with_output().unwrap().status.success());
    }
}
