//! Stand-ins for the parts of a state that differ each time it is written.

use gitferry_test_support::formats::stand_ins::StandIns;
use serde_json::json;

#[test]
fn what_differs_each_time_is_replaced_and_the_rest_stays() {
    let mut names = StandIns::default();
    names.add("01a223e4-c3a6-7261-9720-fa152c14d49b", "<app>");
    for (text, expected) in [
        ("repository/01a223e4-c3a6-7261-9720-fa152c14d49b", "repository/<app>"),
        ("x/01a223e4-c442-777b-bc92-b1358fd469e6.parts", "x/<uuid>.parts"),
        (
            "pack-24b3b3647a38a759ed88b77ea11596f02f5df6b6-01a223e4c40a75de8e36e25be85b355f.idx",
            "pack-24b3b3647a38a759ed88b77ea11596f02f5df6b6-<nonce>.idx",
        ),
        ("at 2026-11-28T20:42:04.691Z, at 2026-11-28T20:42:04Z", "at <time>, at <time>"),
        ("http://127.0.0.1:8411/app", "http://<address>/app"),
        (&"0".repeat(64), &"0".repeat(64)),
        (&"a0".repeat(32), "<hash>"),
        (&format!("x{}", "a0".repeat(32)), &format!("x{}", "a0".repeat(32))),
        ("34596b701400840a.", "<crc64>."),
        ("an LFS object – ünïcode", "an LFS object – ünïcode"),
    ] {
        assert_eq!(names.text(text), expected);
    }
    assert_eq!(
        names.json(&json!({ "since": 7, "seq": 7, "list": ["b", "a"], "at": { "N": "1" } })),
        json!({ "since": "<number>", "seq": 7, "list": ["a", "b"], "at": "<N>" })
    );
    assert_eq!(names.change("seq 7\ntime 1764000000123\n"), "seq 7\ntime <13 digits>");
}
