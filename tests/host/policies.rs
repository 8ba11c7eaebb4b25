//! `[[push_policies]]`: what some repositories accept and others do not.

use crate::said;
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::pair::{EU, Pair, US};

const POLICIES: &str = r#"
[[push_policies]]
repositories = ["guarded/*"]
max_push = "200 KiB"
max_object = "50 KB"
protect = [
  { refs = ["refs/heads/main", "refs/heads/release/*"], forbid = ["force", "delete"] },
  { refs = ["refs/tags/"], forbid = ["delete", "force"] },
  { refs = ["refs/heads/frozen"], forbid = ["push"] },
]

[[push_policies]]
repositories = ["lenient"]
fsck = { zeroPaddedFilemode = "ignore", missingSpaceBeforeDate = "warn" }

[[push_policies]]
repositories = ["skipping"]
fsck_skip = "skip.txt"

[[push_policies]]
repositories = ["unchecked"]
fsck = "off"
"#;

fn refused(repo: &GitRepo, args: &[&str], reason: &str) {
    let output = repo.try_git(args);
    assert!(!output.status.success(), "{args:?} was accepted");
    assert!(said(&output).contains(reason), "{args:?}: {}", said(&output));
}

#[test]
fn protected_refs() {
    let pair = Pair::configured(POLICIES, &[("skip.txt", "")]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "guarded/app");
    repo.git(&["push", &url, "main", "side", "side:release/1", "--tags"]);
    refused(&repo, &["push", "-f", &url, "main~1:main"], "protected ref: non-fast-forward");
    refused(&repo, &["push", "-f", &url, "main~1:release/1"], "protected ref: non-fast-forward");
    refused(&repo, &["push", &url, ":release/1"], "protected ref: no deletion");
    refused(&repo, &["push", &url, ":refs/tags/v1"], "protected ref: no deletion");
    refused(&repo, &["push", "-f", &url, "main~3:refs/tags/light"], "protected ref: non-fast-forward");
    refused(&repo, &["push", &url, "main:frozen"], "protected ref: no pushes");
    // Forward, and elsewhere, everything goes; another repository has no protection.
    repo.commit("main", "more", "more\n");
    repo.git(&["push", &url, "main"]);
    repo.git(&["push", "-f", &url, "main~2:side"]);
    repo.git(&["push", &url, ":side"]);
    let other = pair.url(US, "other");
    repo.git(&["push", &other, "main", "main:frozen"]);
    repo.git(&["push", "-f", &other, "main~1:main"]);
}

#[test]
fn what_is_too_large() {
    let pair = Pair::configured(POLICIES, &[("skip.txt", "")]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "guarded/app");
    repo.git(&["push", &url, "main"]);
    repo.commit_bytes("main", "big", &noise(1, 60_000));
    refused(&repo, &["push", &url, "main"], "50000");
    repo.git(&["update-ref", "refs/heads/main", "main~1"]);
    for number in 0..6 {
        repo.commit_bytes("main", &format!("file-{number}"), &noise(number, 40_000));
    }
    refused(&repo, &["push", &url, "main"], "204800");
    // Nothing of it is left, and less of it goes.
    assert_eq!(repo.git(&["ls-remote", &url, "main"]), repo.git(&["rev-parse", "main~6"]) + "\trefs/heads/main");
    repo.git(&["push", &url, "main~3:main"]);
    repo.git(&["push", &pair.url(US, "other"), "main"]);
}

/// A commit whose tree says `0100644`.
fn with_padded_mode(repo: &GitRepo) -> (String, String) {
    let blob = repo.git(&["rev-parse", "main:dir/file0"]);
    let mut tree = b"0100644 file\0".to_vec();
    tree.extend(hex::decode(&blob).unwrap());
    let args = ["hash-object", "-t", "tree", "-w", "--literally", "--stdin"];
    let tree = String::from_utf8(repo.feed(&args, &tree)).unwrap().trim().to_owned();
    let commit = repo.git(&["commit-tree", &tree, "-p", "main", "-m", "padded"]);
    repo.git(&["update-ref", "refs/heads/padded", &commit]);
    (tree, commit)
}

#[test]
fn severities_and_skip_lists() {
    let dir = tempfile::tempdir().unwrap();
    let repo = GitRepo::with_history(dir.path().join("src.git"), &[]);
    let (tree, _) = with_padded_mode(&repo);
    let list = format!("# known\n\n{tree} # from the old days\n");
    let pair = Pair::configured(POLICIES, &[("skip.txt", &list)]);
    refused(&repo, &["push", &pair.url(US, "app"), "main", "padded"], "zeroPaddedFilemode");
    for name in ["lenient", "skipping", "unchecked"] {
        repo.git(&["push", &pair.url(US, name), "main", "padded"]);
    }
    // What a primary has accepted, a replica takes as it is.
    let arrived = || !said(&repo.try_git(&["ls-remote", &pair.url(EU, "lenient"), "padded"])).is_empty();
    pair.wait(arrived);
}

#[test]
fn a_configuration_that_makes_no_sense_is_named() {
    let good = "[[push_policies]]\n";
    for (more, word) in [
        ("fsck = { badEmial = \"warn\" }", "badEmial"),
        ("fsck = { badEmail = \"loud\" }", "loud"),
        ("fsck = { nulInHeader = \"ignore\" }", "cannot be let through"),
        ("protect = [{ refs = [\"main\"], forbid = [\"push\"] }]", "refs/"),
        ("protect = [{ refs = [\"refs/heads/main\"], forbid = [] }]", "forbid"),
        ("pre_receive = { command = [] }", "no program"),
        ("pre_receive = { url = \"ftp://x\" }", "http"),
        ("pre_receive = { command = [\"x\"], timeout = \"2 hours\" }", "timeout"),
        ("fsck_skip = \"missing.txt\"", "missing.txt"),
        ("fsck = \"off\"\nfsck_skip = \"x\"", "fsck_skip"),
        ("max_push = \"many\"", "max_push"),
        ("pre_receive = { url = \"http://x\", token_file = \"none\" }", "none"),
    ] {
        let said = Pair::fails_to_start(&format!("{good}{more}\n"));
        assert!(said.contains(word), "{more}: {said}");
    }
}
