//! This build writes the formats of the fixture.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use gitferry_test_support::formats::{fixture, scenario, sources};
use gitferry_test_support::git::GitRepo;

/// Names the folder that `tests/fixtures/write.sh` wants the state in.
const FOLDER: &str = "GITFERRY_WRITE_FIXTURE";

/// Members of outputs that are newer than the fixture, with the values that they have in its scenario.
const NEWER: [&str; 3] = ["\"kms_key\":null,", "\"origin\":null,", "\"other_keys\":[],"];
/// The format of the outputs.
const OUTPUTS: &str = "output of --json";

/// A line that one side has and the other lacks is a format that has changed: a member that was renamed, added or lost,
/// another type, another key, or another size.
#[test]
fn every_format_is_written_as_before() {
    let written = scenario::write(&fixture::sources());
    let dir = tempfile::tempdir().unwrap();
    let (state, stand_ins) = fixture::unpack(dir.path());
    let before = state.lines(&stand_ins);
    let now = written.state.lines(&written.stand_ins);
    assert_eq!(now.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    let mut said = String::new();
    for (format, before) in &before {
        assert!(!before.is_empty(), "the fixture has no {format}");
        let now: Vec<String> = now[format].iter().map(|line| without_newer(format, line)).collect();
        let sets = [before, &now].map(|lines| lines.iter().collect::<BTreeSet<_>>());
        let only =
            |at: usize| sets[at].difference(&sets[1 - at]).map(|line| format!("{line:.2000}")).collect::<Vec<_>>();
        for (sign, lines) in [("-", only(0)), ("+", only(1))] {
            said.extend(lines.into_iter().map(|line| format!("{format}\n{sign} {line}\n")));
        }
        if before.len() != now.len() {
            said += &format!("{format}: {} lines, and {} before\n", now.len(), before.len());
        }
    }
    assert!(said.is_empty(), "formats have changed (-: before, +: now)\n{said}");
    // A fixture of this build would be read as it was written.
    let kept = tempfile::tempdir().unwrap();
    fixture::keep(&written, kept.path());
    let again = tempfile::tempdir().unwrap();
    let (state, stand_ins) = fixture::unpack_from(kept.path(), again.path());
    assert_eq!(state.lines(&stand_ins), now);
}

/// The line as the build of the fixture would have printed it.
fn without_newer(format: &str, line: &str) -> String {
    if format != OUTPUTS {
        return line.to_owned();
    }
    NEWER.iter().fold(line.to_owned(), |line, member| line.replace(member, ""))
}

/// Run by `tests/fixtures/write.sh`, never otherwise.
#[test]
#[ignore = "writes a fixture for `tests/fixtures/write.sh`"]
fn write_the_fixture() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let archive = folder.join("sources.tar.gz");
    if !archive.exists() {
        let made = tempfile::tempdir().unwrap();
        sources::make(made.path());
        sources::pack(&archive, made.path(), &["."]);
    }
    fixture::keep(&scenario::write(&archive), &folder);
}

/// In the place of `cargo`: keeps its arguments, and writes a world unless it is told to fail.
const CARGO: &str = "#!/bin/sh\n\
                     printf '%s\\n' \"$@\" >\"$STATE/arguments\"\n\
                     [ ! -e \"$STATE/fails\" ] || exit 1\n\
                     echo world >\"$GITFERRY_WRITE_FIXTURE/world.tar.gz\"\n";

/// A repository with the script, and nothing of a build.
fn with_script(folder: &Path) -> GitRepo {
    let fixtures = folder.join("tests/fixtures");
    std::fs::create_dir_all(&fixtures).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/write.sh");
    std::fs::copy(script, fixtures.join("write.sh")).unwrap();
    let cargo = folder.join("bin/cargo");
    std::fs::create_dir(folder.join("bin")).unwrap();
    std::fs::write(&cargo, CARGO).unwrap();
    std::fs::set_permissions(cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
    let repo = GitRepo::at(folder);
    repo.git(&["init", "-q", "."]);
    repo.git(&["add", "tests"]);
    repo.git(&["commit", "-q", "-m", "script"]);
    repo
}

/// `tests/fixtures/write.sh` runs [`write_the_fixture`], and leaves a whole fixture or none.
#[test]
fn the_script_runs_the_test_that_writes() {
    let dir = tempfile::tempdir().unwrap();
    let repo = with_script(dir.path());
    let path = format!("{}:{}", dir.path().join("bin").display(), std::env::var("PATH").unwrap());
    let write = |name: &str| {
        let mut script = Command::new(dir.path().join("tests/fixtures/write.sh"));
        script.arg(name).env("PATH", &path).env("STATE", dir.path()).env_remove("GIT_DIR");
        let output = script.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let fixture = |name: &str| dir.path().join("tests/fixtures").join(name);
    let (done, said) = write("stores-3");
    assert!(done, "{said}");
    let built = std::fs::read_to_string(fixture("stores-3").join("build.txt")).unwrap();
    assert_eq!(built.trim_end(), repo.git(&["rev-parse", "HEAD"]));
    let (binary, module) = module_path!().split_once("::").unwrap();
    let arguments = std::fs::read_to_string(dir.path().join("arguments")).unwrap();
    let expected = ["test", "--test", binary, "--", "--ignored", "--exact", &format!("{module}::write_the_fixture")];
    assert_eq!(arguments.lines().collect::<Vec<_>>(), expected);

    let (done, said) = write("stores-3");
    assert!(!done && said.contains("never written again"), "{said}");
    std::fs::write(dir.path().join("fails"), "").unwrap();
    assert!(!write("stores-4").0 && !fixture("stores-4").exists(), "a fixture that failed is gone");
    std::fs::write(dir.path().join("Cargo.lock"), "").unwrap();
    let (done, said) = write("stores-5");
    assert!(!done && said.contains("commit the product first") && !fixture("stores-5").exists(), "{said}");
}
