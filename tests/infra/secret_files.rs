//! `docker/secret-files.rs`, the entry point of the image: compiled as the image does it, and run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use gitferry_test_support::paths;

use crate::hcl_files::root;

/// Here for the lints of the project, which has no crate for it.
#[allow(dead_code)]
#[path = "../../docker/secret-files.rs"]
mod source;

/// The program.
pub fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let program = paths::tmp().join("secret-files");
        // Test processes may compile it at the same time.
        let unfinished = program.with_extension(std::process::id().to_string());
        let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
        let options = ["--edition", "2024", "-C", "panic=abort", "-o"];
        let made =
            Command::new(rustc).args(options).arg(&unfinished).arg(root("docker/secret-files.rs")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::rename(&unfinished, &program).unwrap();
        program
    });
    &PROGRAM
}

/// The variable that becomes a file of this name.
pub fn variable(file: &str) -> String {
    format!("GITFERRY_FILE_{}", file.to_ascii_uppercase())
}

fn run(folder: &Path, variables: &[(&str, &str)], program_and_arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg(folder).args(program_and_arguments).env_clear().env("PATH", "/usr/bin:/bin");
    command.envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn variables_become_files_for_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("state/secrets");
    let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n-----END PRIVATE KEY-----";
    let variables = [("GITFERRY_FILE_TLS_KEY", key), ("GITFERRY_FILE_TOKENS", "a:b\n"), ("GITFERRY_LOG", "info")];
    let ran = run(&folder, &variables, &["env"]);
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
    let environment = String::from_utf8(ran.stdout).unwrap();
    assert!(environment.contains("GITFERRY_LOG=info"), "others stay: {environment}");
    assert!(!environment.contains("GITFERRY_FILE") && !environment.contains("PRIVATE"), "{environment}");
    // PEM wants a line break at the end; a file that has one gets no other.
    for (file, content) in [("tls_key", format!("{key}\n")), ("tokens", "a:b\n".to_owned())] {
        let path = folder.join(file);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "nothing else is left");
}

/// Bytes that no environment variable can have.
#[test]
fn hexadecimal_variables_become_files_of_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("secrets");
    let digits = "00ff0aA0".repeat(8) + "\n";
    let ran = run(&folder, &[("GITFERRY_HEX_ACCOUNT_KEY", &digits)], &["env"]);
    assert!(ran.status.success() && !String::from_utf8_lossy(&ran.stdout).contains("GITFERRY_HEX"), "{ran:?}");
    let key = folder.join("account_key");
    assert_eq!(std::fs::read(&key).unwrap(), [0x00, 0xff, 0x0a, 0xa0].repeat(8));
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_container_that_starts_again_has_the_new_secret() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("secrets");
    // Of a start that was cut off, and of one that let others read.
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(".tokens.unfinished"), "half").unwrap();
    std::fs::write(folder.join("tokens"), "old\n").unwrap();
    assert!(run(&folder, &[("GITFERRY_FILE_TOKENS", "new")], &["true"]).status.success());
    assert_eq!(std::fs::read_to_string(folder.join("tokens")).unwrap(), "new\n");
    let mode = std::fs::metadata(folder.join("tokens")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn without_secrets_it_is_the_program_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("secrets");
    let ran = run(&folder, &[], &["sh", "-c", "echo \"$1\"; exit 7", "-", "an argument"]);
    assert_eq!((ran.status.code(), String::from_utf8(ran.stdout).unwrap().as_str()), (Some(7), "an argument\n"));
    assert!(!folder.exists());
}

/// Errors name the variable, file or program, and never the value.
#[test]
fn what_cannot_be_is_said_without_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let secret = "the-secret";
    for (folder, variables, program, expected) in [
        ("secrets", &[("GITFERRY_FILE_lower", secret)][..], "true", "GITFERRY_FILE_lower is not"),
        ("secrets", &[("GITFERRY_FILE_A/B", secret)][..], "true", "GITFERRY_FILE_A/B is not"),
        ("secrets", &[("GITFERRY_FILE_", secret)][..], "true", "GITFERRY_FILE_ is not"),
        ("secrets", &[("GITFERRY_FILE_TOKENS", "")][..], "true", "GITFERRY_FILE_TOKENS is empty"),
        ("secrets", &[("GITFERRY_HEX_KEY", secret)][..], "true", "GITFERRY_HEX_KEY is not hexadecimal"),
        ("secrets", &[("GITFERRY_HEX_KEY", "0ff")][..], "true", "GITFERRY_HEX_KEY is not hexadecimal"),
        ("file", &[("GITFERRY_FILE_TOKENS", secret)][..], "true", "tokens cannot be written"),
        ("secrets", &[("GITFERRY_FILE_TOKENS", secret)][..], "/nowhere/program", "/nowhere/program cannot be started"),
    ] {
        let ran = run(&dir.path().join(folder), variables, &[program]);
        let said = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
        assert_eq!(ran.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && !said.contains(secret), "{expected}: {said}");
    }
    let ran = Command::new(program()).output().unwrap();
    assert!(ran.status.code() == Some(2) && String::from_utf8(ran.stderr).unwrap().contains("usage"));
}
