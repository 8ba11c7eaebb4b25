//! Where pushes leave HEAD.

use gitferry_engine::region::import::{ImportOptions, ImportProgress};
use gitferry_git::local::RefPatterns;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::receiving::Host;

fn repo(host: &Host) -> GitRepo {
    GitRepo::with_history(host.dir.path().join("client"), &[])
}

#[test]
fn tags_and_notes_first_and_the_branch_later() {
    for first in ["v1", "refs/notes/commits"] {
        let host = Host::new();
        let client = repo(&host);
        host.push(&client, &[first]);
        assert_eq!(host.verified().head(), "refs/heads/main\n", "unborn");
        host.push(&client, &["side"]);
        assert_eq!(host.verified().head(), "refs/heads/side\n");
        host.push(&client, &["main"]);
        assert_eq!(host.verified().head(), "refs/heads/side\n");
        let clone = host.dir.path().join("clone");
        let export = host.verified();
        client.git(&["clone", "-q", export.path.to_str().unwrap(), clone.to_str().unwrap()]);
        assert_eq!(GitRepo::at(clone).head(), "refs/heads/side\n");
    }
}

#[test]
fn a_dangling_head_is_set_by_the_first_push_that_brings_branches() {
    let host = Host::new();
    let client = repo(&host);
    // As an import brings it: other branches are there, that of HEAD is not.
    let source = GitRepo::with_history(host.dir.path().join("source"), &[]);
    source.git(&["symbolic-ref", "HEAD", "refs/heads/gone"]);
    let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "tests".into() };
    let progress = std::sync::Arc::new(ImportProgress::default());
    host.runtime.block_on(host.region.importer().import(&source.path, "repo", &options, progress)).unwrap();
    let head = || host.head().head.head.to_string();
    assert_eq!(head(), "ref:refs/heads/gone");
    client.git(&["tag", "v9", "main"]);
    host.push(&client, &["v9"]);
    host.push(&client, &["--delete", "topic/deep/er"]);
    assert_eq!(head(), "ref:refs/heads/gone", "no branch came");
    host.push(&client, &["main:refs/heads/x", "main:refs/heads/master"]);
    assert_eq!(head(), "ref:refs/heads/master");
    host.push(&client, &["main:refs/heads/another"]);
    assert_eq!(head(), "ref:refs/heads/master");
    host.verified();
}
