//! What a repository's own rules forbid: protected and hidden refs, the hook.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use gitferry_engine::region::push::Protection;
use gitferry_git::local::RefPatterns;
use gitferry_git::receive_pack::CommandHook;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::receiving::Host;

pub fn protect(refs: &str, rule: impl FnOnce(&mut Protection)) -> Protection {
    let refs = RefPatterns::new([refs]).unwrap();
    let mut protection = Protection { refs, no_force: false, no_delete: false, no_push: false };
    rule(&mut protection);
    protection
}

fn setup() -> (Host, GitRepo) {
    let host = Host::new();
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    host.push(&client, &["--mirror"]);
    (host, client)
}

#[test]
fn protected_refs_only_move_forward() {
    let (host, client) = setup();
    host.accept(|policy| {
        policy.protections = vec![
            protect("refs/heads/*", |p| p.no_force = true),
            protect("refs/heads/topic/", |p| p.no_delete = true),
            protect("refs/tags/*", |p| p.no_push = true),
        ];
    });
    client.git(&["branch", "old", "main~2"]);
    host.refuses(&client, &["--force", "old:main"], &["protected ref: non-fast-forward"]);
    host.refuses(&client, &["--delete", "topic/deep/er"], &["protected ref: no deletion"]);
    host.refuses(&client, &["main:refs/tags/new"], &["protected ref: no pushes"]);
    client.commit("main", "forward", "x\n");
    client.commit("main", "forward", "y\n");
    host.push(&client, &["main"]);
    host.push(&client, &["--delete", "side"]);
    // A merge of what is there moves it forward too.
    let tree = client.git(&["rev-parse", "main^{tree}"]);
    let merge = client.git(&["commit-tree", &tree, "-p", "side", "-p", "main", "-m", "merge"]);
    host.push(&client, &[&format!("{merge}:refs/heads/main")]);
    host.verified();
}

#[test]
fn hidden_refs_are_neither_seen_nor_changed() {
    let (host, client) = setup();
    client.commit("secret", "secret", "do not tell\n");
    host.push(&client, &["secret:refs/internal/secret"]);
    host.accept(|policy| policy.hidden = Some(RefPatterns::new(["refs/internal/"]).unwrap()));
    host.refuses(&client, &["main:refs/internal/other"], &["deny updating a hidden ref"]);
    let seen = client.git(&["ls-remote", "--heads", "."]);
    assert!(!seen.contains("refs/internal"));
    // What is hidden cannot be had by naming it.
    let (secret, null) = (client.git(&["rev-parse", "secret"]), "0".repeat(40));
    let empty = client.feed(&["pack-objects", "--stdout", "-q"], b"");
    let answer = host.talk(&[format!("{null} {secret} refs/heads/stolen")], &empty);
    assert!(answer.contains("ng refs/heads/stolen missing necessary objects"), "{answer}");
    // But who has the objects may push them.
    host.push(&client, &["secret"]);
    host.verified();
}

fn hook(host: &Host, script: &str) {
    let path = host.dir.path().join("hook");
    std::fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let hook = CommandHook { program: path, arguments: vec![], timeout: Duration::from_secs(20) };
    host.accept(|policy| policy.hook = Some(Arc::new(hook)));
}

#[test]
fn a_hook_sees_the_objects_in_quarantine_and_may_decline() {
    let (host, client) = setup();
    // A file named in the push is refused; the hook reads it with plain Git.
    hook(
        &host,
        "while read old new ref; do
            case \"$ref\" in refs/heads/protected) continue;; esac
            git rev-list --objects $new --not --all | grep -q forbidden && { echo no $ref: forbidden >&2; exit 1; }
            git cat-file -e $new || exit 3
            test $old = 0000000000000000000000000000000000000000 || git cat-file -e $old || exit 4
        done
        test -d \"$GIT_QUARANTINE_PATH/pack\" || exit 5
        echo \"$GITFERRY_REPOSITORY $GITFERRY_ACTOR $GIT_PUSH_OPTION_COUNT $GIT_PUSH_OPTION_0\"",
    );
    client.commit("main", "allowed", "x\n");
    let said = host.push(&client, &["--push-option=why=because", "main"]);
    assert!(said.contains("remote: repo tester 1 why=because"), "{said}");
    let before = (host.head().head.frontier, host.pack_keys());
    client.commit("main", "forbidden", "something new\n");
    host.refuses(&client, &["main"], &["no refs/heads/main: forbidden", "pre-receive hook declined"]);
    assert_eq!((host.head().head.frontier, host.pack_keys()), before);
    assert_eq!(host.spooled(), Vec::<std::path::PathBuf>::new());
    host.verified();
}

#[test]
fn a_hook_that_hangs_or_floods_or_is_not_there_refuses() {
    let (host, client) = setup();
    client.commit("main", "x", "x\n");
    let limited = |program: &str, arguments: &[&str]| {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let hook = CommandHook { program: program.into(), arguments, timeout: Duration::from_millis(300) };
        host.accept(|policy| policy.hook = Some(Arc::new(hook)));
    };
    limited("/bin/sh", &["-c", "sleep 1000 & sleep 1000"]);
    host.refuses(&client, &["main"], &["pre-receive hook failed", "took longer than"]);
    limited("/nowhere/hook", &[]);
    host.refuses(&client, &["main"], &["pre-receive hook failed"]);
    limited("/bin/sh", &["-c", "yes x | head -c 3000000; exit 1"]);
    let said = host.refuses(&client, &["main"], &["pre-receive hook declined"]);
    assert!(said.len() < 1_000_000, "{}", said.len());
    limited("/bin/true", &[]);
    host.push(&client, &["main"]);
    host.verified();
}
