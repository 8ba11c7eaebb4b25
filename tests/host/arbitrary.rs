//! Arbitrary bytes over HTTP.

use std::io::Write as _;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::hostile::{Target, packet};

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let word = "(0032want |0014command=ls-refs\n|0012command=fetch|0001|0000|0002|PACK)[ -~]{0,60}";
    let command = "0{40} [0-9a-f]{40} refs/[a-z/.]{0,20}";
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        word.prop_map(String::into_bytes),
        command.prop_map(|line| [packet(line.as_bytes()), b"0000PACK".to_vec()].concat()),
    ]
}

/// Whatever comes, a whole answer of HTTP goes back.
#[test]
fn any_bytes_are_answered() {
    let target = Target::new();
    let service = prop_oneof![Just("upload-pack"), Just("receive-pack")];
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let all = (bodies(), service, 0..3u8, any::<bool>());
    let tested = TestRunner::new(config).run(&all, |(mut body, service, version, gzip)| {
        let mut headers = format!("Git-Protocol: version={version}\r\n");
        if gzip {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(&body).unwrap();
            body = out.finish().unwrap();
            headers += "Content-Encoding: gzip\r\n";
        }
        let (status, answer) = target.post(service, &headers, &body);
        prop_assert_eq!(status, 200, "{}", answer);
        prop_assert!(answer.ends_with("0\r\n\r\n"), "it has no end: {}", answer);
        Ok(())
    });
    tested.unwrap();
    target.assert_unharmed();
}
