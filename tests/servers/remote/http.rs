//! `git http-backend`, and what stands before servers in practice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{StatusCode, Version as HttpVersion, header};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gitferry_base::Kind;
use gitferry_git::client::{ClientError, Server as _, UploadPack};
use gitferry_git::protocol::{Service, Version};

use crate::remote::place::{
    Place, Seen, assert_fetches, bulky, listed, only, open, push_main, push_pack, refs_of, unauthorized,
};

/// Larger than what is held in memory.
const LARGE: usize = 3 << 20;

#[test]
fn versions() {
    let place = Place::new();
    let repo = place.repository("app");
    let server = place.serve(open());
    let app = place.app(&server.lines(""));
    assert_eq!(UploadPack::open(&app).unwrap().version(), Version::V2);
    assert_eq!(listed(&app).unwrap(), refs_of(&repo));
    assert_fetches(&place, &app, &repo);
    let seen = server.seen();
    assert!(seen.iter().all(|it| it.header("git-protocol") == Some("version=2")));
    assert!(seen.iter().all(|it| it.header("user-agent").unwrap().starts_with("git/")));
    // A server that knows version 0 only.
    let old = place.serve(Arc::new(|request| {
        request.headers_mut().remove("git-protocol");
        None
    }));
    let app = place.app(&old.lines(""));
    assert_eq!(UploadPack::open(&app).unwrap().version(), Version::V0);
    assert_eq!(listed(&app).unwrap(), refs_of(&repo));
    assert_fetches(&place, &app, &repo);
}

