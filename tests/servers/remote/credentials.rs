//! Programs that know credentials.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use axum::http::header;
use gitferry_git::client::ClientError;

use crate::remote::place::{Place, listed, only, refs_of, unauthorized};

/// A helper that writes down what it is asked and then does this; the lines that configure it.
fn helper(place: &Place, script: &str) -> String {
    let (file, log) = (place.path("helper"), place.path("log"));
    let text = format!("#!/bin/sh\n{{ echo \"= $*\"; cat; }} >> {}\n{script}\n", log.display());
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("auth = {{ kind = \"helper\", command = [\"{}\", \"for-tests\"] }}", file.display())
}

fn log(place: &Place) -> String {
    std::fs::read_to_string(place.path("log")).unwrap_or_default()
}

#[test]
fn a_helper_is_asked_and_told() {
    let place = Place::new();
    let repo = place.repository("app");
    let server = place.serve(only("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    let auth = helper(&place, "[ \"$2\" = get ] && printf 'username=Aladdin\\npassword=open sesame\\n'");
    assert_eq!(listed(&place.app(&server.lines(&auth))).unwrap(), refs_of(&repo));
    let asked = format!("protocol=http\nhost={}\n", server.address);
    let expected = format!(
        "= for-tests get\ncapability[]=authtype\n{asked}\n= for-tests store\n{asked}username=Aladdin\npassword=open sesame\n\n"
    );
    assert_eq!(log(&place), expected);
}

#[test]
fn a_store_of_git_knows_a_host_or_a_path_of_it() {
    let place = Place::new();
    let repo = place.repository("app");
    let server = place.serve(only("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    let file = place.path("store");
    for (known, option, is_found) in [
        ("", "", true),
        ("", ", path = true", false),
        ("/app", ", path = true", true),
        ("/other", ", path = true", false),
    ] {
        std::fs::write(&file, format!("http://Aladdin:open%20sesame@{}{known}\n", server.address)).unwrap();
        let store = format!("\"git\", \"credential-store\", \"--file\", \"{}\"", file.display());
        let auth = format!("auth = {{ kind = \"helper\", command = [{store}]{option} }}");
        let listed = listed(&place.app(&server.lines(&auth)));
        assert_eq!(listed.is_ok_and(|refs| refs == refs_of(&repo)), is_found, "{known} {option}");
    }
}

#[test]
fn a_helper_is_asked_anew_once() {
    let place = Place::new();
    let repo = place.repository("app");
    // It has an old password first, and another one once that has been refused.
    let script = format!(
        "case $2 in get) if [ -e {0} ]; then echo authtype=Bearer; echo credential=new; \
         else printf 'username=x\\npassword=old\\n'; fi;; erase) touch {0};; esac",
        place.path("erased").display()
    );
    let auth = helper(&place, &script);
    let server = place.serve(only("Bearer new"));
    assert_eq!(listed(&place.app(&server.lines(&auth))).unwrap(), refs_of(&repo));
    let verbs: Vec<String> = log(&place).lines().filter(|line| line.starts_with('=')).map(String::from).collect();
    assert_eq!(verbs, ["= for-tests get", "= for-tests erase", "= for-tests get", "= for-tests store"]);
    // And not for ever.
    let never = place.serve(Arc::new(|_| Some(unauthorized("never"))));
    let error = listed(&place.app(&never.lines(&auth))).unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized { .. }), "{error}");
    assert_eq!(never.seen().len(), 2);
}

#[test]
fn helpers_that_fail() {
    let place = Place::new();
    place.repository("app");
    let server = place.serve(only("Basic never"));
    for (script, words) in [
        ("echo hunter2 >&2; exit 3", "exit status: 3"),
        ("exit 0", "supplied no credentials"),
        ("echo quit=1", "refused to supply credentials"),
        ("head -c 200000 /dev/zero", "more than 65536 bytes"),
    ] {
        let error = listed(&place.app(&server.lines(&helper(&place, script)))).unwrap_err();
        let shown = error.to_string();
        assert!(matches!(error, ClientError::Unauthorized { .. }) && shown.contains(words), "{shown}");
        assert!(shown.contains("helper") && !shown.contains("hunter2"), "{shown}");
    }
    let nowhere = "auth = { kind = \"helper\", command = [\"/nowhere/helper\"] }";
    let error = listed(&place.app(&server.lines(nowhere))).unwrap_err().to_string();
    assert!(error.contains("/nowhere/helper") && error.contains("cannot start it"), "{error}");
    assert!(server.seen().is_empty());
}

#[test]
fn secrets_are_in_no_argument() {
    let place = Place::new();
    let repo = place.repository("app");
    let seen = place.path("arguments");
    let script = format!(
        "tr '\\0' ' ' < /proc/$$/cmdline >> {}; [ \"$2\" = get ] && printf 'username=Aladdin\\npassword=open sesame\\n'",
        seen.display()
    );
    let server = place.serve(only("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    assert_eq!(listed(&place.app(&server.lines(&helper(&place, &script)))).unwrap(), refs_of(&repo));
    let arguments = std::fs::read_to_string(seen).unwrap();
    assert!(arguments.contains("store") && !arguments.contains("sesame"), "{arguments}");
}

#[test]
fn codecommit_signs_each_request() {
    let place = Place::new();
    let repo = place.repository("app");
    std::fs::write(
        place.path("aws"),
        "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = k\naws_session_token = t/t==\n",
    )
    .unwrap();
    let server = place.serve(Arc::new(|request| {
        use base64::Engine as _;
        let given = request.headers().get(header::AUTHORIZATION)?.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let text = String::from_utf8(base64::prelude::BASE64_STANDARD.decode(given).unwrap()).unwrap();
        let (user, password) = text.split_once(':').unwrap();
        let (time, signature) = password.split_once('Z').unwrap();
        let good = user == "AKIDEXAMPLE%t/t==" && time.len() == 15 && signature.len() == 64;
        (!good).then(|| unauthorized(user))
    }));
    let lines =
        server.lines("provider = \"codecommit\"\nauth = { kind = \"codecommit\" }\naws = { region = \"us-east-1\" }");
    let listed = crate::remote::place::with_aws(&place.path("aws"), || listed(&place.app(&lines)));
    assert_eq!(listed.unwrap(), refs_of(&repo));
    assert!(server.seen().iter().all(|it| it.header("authorization").is_some()));
}
