//! `mirror = true`: links of another gitferry push here, and write what they keep below `refs/gitferry/`.

use crate::said;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{Pair, US};

const POLICIES: &str = r#"
[[push_policies]]
repositories = ["copy/*"]
mirror = true
max_object = "50 KB"
protect = [{ refs = ["refs/gitferry/diverged/heads/release/"], forbid = ["force", "delete"] }]
"#;
const KEPT: &str = "refs/gitferry/diverged/heads/main/0123456789ab";
const SLICE: &str = "refs/gitferry/slices/0123456789ab";

/// What a repository's server tells those who push.
fn advertised(pair: &Pair, name: &str) -> String {
    let path = format!("/{name}/info/refs?service=git-receive-pack");
    pair.raw(US, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

fn refused(repo: &GitRepo, args: &[&str], reason: &str) {
    let output = repo.try_git(args);
    assert!(!output.status.success(), "{args:?} was accepted");
    assert!(said(&output).contains(reason), "{args:?}: {}", said(&output));
}

#[test]
fn links_write_what_they_keep_and_nothing_else() {
    let pair = Pair::configured(POLICIES, &[]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "copy/app");
    repo.git(&["push", &url, "main", &format!("side:{KEPT}"), &format!("main~2:{SLICE}")]);
    repo.git(&["push", "-f", &url, &format!("main~1:{KEPT}"), &format!("main~3:{SLICE}")]);
    for name in ["x", "diverged", "slices", "slice/x", "diverged2/x", "other/diverged/x"] {
        refused(&repo, &["push", &url, &format!("main:refs/gitferry/{name}")], "refs/gitferry/ is reserved");
    }
    // All else that a policy says holds for them.
    let release = "refs/gitferry/diverged/heads/release/1";
    repo.git(&["push", &url, &format!("main~1:{release}")]);
    refused(&repo, &["push", "-f", &url, &format!("main~3:{release}")], "protected ref: non-fast-forward");
    refused(&repo, &["push", &url, &format!(":{release}")], "protected ref: no deletion");
    let large = repo.commit_bytes("large", "large", &gitferry_test_support::git::noise(1, 60_000));
    refused(&repo, &["push", "-f", &url, &format!("{large}:{SLICE}")], "50000");
    refused(&repo, &["push", &url, &format!("main:{KEPT}/more")], "directory/file conflict");
    repo.git(&["push", &url, &format!(":{KEPT}"), &format!(":{SLICE}")]);
    assert!(!advertised(&pair, "copy/app").contains(SLICE));
}

#[test]
fn nobody_else_does() {
    let pair = Pair::configured(POLICIES, &[]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    repo.git(&["push", &url, "main"]);
    for name in [KEPT, SLICE] {
        refused(&repo, &["push", &url, &format!("main:{name}")], "refs/gitferry/ is reserved");
        refused(&repo, &["push", &url, &format!(":{name}")], "refs/gitferry/ is reserved");
    }
}

#[test]
fn links_see_what_they_keep_and_readers_what_was_made() {
    for (hidden, shown) in [("", true), ("hidden = [\"refs/internal/\"]", false)] {
        let pair = Pair::with_host_and(hidden, POLICIES);
        let repo = GitRepo::with_history(pair.path("src.git"), &[]);
        let url = pair.url(US, "copy/app");
        repo.git(&["push", &url, &format!("main~3:{SLICE}")]);
        // What a slice has brought counts as there.
        repo.git(&["push", &url, "main", &format!("side:{KEPT}")]);
        let told = advertised(&pair, "copy/app");
        assert!(told.contains(SLICE) && told.contains(KEPT), "{told}");
        let listed = repo.git(&["ls-remote", &url]);
        assert!(!listed.contains(SLICE), "{listed}");
        assert_eq!(listed.contains(KEPT), shown, "{listed}");
        let fetched = repo.try_git(&["fetch", &url, KEPT]);
        assert_eq!(fetched.status.success(), shown, "{}", said(&fetched));
        // Whoever runs the region has it in any case.
        let to = pair.path("exported.git");
        pair.ok(&["export", "copy/app", "--region", "us-east-1", "--to", to.to_str().unwrap()]);
        assert_eq!(GitRepo::at(to).git(&["rev-parse", KEPT]), repo.git(&["rev-parse", "side"]));
    }
}

#[test]
fn a_repository_with_nothing_but_slices_has_no_branch_yet() {
    let pair = Pair::configured(POLICIES, &[]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "copy/app");
    repo.git(&["push", &url, &format!("main~3:{SLICE}")]);
    repo.git(&["push", &url, "main:trunk", &format!(":{SLICE}")]);
    let head = repo.git(&["ls-remote", "--symref", &url, "HEAD"]);
    assert!(head.starts_with("ref: refs/heads/trunk\t"), "{head}");
}
