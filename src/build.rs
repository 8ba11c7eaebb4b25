//! Sets `GITFERRY_VERSION`, which `gitferry --version` prints: the package version and, for a release, its commit.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=GITFERRY_COMMIT");
    println!("cargo::rerun-if-changed=src/build.rs");
    let named = std::env::var("GITFERRY_COMMIT").ok().filter(|commit| !commit.is_empty());
    // Development builds leave the commit out, so that a new commit does not make cargo compile the program again.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = named.or_else(|| is_release.then(commit_here).flatten());
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match commit {
        Some(commit) => format!("{version} ({commit})"),
        None => format!("{version} (development build)"),
    };
    println!("cargo::rustc-env=GITFERRY_VERSION={version}");
}

/// Returns the checked-out commit, with a plus sign if tracked files differ from it; `None` outside a Git repository.
fn commit_here() -> Option<String> {
    for file in ["HEAD", "index"] {
        println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", file])?);
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let is_changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if is_changed { format!("{commit}+") } else { commit })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
