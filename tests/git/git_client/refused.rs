//! Refs that a server refuses: each for itself, in its words.

use std::os::unix::fs::PermissionsExt;

use gitferry_git::client::{PushReport, ReceivePack};
use gitferry_git::protocol::Version;
use gitferry_git::receive_pack::Command;

use crate::git_client::pushing::{command, no_objects};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::scripted_server::GitServer;

struct Target {
    repo: GitRepo,
    server: GitServer,
    _dir: tempfile::TempDir,
}

/// Every kind of server: with and without state, bands, and the second version of reports.
fn targets() -> impl Iterator<Item = Target> {
    let edits = ["", " side-band-64k", " report-status-v2"];
    [false, true].into_iter().flat_map(move |stateless| edits.map(|edit| (stateless, edit))).map(|(stateless, edit)| {
        let dir = tempfile::tempdir().unwrap();
        let repo = GitRepo::with_history(dir.path().join("repo"), &[]);
        let server = GitServer::new(&repo, Version::V0, stateless).saying(edit, "");
        Target { repo, server, _dir: dir }
    })
}

impl Target {
    fn at(&self, name: &str) -> String {
        self.repo.git(&["rev-parse", name])
    }

    fn hook(&self, name: &str, script: &str) {
        let path = self.repo.path.join("hooks").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn push(&self, commands: &[Command]) -> PushReport {
        let mut target = ReceivePack::open(&self.server).unwrap();
        let report = target.push(commands, Some(&mut no_objects)).unwrap();
        assert_eq!(report.refs.len(), commands.len());
        for (command, outcome) in commands.iter().zip(&report.refs) {
            assert_eq!(command.name, outcome.name);
            if (&command.old, &command.new) == (&None, &None) {
                continue;
            }
            // It is as the report has it.
            let value = target.confirm(std::slice::from_ref(command)).unwrap();
            assert_eq!(value.refs[0].result.is_ok(), outcome.result.is_ok(), "{outcome:?} {value:?}");
        }
        self.repo.git(&["fsck", "--strict", "--no-dangling"]);
        report
    }
}

/// Which of the outcomes are refusals that say something.
fn refused<'r>(report: &'r PushReport, words: &str) -> Vec<&'r str> {
    let refused = report.refs.iter().filter(|outcome| outcome.result.as_ref().is_err_and(|why| why.contains(words)));
    refused.map(|outcome| std::str::from_utf8(&outcome.name).unwrap()).collect()
}

#[test]
fn deletions_that_are_denied() {
    for target in targets() {
        target.repo.git(&["config", "receive.denyDeletes", "true"]);
        let (main, side) = (target.at("main"), target.at("side"));
        let report = target.push(&[command("refs/heads/side", &side, "-"), command("refs/heads/new", "-", &main)]);
        assert_eq!(refused(&report, "deletion prohibited"), ["refs/heads/side"], "{report:?}");
        assert!(report.unpack.is_ok());
    }
}

#[test]
fn old_values_that_are_wrong() {
    for target in targets() {
        let (main, side) = (target.at("main"), target.at("side"));
        let commands = [
            command("refs/heads/side", &main, &main),
            command("refs/heads/topic/deep/er", "-", &main),
            command("refs/heads/new", "-", &main),
            command("refs/tags/light", &side, "-"),
        ];
        let report = target.push(&commands);
        let names = ["refs/heads/side", "refs/heads/topic/deep/er", "refs/tags/light"];
        assert_eq!(refused(&report, ""), names, "{report:?}");
        assert_eq!(target.at("side"), side);
    }
}

#[test]
fn hooks_and_their_words() {
    for target in targets() {
        target.hook("update", "echo \"about $1\"; echo 'second line' >&2; test $1 != refs/heads/b");
        let main = target.at("main");
        let commands = ["a", "b", "c"].map(|name| command(&format!("refs/heads/{name}"), "-", &main));
        let report = target.push(&commands);
        assert_eq!(refused(&report, "hook declined"), ["refs/heads/b"], "{report:?}");
        if target.server.edits[0].0 != " side-band-64k" {
            assert!(report.messages.iter().any(|line| line == "about refs/heads/b"), "{report:?}");
            assert_eq!(report.messages.iter().filter(|line| *line == "second line").count(), 3);
        }
        target.hook("pre-receive", "printf 'no\\033[31mthing\\rtoday' >&2; exit 1");
        let report = target.push(&[command("refs/heads/d", "-", &main)]);
        assert_eq!(refused(&report, "pre-receive hook declined"), ["refs/heads/d"]);
        if target.server.edits[0].0 != " side-band-64k" {
            assert!(report.messages.contains(&"today".to_owned()), "{report:?}");
        }
    }
}

#[test]
fn hidden_refs_and_names_that_no_ref_has() {
    for target in targets() {
        target.repo.git(&["config", "receive.hideRefs", "refs/hidden"]);
        let main = target.at("main");
        let commands = [
            command("refs/hidden/a", "-", &main),
            command("refs/heads/a", "-", &main),
            command("refs/heads/a..b", "-", &main),
            command("refs/heads/a\n0000", "-", &main),
            command("HEAD", "-", &main),
            command("refs/heads/nothing", "-", "-"),
            command("refs/heads/other", "-", &"ab".repeat(32)),
        ];
        let report = target.push(&commands);
        assert_eq!(refused(&report, "hidden ref"), ["refs/hidden/a"], "{report:?}");
        assert_eq!(refused(&report, "not a valid ref name"), ["refs/heads/a..b", "refs/heads/a\n0000", "HEAD"]);
        assert_eq!(refused(&report, "object format of the server is sha1"), ["refs/heads/other"]);
        assert_eq!(refused(&report, "").len(), 6);
    }
}

#[test]
fn branches_that_are_checked_out() {
    let dir = tempfile::tempdir().unwrap();
    let bare = GitRepo::with_history(dir.path().join("bare"), &[]);
    bare.git(&["clone", "-q", ".", "../work"]);
    let work = GitRepo::at(dir.path().join("work"));
    let main = work.git(&["rev-parse", "main"]);
    let older = work.git(&["rev-parse", "main~1"]);
    for stateless in [false, true] {
        let server = GitServer::new(&work, Version::V0, stateless);
        let mut target = ReceivePack::open(&server).unwrap();
        let name = format!("refs/heads/new-{stateless}");
        let commands = [command("refs/heads/main", &main, &older), command(&name, "-", &older)];
        let report = target.push(&commands, Some(&mut no_objects)).unwrap();
        assert_eq!(refused(&report, "branch is currently checked out"), ["refs/heads/main"], "{report:?}");
        assert!(report.refs[1].result.is_ok());
    }
}

#[test]
fn servers_that_delete_nothing_are_not_asked_to() {
    for mut target in targets() {
        target.server.edits.push((" delete-refs".into(), String::new()));
        let side = target.at("side");
        let report = target.push(&[command("refs/heads/side", &side, "-")]);
        assert_eq!(refused(&report, "does not delete refs"), ["refs/heads/side"]);
    }
}