#[test]
fn who_asks() {
    let place = Place::new();
    let repo = place.repository("app");
    std::fs::write(place.path("token"), "open sesame\n").unwrap();
    let basic = place.serve(only("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    let auth = "auth = { kind = \"basic\", user = \"Aladdin\", token_file = \"token\" }";
    assert_eq!(listed(&place.app(&basic.lines(auth))).unwrap(), refs_of(&repo));
    let bearer = place.serve(only("Bearer open sesame"));
    let with = "auth = { kind = \"bearer\", token_file = \"token\" }";
    assert_eq!(listed(&place.app(&bearer.lines(with))).unwrap(), refs_of(&repo));
    // Nobody, somebody else, and somebody without a token.
    for lines in ["", "auth = { kind = \"basic\", user = \"Ali\", token_file = \"token\" }", with] {
        basic.seen();
        let error = listed(&place.app(&basic.lines(lines))).unwrap_err();
        assert!(matches!(error, ClientError::Unauthorized { .. }) && error.kind() == Kind::Refused, "{error}");
        assert!(error.to_string().contains("who are you?") && !error.to_string().contains("sesame"), "{error}");
        // Asking again would not help.
        assert_eq!(basic.seen().len(), 1);
    }
    let missing = "auth = { kind = \"bearer\", token_file = \"nowhere\" }";
    let error = listed(&place.app(&basic.lines(missing))).unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
    assert!(basic.seen().is_empty());
}

#[test]
fn a_token_that_was_exchanged_is_found() {
    let place = Place::new();
    let repo = place.repository("app");
    std::fs::write(place.path("token"), "old").unwrap();
    let file = place.path("token");
    // The token changes between the request and its refusal.
    let server = place.serve(Arc::new(move |request| {
        let given = request.headers().get(header::AUTHORIZATION).unwrap();
        if given == "Bearer new" {
            return None;
        }
        std::fs::write(&file, "new").unwrap();
        Some(unauthorized("that token was exchanged"))
    }));
    let app = place.app(&server.lines("auth = { kind = \"bearer\", token_file = \"token\" }"));
    assert_eq!(listed(&app).unwrap(), refs_of(&repo));
}

#[test]
fn what_a_server_repeats_of_a_secret_is_not_shown() {
    let place = Place::new();
    std::fs::write(place.path("token"), "hunter2-hunter2").unwrap();
    let server = place.serve(Arc::new(|request| {
        let given = request.headers().get(header::AUTHORIZATION).unwrap().to_str().unwrap();
        Some((StatusCode::FORBIDDEN, format!("no \x1b[31m {given} is hunter2-hunter2")).into_response())
    }));
    let app = place.app(&server.lines("auth = { kind = \"basic\", user = \"ann\", token_file = \"token\" }"));
    let error = listed(&app).unwrap_err();
    let shown = format!("{error} {error:?} {app:?}");
    let encoded = BASE64_STANDARD.encode("ann:hunter2-hunter2");
    assert!(!shown.contains("hunter2") && !shown.contains(&encoded) && shown.contains("***"), "{shown}");
    assert!(!error.to_string().contains('\x1b'));
}

#[test]
fn pushes_small_and_large() {
    let place = Place::new();
    place.empty("app");
    let server = place.serve(open());
    let app = place.app(&server.lines(""));
    let small = bulky(place.path("small"), 1000);
    assert!(push_main(&app, &small).unwrap().is_ok());
    let posts: Vec<_> = server.seen().into_iter().filter(|it| it.method == "POST").collect();
    assert_eq!(posts.len(), 1);
    assert!(posts[0].header("content-length").is_some() && posts[0].header("content-encoding").is_none());

    let target = place.empty("large");
    let large = bulky(place.path("bulk"), LARGE);
    let there = app.remote().repository("large").unwrap();
    assert!(push_main(&there, &large).unwrap().is_ok());
    assert_eq!(refs_of(&target), refs_of(&large));
    target.git(&["fsck", "--strict"]);
    let posts: Vec<_> = server.seen().into_iter().filter(|it| it.method == "POST").collect();
    // A probe, and the push.
    assert_eq!(posts.len(), 2);
    assert!(posts.iter().all(|it| it.header("transfer-encoding") == Some("chunked")), "{posts:?}");
}

#[test]
fn servers_that_need_to_know_the_length() {
    let place = Place::new();
    let server = place.serve(Arc::new(|request| {
        let unknown = request.headers().contains_key(header::TRANSFER_ENCODING);
        unknown.then(|| (StatusCode::LENGTH_REQUIRED, "how long?").into_response())
    }));
    let large = bulky(place.path("bulk"), LARGE);
    for (name, lines) in [("told", ""), ("configured", "limits = { chunked = false }")] {
        let target = place.empty(name);
        let remote = place.remote(&server.lines(lines));
        assert!(push_main(&remote.repository(name).unwrap(), &large).unwrap().is_ok());
        assert_eq!(refs_of(&target), refs_of(&large));
        let refused = server.seen().iter().filter(|it| it.header("transfer-encoding").is_some()).count();
        assert_eq!(refused, usize::from(name == "told"));
        // It is remembered.
        place.empty("again");
        assert!(push_main(&remote.repository("again").unwrap(), &large).unwrap().is_ok());
        assert!(server.seen().iter().all(|it| it.header("transfer-encoding").is_none()));
        std::fs::remove_dir_all(place.path("served/again")).unwrap();
    }
    // The spool has a bound, and nothing was pushed beyond it.
    let target = place.empty("bounded");
    let remote = place.remote(&server.lines("limits = { spool = \"2MiB\" }"));
    let error = push_main(&remote.repository("bounded").unwrap(), &large).unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }) && error.to_string().contains("bytes of spool"), "{error}");
    assert!(refs_of(&target).is_empty());
}

#[test]
fn credentials_are_probed_before_a_pack_is_streamed() {
    let place = Place::new();
    place.empty("app");
    // Everybody may look; who pushes is asked.
    let server = place.serve(Arc::new(|request| {
        let known = request.headers().get(header::AUTHORIZATION).is_some();
        (request.method() == "POST" && !known).then(|| unauthorized("to push, log in"))
    }));
    let large = bulky(place.path("bulk"), LARGE);
    let error = push_main(&place.app(&server.lines("")), &large).unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized { .. }), "{error}");
    assert_eq!(server.seen().iter().filter(|it| it.method == "POST").count(), 1);
    // Once the stream has begun, nothing can be asked again.
    let posts = Arc::new(AtomicUsize::new(0));
    let count = posts.clone();
    let fickle = place.serve(Arc::new(move |request| {
        (request.method() == "POST" && count.fetch_add(1, Ordering::SeqCst) > 0).then(|| unauthorized("no more"))
    }));
    std::fs::write(place.path("token"), "secret").unwrap();
    let auth = "auth = { kind = \"basic\", user = \"ann\", token_file = \"token\" }";
    let error = push_main(&place.app(&fickle.lines(auth)), &large).unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized { .. }), "{error}");
    // Where the connection broke before the answer was read, it was asked for again.
    assert!(matches!(posts.load(Ordering::SeqCst), 2 | 3));
}

