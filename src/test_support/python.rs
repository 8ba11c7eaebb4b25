//! Python environments below `target/`, each with one package of PyPI, made when they are first needed.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The interpreter of an environment that has this version of a package. `hint` is said where it cannot be made: what
/// else could be done.
pub fn environment(package: &str, version: &str, hint: &str) -> PathBuf {
    let folder = crate::paths::tmp();
    std::fs::create_dir_all(folder).unwrap();
    let home = folder.join(format!("{package}-{version}"));
    let python = home.join("bin/python");
    let complete = home.join("complete");
    // Several test binaries may want it at once; one makes it.
    let lock = File::create(folder.join(format!("{package}.lock"))).unwrap();
    lock.lock().unwrap();
    if !complete.exists() {
        let _ = std::fs::remove_dir_all(&home);
        let needed = format!(
            "These tests run {package} {version} from PyPI. Install Python 3 with venv and pip (python3-venv on \
             Debian) and allow access to PyPI or a mirror (PIP_INDEX_URL){}{hint}.",
            if hint.is_empty() { "" } else { ", " }
        );
        must("python3", Command::new("python3").args(["-m", "venv"]).arg(&home), &needed);
        let exactly = format!("{package}=={version}");
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &exactly];
        must("pip", Command::new(&python).args(pip), &needed);
        File::create(complete).unwrap();
    }
    python
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
