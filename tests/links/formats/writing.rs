//! This build writes the formats of the fixture.

use std::collections::BTreeSet;
use std::path::PathBuf;

use gitferry_test_support::formats::{fixture, scenario, sources};

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