#[test]
fn a_push_whose_source_fails_is_cut_off() {
    let place = Place::new();
    let target = place.empty("app");
    let server = place.serve(open());
    let app = place.app(&server.lines(""));
    let large = bulky(place.path("bulk"), LARGE);
    let id = large.git(&["rev-parse", "main"]);
    let pack = large.feed(&["pack-objects", "--stdout", "--revs", "-q"], b"main\n");
    // What lacks its end is refused by the server even where it looks whole to HTTP.
    let error = push_pack(&app, &id, &pack[..pack.len() - 100]).unwrap();
    assert!(error.unpack.is_err(), "{error:?}");
    for cut in [100, pack.len() - 100] {
        let mut connection = app.connect(Service::ReceivePack, Version::V0).unwrap();
        let line = format!("{} {id} refs/heads/main\0report-status object-format=sha1", "0".repeat(40));
        let mut request = connection.request().unwrap();
        request.write_all(format!("{:04x}{line}0000", line.len() + 4).as_bytes()).unwrap();
        request.write_all(&pack[..cut]).unwrap();
        drop(request);
    }
    assert!(refs_of(&target).is_empty());
}

#[test]
fn compressed_questions_and_answers() {
    let place = Place::new();
    let repo = place.repository("app");
    for n in 0..200 {
        repo.git(&["branch", &format!("branch-{n}"), "main"]);
        repo.commit(&format!("branch-{n}"), "file", &format!("{n}\n"));
    }
    let server = place.serve(open());
    let app = place.app(&server.lines(""));
    assert_fetches(&place, &app, &repo);
    let seen = server.seen();
    assert!(seen.iter().all(|it| it.header("accept-encoding") == Some("gzip")));
    let gzip: Vec<_> = seen.iter().map(|it| it.header("content-encoding")).collect();
    assert_eq!(gzip, [None, None, Some("gzip")]);
    let uris: Vec<_> = seen.iter().map(|it| it.uri.as_str()).collect();
    assert_eq!(uris, ["/app/info/refs?service=git-upload-pack", "/app/git-upload-pack", "/app/git-upload-pack"]);
}

#[test]
fn redirects_are_followed_once_and_take_no_credentials_elsewhere() {
    let place = Place::new();
    let repo = place.repository("app");
    std::fs::write(place.path("token"), "secret").unwrap();
    let auth = "auth = { kind = \"bearer\", token_file = \"token\" }";
    let target = place.serve(open());
    let elsewhere = |address: std::net::SocketAddr| {
        place.serve(Arc::new(move |request| {
            let to = format!("http://{address}{}", request.uri());
            Some((StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)], "").into_response())
        }))
    };
    let first = elsewhere(target.address);
    let app = place.app(&first.lines(auth));
    assert_fetches(&place, &app, &repo);
    // The first host is asked once a conversation, all other requests go straight on, without the token.
    assert_eq!(first.seen().len(), 1);
    let seen = target.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|it| it.header("authorization").is_none()));
    // Where it wants to be told, the reason is said.
    let closed = place.serve(only("Bearer secret"));
    let error = listed(&place.app(&elsewhere(closed.address).lines(auth))).unwrap_err().to_string();
    assert!(error.contains("redirect") && error.contains("another host"), "{error}");
    // On the same host the token goes along.
    let within = place.serve(Arc::new(|request| {
        if request.headers().get(header::AUTHORIZATION).is_none() {
            return Some(unauthorized("?"));
        }
        let old = request.uri().to_string();
        let to = old.strip_prefix("/old")?.to_owned();
        Some((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)], "").into_response())
    }));
    let old = place.remote(&format!("url = \"http://{}/old/{{name}}\"\n{auth}", within.address));
    assert_fetches(&place, &old.repository("app").unwrap(), &repo);
    // In circles, to other questions, and for a request that is no longer the first.
    let circle = place.serve(Arc::new(|request| {
        Some((StatusCode::FOUND, [(header::LOCATION, request.uri().to_string())], "").into_response())
    }));
    let error = listed(&place.app(&circle.lines(""))).unwrap_err().to_string();
    assert!(error.contains("more than 20 redirects"), "{error}");
    let login =
        place.serve(Arc::new(|_| Some((StatusCode::FOUND, [(header::LOCATION, "/login")], "").into_response())));
    let error = listed(&place.app(&login.lines(""))).unwrap_err().to_string();
    assert!(error.contains("does not lead to"), "{error}");
    let late = place.serve(Arc::new(|request| {
        let to = request.uri().to_string();
        (request.method() == "POST")
            .then(|| (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)], "").into_response())
    }));
    let error = listed(&place.app(&late.lines(""))).unwrap_err();
    assert!(matches!(error, ClientError::Status { status: 307, .. }), "{error}");
}

