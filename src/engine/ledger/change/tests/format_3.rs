//! Format 3: format 2 with lines of metadata.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{check_one_spelling, read};

/// Lines of metadata in [`WITH_METADATA`].
const LINES: &str = "description \"a \\\"b\\\"\\nc\"
tag \"cost center\" \"7\"
tag \"gone\" -
";
/// A change of format 3.
const WITH_METADATA: &str = "gitferry-change 3
epoch 1 us-east-1
seq 7
prev 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
time 1764000000123
actor ann
description \"a \\\"b\\\"\\nc\"
tag \"cost center\" \"7\"
tag \"gone\" -
digest lt1-aabbccddeeff0011aabbccddeeff0011aabbccddeeff0011aabbccddeeff0011
edits 0
";

#[test]
fn format_3_has_metadata_and_no_other_format_has() {
    let (header, edits, _) = read(WITH_METADATA.as_bytes()).unwrap();
    assert!(edits.is_empty());
    assert_eq!(header.metadata.description.as_deref(), Some("a \"b\"\nc"));
    let tags = [("cost center".to_owned(), Some("7".to_owned())), ("gone".to_owned(), None)];
    assert_eq!(header.metadata.tags, BTreeMap::from(tags));
    let mut written = Vec::new();
    header.write_to(&mut written);
    assert_eq!(String::from_utf8(written).unwrap(), WITH_METADATA);
    let long = format!("description \"{}\"\n", "x".repeat(1_001));
    let many: String = (100..201).map(|number| format!("tag \"{number}\" \"\"\n")).collect();
    for (from, to) in [
        ("change 3", "change 2"),
        ("change 3", "change 4"),
        (LINES, ""),
        (LINES, "tag \"b\" -\ntag \"a\" -\n"),
        (LINES, "tag \"a\" -\ntag \"a\" \"\"\n"),
        (LINES, "tag \"a\" -\ndescription \"\"\n"),
        (LINES, "description \"\\u0061\"\n"),
        (LINES, "tag \"\" \"\"\n"),
        (LINES, &long),
        (LINES, &many),
    ] {
        let bad = WITH_METADATA.replace(from, to);
        assert_ne!(bad, WITH_METADATA, "{from}");
        read(bad.as_bytes()).unwrap_err();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_metadata_are_read_without_panic(lines in "((description|tag) [\"\\\\a-c -]{0,12}\n){0,3}") {
        check_one_spelling(WITH_METADATA.replace(LINES, &lines).as_bytes());
    }
}
