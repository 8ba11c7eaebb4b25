//! Imports that are killed again and again leave one upload in the spool, and the next import that ends well none.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::world::{SOURCE, World};

/// More than an import writes before it can be killed.
const BYTES: usize = 48 << 20;

fn left(spool: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(spool).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
    let mut left: Vec<PathBuf> = entries.unwrap_or_default();
    left.retain(|path| path.is_dir());
    left
}

#[test]
fn killed_imports_leave_one_upload_or_none() {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    repo.commit_bytes("main", "big", &noise(7, BYTES));
    let spool = world.path(SOURCE).join("objects/.staging");
    for signal in ["KILL", "KILL", "INT", "KILL"] {
        let mut command = world.command(&["import", "src.git", "big", "--region", SOURCE]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        let full =
            || left(&spool).iter().any(|path| std::fs::read_dir(path).is_ok_and(|mut files| files.next().is_some()));
        while !full() && child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let sent = std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        child.wait().unwrap();
        assert!(left(&spool).len() <= 1, "{:?}", left(&spool));
    }
    world.import(&repo, "big");
    assert_eq!(left(&spool), [] as [PathBuf; 0]);
    world.assert_exports_as(&repo, "big", SOURCE);
}
