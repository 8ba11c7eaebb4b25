//! Python environments below `target/`, each with one package of PyPI, made when they are first needed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The interpreter of an environment that has this version of a package. `hint` is said where it cannot be made: what
/// else could be done.
pub fn environment(package: &str, version: &str, hint: &str) -> PathBuf {
    let hint = if hint.is_empty() { String::new() } else { format!(", {hint}") };
    let needed = format!(
        "These tests run {package} {version} from PyPI. Install Python 3 with venv and pip (python3-venv on Debian) and \
         allow access to PyPI or a mirror (PIP_INDEX_URL){hint}."
    );
    once(&format!("{package}-{version}"), |home| {
        let installer = installer(&needed);
        must("python3", Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(home), &needed);
        let python = home.join("bin/python");
        let exactly = format!("{package}=={version}");
        let mut pip = Command::new(installer);
        pip.args(["-m", "pip", "--python"]).arg(&python);
        // Modules that are never imported need not be compiled.
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-compile", &exactly]);
        must("pip", &mut pip, &needed);
    })
}

/// The interpreter of the environment that has pip, which takes seconds to unpack: one for all others. `needed` is said
/// where it cannot be made.
pub fn installer(needed: &str) -> PathBuf {
    once("pip", |home| must("python3", Command::new("python3").args(["-m", "venv"]).arg(home), needed))
}

/// The interpreter of an environment that `make` makes in a folder when it is first needed. Several test binaries may
/// want it at once; one makes it.
fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let folder = crate::paths::tmp();
    let home = folder.join(name);
    let complete = home.join("complete");
    let lock = File::create(folder.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !complete.exists() {
        let _ = std::fs::remove_dir_all(&home);
        make(&home);
        File::create(complete).unwrap();
    }
    home.join("bin/python")
}

/// Runs a step of making an environment, or says what the machine lacks.
fn must(what: &str, command: &mut Command, needed: &str) {
    let failed = match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        Err(error) => error.to_string(),
    };
    panic!("{what} failed: {failed}\n{needed}");
}