#[test]
fn what_is_not_there() {
    let place = Place::new();
    place.repository("app");
    let server = place.serve(open());
    let other = place.remote(&server.lines("")).repository("other").unwrap();
    let error = listed(&other).unwrap_err();
    assert!(matches!(error, ClientError::NotFound { .. }) && error.kind() == Kind::NotFound, "{error}");
    for name in ["../app", "a//b", "", "x.git"] {
        assert_eq!(other.remote().repository(name).unwrap_err().kind(), Kind::Usage);
    }
}

/// Lists, fetches and pushes over TLS with these protocols to choose from. The requests as they came.
fn over_tls(protocols: &[&str]) -> Vec<Seen> {
    let place = Place::new();
    let repo = place.repository("app");
    let server = place.serve_tls(open(), protocols);
    let url = format!("url = \"https://{}/{{name}}\"\n", server.address);
    let trusting = place.app(&format!("{url}ca = \"cert.pem\""));
    assert_eq!(listed(&trusting).unwrap(), refs_of(&repo));
    assert_fetches(&place, &trusting, &repo);
    let target = place.empty("large");
    let large = bulky(place.path("bulk"), LARGE);
    let there = trusting.remote().repository("large").unwrap();
    assert!(push_main(&there, &large).unwrap().is_ok());
    assert_eq!(refs_of(&target), refs_of(&large));
    assert_fetches(&place, &there, &target);
    let seen = server.seen();
    let error = listed(&place.app(&url)).unwrap_err();
    assert!(matches!(error, ClientError::Untrusted { .. }) && error.kind() == Kind::Refused, "{error:?}");
    assert!(server.seen().is_empty());
    for service in ["info/refs?service=git-upload-pack", "git-upload-pack", "git-receive-pack"] {
        assert!(seen.iter().any(|it| it.uri.ends_with(service)), "{service}: {seen:?}");
    }
    seen
}

/// Requests whose length was not told.
fn streamed(seen: &[Seen]) -> impl Iterator<Item = &Seen> {
    seen.iter().filter(|it| it.method == "POST" && it.header("content-length").is_none())
}

#[test]
fn http_2_where_the_server_offers_it() {
    let seen = over_tls(&["h2", "http/1.1"]);
    assert!(seen.iter().all(|it| it.version == HttpVersion::HTTP_2), "{seen:?}");
    // A probe, and the push.
    assert_eq!(streamed(&seen).filter(|it| it.header("transfer-encoding").is_none()).count(), 2, "{seen:?}");
}

#[test]
fn http_1_1_where_the_server_offers_no_more() {
    for protocols in [&["http/1.1"][..], &[]] {
        let seen = over_tls(protocols);
        assert!(seen.iter().all(|it| it.version == HttpVersion::HTTP_11), "{seen:?}");
        assert_eq!(streamed(&seen).filter(|it| it.header("transfer-encoding") == Some("chunked")).count(), 2);
    }
}
