//! Requests that no honest client makes.

use std::sync::LazyLock;

use gitferry_git::view::View;
use proptest::prelude::*;

use crate::upload_pack::raw::{Talk, lines};
use crate::upload_pack::repo::{FORMATS, Repo};

/// A view whose files are gone already: they stay mapped.
static VIEW: LazyLock<(View, Vec<String>)> = LazyLock::new(|| {
    let repo = Repo::with_history(FORMATS[0]);
    let mut ids: Vec<String> = ["main", "main~9", "side", "v1", "tree", "main:dir0", "blob", "main~30"]
        .map(|name| repo.rev_parse(name).to_string())
        .into();
    ids.push("1".repeat(40));
    (repo.view(), ids)
});

#[test]
fn broken_requests_are_told_what_is_wrong() {
    let view = &VIEW.0;
    let id = &VIEW.1[0];
    for (request, told) in [
        (&b"zzzz"[..], "bad line length"),
        (b"0004", "expected a command"),
        (b"000bagent=x", "the end of the request"),
        (b"0010command=x", "the rest of a packet"),
        (b"fff1", "bad line length"),
        (&lines(&["command=push", "."]), "expected the command"),
        (&lines(&["agent=x", "."]), "the command is missing"),
        (&lines(&["command=fetch", "|", "want x", "."]), "expected an object id"),
        (&lines(&["command=fetch", "|", &format!("want {id}00"), "."]), "expected an object id"),
        (&lines(&["command=fetch", "|", "nonsense", "."]), "expected an argument"),
        (&lines(&["command=fetch", "|", "done", "|"]), "expected an argument"),
        (&lines(&["command=fetch", "|", "deepen 0", "."]), "positive number"),
        (&lines(&["command=fetch", "|", "deepen 1", "deepen-not x", "."]), "cannot be used together"),
        (&lines(&["command=fetch", "object-format=sha256", "|", "."]), "mismatched object format"),
        (&lines(&["command=ls-refs", "|", "nonsense", "."]), "expected an argument of ls-refs"),
    ] {
        let mut talk = Talk::v2(view);
        assert!(talk.ask(request).is_err());
        let heard = String::from_utf8_lossy(talk.heard()).into_owned();
        assert!(heard[4..].starts_with("ERR ") && heard.contains(told), "{told}: {heard}");
    }
    let many: Vec<String> = (0..1001).map(|number| format!("deepen-not r{number}")).collect();
    let all: Vec<&str> = ["command=fetch", "|"].into_iter().chain(many.iter().map(String::as_str)).collect();
    let error = Talk::v2(view).ask(&lines(&all)).unwrap_err();
    assert!(error.to_string().contains("too many deepen-not lines: at most 1000"), "{error}");
}

/// Lines of a request that is nearly right.
fn line() -> impl Strategy<Value = String> {
    let id = (0..9usize).prop_map(|at| VIEW.1[at].clone());
    prop_oneof![
        id.clone().prop_map(|id| format!("want {id}")),
        id.clone().prop_map(|id| format!("have {id}")),
        id.prop_map(|id| format!("shallow {id}")),
        (0..70u32).prop_map(|depth| format!("deepen {depth}")),
        Just("deepen 2147483647".to_owned()),
        Just("deepen-relative".to_owned()),
        Just("deepen-since 1701000000".to_owned()),
        Just("deepen-not v1".to_owned()),
        (0..4u32).prop_map(|depth| format!("filter tree:{depth}")),
        Just("filter blob:limit=300".to_owned()),
        Just("want-ref refs/heads/side".to_owned()),
        Just("thin-pack".to_owned()),
        Just("ofs-delta".to_owned()),
        Just("include-tag".to_owned()),
        Just("wait-for-done".to_owned()),
        Just("done".to_owned()),
        Just(".".to_owned()),
        "[ -~]{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_request_makes_it_panic(lines_of in proptest::collection::vec(line(), 0..12), cut in 0..400usize, v2 in any::<bool>()) {
        let mut all = if v2 { vec!["command=fetch", "|"] } else { vec![] };
        all.extend(lines_of.iter().map(String::as_str));
        all.push(".");
        let request = lines(&all);
        let mut talk = if v2 { Talk::v2(&VIEW.0) } else { Talk::v0(&VIEW.0) };
        let _ = talk.ask(&request);
        let _ = talk.ask(&request[..request.len().saturating_sub(cut)]);
    }

    #[test]
    fn no_bytes_make_it_panic(request in proptest::collection::vec(any::<u8>(), 0..100), v2 in any::<bool>()) {
        let mut talk = if v2 { Talk::v2(&VIEW.0) } else { Talk::v0(&VIEW.0) };
        let _ = talk.ask(&request);
    }
}
